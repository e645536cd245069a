#include "tests/unit/store/hooked_files.h"
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

// It was tried again with each sync.
TEST(IndexRestTest, ADiskWithoutRoomForAnIndexFileIsAskedOnceASecond) {
    const auto memory = env::MakeMemoryFileSystem();
    HookedFiles files(*memory);
    TestStore test(files);
    int attempts = 0;
    Status room = Status::ResourceExhausted("no space left on device");
    files.before_rename = [&](const std::string& to) {
        if (!to.ends_with(".index")) {
            return Status::Ok();
        }
        ++attempts;
        return room;
    };
    ASSERT_TRUE(test.Open().ok());
    const auto put = [&](int count) {
        for (int i = 0; i < count; ++i) {
            ASSERT_TRUE(test.Put("orders", {std::string(15'000, 'x')}).ok());
            test.SyncAll();
        }
    };
    put(8);  // Four to a segment.
    EXPECT_EQ(attempts, 1);
    test.clock.elapsed += std::chrono::seconds(1);
    room = Status::Ok();
    put(1);
    EXPECT_EQ(attempts, 3) << "of both segments";
    EXPECT_EQ(test.BodiesIn("orders").size(), 9U);
}

// A segment that was written and never read stayed open for as long as it existed.
TEST(OpenFilesTest, SegmentsThatWereWrittenDoNotStayOpen) {
    constexpr int kMostOpen = 24 + 4;  // 24 segments, and the few that are written or made ahead.
    const auto memory = env::MakeMemoryFileSystem();
    HookedFiles files(*memory);
    TestStore test(files);
    ASSERT_TRUE(test.Open().ok());
    for (int i = 0; i < 200; ++i) {  // Four to a segment.
        ASSERT_TRUE(test.Put("orders", {std::string(15'000, 'x')}).ok());
        test.SyncAll();
    }
    ASSERT_GT(test.store->stored_bytes() / test.options.segment_bytes, 40U);
    EXPECT_LE(files.open_count, kMostOpen);
    EXPECT_EQ(test.BodiesIn("orders").size(), 200U);
    EXPECT_LE(files.open_count, kMostOpen);
}

}  // namespace
}  // namespace qmq::store
