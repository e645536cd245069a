#include "server/env/simulated_file_system.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::Each;
using testing::IsEmpty;

class RetentionTest : public testing::Test {
protected:
    /// Some segments' worth of messages, ten seconds apart.
    void Fill(const std::string& subject, int count = 300) {
        for (int i = 0; i < count; ++i) {
            ASSERT_TRUE(test_.Put(subject, {std::string(900, 'x')}).ok());
            test_.clock.elapsed += std::chrono::seconds(10);
            test_.SyncAll();
        }
    }
    /// Retains until nothing more goes; each time one snapshot more may be made.
    void Retain() {
        for (int i = 0; i < 4; ++i) {
            ASSERT_TRUE(test_.store->Retain().ok());
            test_.SyncAll();
        }
    }
    SubjectLog& Log(const std::string& subject) {
        return *test_.store->FindSubject(subject, false);
    }
    std::size_t LogFiles() {
        std::size_t count = 0;
        const std::vector<std::string> names = disk_.List("/data").value();
        for (const std::string& name : names) {
            count += name.ends_with(".log") ? 1U : 0U;
        }
        return count;
    }

    env::SimulatedFileSystem disk_{3};
    TestStore test_{disk_};
};

TEST_F(RetentionTest, SegmentsOlderThanTheRetentionGo) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), 100U);
    EXPECT_LT(Log("orders").first_sequence(), 200U) << "what is younger stays";
    EXPECT_THAT(test_.listener->dropped, Contains("orders"));
    EXPECT_LT(LogFiles(), 4U);
    const auto left = test_.ReadAll("orders");
    EXPECT_EQ(left.begin()->first, Log("orders").first_sequence());
    EXPECT_EQ(left.size() + test_.expired_count, 300U);
    EXPECT_EQ(test_.corrupt_count, 0U);
}

TEST_F(RetentionTest, WhatWasDroppedStaysDroppedAfterARestartAndAPowerCut) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    const std::uint64_t first = Log("orders").first_sequence();
    const auto left = test_.ReadAll("orders");
    test_.Kill();
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_EQ(Log("orders").first_sequence(), first);
    EXPECT_EQ(test_.ReadAll("orders"), left);
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
}

TEST_F(RetentionTest, TheOldestSegmentsGoWhileTheShardTakesTooMuch) {
    test_.options.retention_bytes = 3 * (64U << 10);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    EXPECT_LE(test_.store->stored_bytes(), test_.options.retention_bytes);
    EXPECT_EQ(test_.ReadAll("orders").rbegin()->first, 299U);
}

TEST_F(RetentionTest, ConsumedSegmentsGoWhenAskedFor) {
    test_.options.drop_consumed = true;
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.listener->consumed["orders"] = 100;
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), 50U);
    EXPECT_LE(Log("orders").first_sequence(), 100U);
}

TEST_F(RetentionTest, NothingConsumedGoesUnlessAskedFor) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.listener->consumed["orders"] = 300;
    Retain();
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
}

TEST_F(RetentionTest, MessagesOfAnIdleShardGoToo) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"old"}).ok());
    test_.SyncAll();
    test_.clock.elapsed += std::chrono::seconds(1'001);
    for (int i = 0; i < 3; ++i) {
        Retain();
        test_.clock.elapsed += std::chrono::seconds(1'001);
    }
    EXPECT_EQ(Log("orders").first_sequence(), 1U);
    EXPECT_EQ(Log("orders").next_sequence(), 1U);
    EXPECT_EQ(LogFiles(), 1U);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(Log("orders").next_sequence(), 1U) << "known from the snapshot";
    EXPECT_EQ(test_.Append("orders", {"new"}).value().first_sequence, 1U);
}

TEST_F(RetentionTest, SegmentsThatAStartStillNeedsStay) {
    test_.options.retention = std::chrono::seconds(1);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    test_.clock.elapsed += std::chrono::seconds(100);
    ASSERT_TRUE(test_.store->Retain().ok());  // Nothing is synced, so there is no snapshot yet.
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.ReadAll("orders").size(), 100U);
}

TEST_F(RetentionTest, StoredBytesOfASubjectFollowItsSegments) {
    test_.options.retention_bytes = 2 * (64U << 10);
    ASSERT_TRUE(test_.Open().ok());
    Fill("a", 10);
    EXPECT_GT(test_.store->stored_bytes(Log("a")), 9'000U);
    Fill("b");
    Retain();
    EXPECT_EQ(test_.store->stored_bytes(Log("a")), 0U);
    EXPECT_LE(test_.store->stored_bytes(Log("b")), test_.store->stored_bytes());
}

}  // namespace
}  // namespace qmq::store
