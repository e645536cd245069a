#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::ElementsAre;

class ShardLogTest : public testing::Test {
protected:
    std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    TestStore test_{*files_};
};

TEST_F(ShardLogTest, WhatWasAppendedIsReadBackInOrder) {
    ASSERT_TRUE(test_.Open().ok());
    const auto first = test_.Append("orders", {"a", "b"});
    const auto second = test_.Append("orders", {"c"});
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(first.value().first_sequence, 0U);
    EXPECT_EQ(second.value().first_sequence, 2U);
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("a", "b", "c")) << "before it is written";
    ASSERT_TRUE(test_.store->Write().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("a", "b", "c"));
}

TEST_F(ShardLogTest, WhatWasWrittenSurvivesTheProcess) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a", "b"}).ok());
    ASSERT_TRUE(test_.Act("acked 0").ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("a", "b"));
    EXPECT_THAT(test_.listener->events, ElementsAre("messages orders 0+2", "action acked 0"));
    EXPECT_EQ(test_.store->recovery().incarnation, 2U);
    EXPECT_EQ(test_.store->recovery().torn_tail_bytes, 0U);
    EXPECT_TRUE(test_.store->recovery().corruptions.empty());
}

TEST_F(ShardLogTest, ManySegmentsAreReadBackBeforeAndAfterARestart) {
    ASSERT_TRUE(test_.Open().ok());
    std::vector<std::string> all;
    for (int i = 0; i < 400; ++i) {
        all.push_back(std::to_string(i) + std::string(900, 'x'));
        ASSERT_TRUE(test_.Put(i % 2 == 0 ? "even" : "odd", {all.back()}).ok());
        if (i % 10 == 0) {
            test_.SyncAll();
        }
    }
    test_.SyncAll();
    const auto check = [&] {
        const auto even = test_.ReadAll("even");
        ASSERT_EQ(even.size(), 200U);
        for (const auto& [sequence, body] : even) {
            EXPECT_EQ(body, all[sequence * 2]);
        }
        EXPECT_EQ(test_.ReadAll("odd").size(), 200U);
    };
    check();
    ASSERT_TRUE(test_.Reopen().ok());
    check();
    EXPECT_LT(test_.store->recovery().replayed_record_count, 100U) << "a snapshot was used";
    EXPECT_TRUE(test_.store->recovery().corruptions.empty());
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    check();
    EXPECT_EQ(test_.store->recovery().replayed_record_count, 0U);
}

TEST_F(ShardLogTest, OnSyncedSaysHowFar) {
    ASSERT_TRUE(test_.Open().ok());
    const auto appended = test_.Append("orders", {"a"});
    ASSERT_TRUE(test_.store->Write().ok());
    EXPECT_LT(test_.store->synced(), appended.value().end);
    test_.SyncAll();
    EXPECT_THAT(test_.listener->syncs, ElementsAre(appended.value().end));
    EXPECT_EQ(test_.store->synced(), appended.value().end);
}

}  // namespace
}  // namespace qmq::store
