#include "tests/unit/broker/broker_fixture.h"
#include "tests/unit/broker/faulty_files.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using SendTest = BrokerTest;

std::vector<SendBatch> Frame(SendBatch one) {
    std::vector<SendBatch> frame;
    frame.push_back(std::move(one));
    return frame;
}

TEST_F(SendTest, SequencesOfASubjectAreDenseOverBatchesAndRestarts) {
    Open();
    EXPECT_EQ(Send("orders", {"a", "b"}).first_sequence, 0U);
    EXPECT_EQ(Send("other", {"x"}).first_sequence, 0U);
    EXPECT_EQ(Send("orders", {"c"}).first_sequence, 2U);
    CrashAndOpen();
    EXPECT_EQ(Send("orders", {"d"}).first_sequence, 3U);
}

TEST_F(SendTest, AFrameOverManyShardsIsAnsweredOnceWithReceiptsInItsOrder) {
    options_.shards = 4;
    Open();
    std::vector<SendBatch> frame;
    for (int i = 0; i < 20; ++i) {
        frame.push_back(Batch("subject-" + std::to_string(i % 10), {"m"}));
    }
    auto receipts = Post(std::move(frame));
    time_.Settle();
    ASSERT_TRUE(*receipts);
    ASSERT_THAT(**receipts, SizeIs(20));
    for (std::size_t i = 0; i < 20; ++i) {
        EXPECT_TRUE((**receipts)[i].status.ok()) << (**receipts)[i].status;
        EXPECT_EQ((**receipts)[i].first_sequence, i / 10);
    }
}

TEST_F(SendTest, AnEmptyFrameIsAnswered) {
    Open();
    auto receipts = Post({});
    ASSERT_TRUE(*receipts);
    EXPECT_THAT(**receipts, IsEmpty());
}

TEST_F(SendTest, FsyncIsAnsweredOnlyOnceTheSyncHasReturned) {
    Open();
    auto receipts = Post(Frame(Batch("orders", {"a"})));
    time_.SettleWithoutIo();
    EXPECT_FALSE(*receipts);
    time_.Settle();
    ASSERT_TRUE(*receipts);
    EXPECT_EQ((**receipts)[0].durability, Durability::kFsync);
}

TEST_F(SendTest, PageCacheIsAnsweredWithoutASync) {
    options_.subject_durability = {{"metrics.*", Durability::kPageCache}};
    Open();
    auto receipts = Post(Frame(Batch("metrics.cpu", {"a"})));
    time_.SettleWithoutIo();
    ASSERT_TRUE(*receipts);
    EXPECT_EQ((**receipts)[0].durability, Durability::kPageCache);
    EXPECT_TRUE((**receipts)[0].status.ok());
}

TEST_F(SendTest, ASendMayAskForMoreThanItsSubjectPromises) {
    options_.default_durability = Durability::kMemory;
    Open();
    SendBatch batch = Batch("orders", {"a"});
    batch.durability = Durability::kFsync;
    auto receipts = Post(Frame(std::move(batch)));
    time_.SettleWithoutIo();
    EXPECT_FALSE(*receipts);
    time_.Settle();
    ASSERT_TRUE(*receipts);
    EXPECT_EQ((**receipts)[0].durability, Durability::kFsync);
}

TEST_F(SendTest, TheLongestPatternDecidesWhatASubjectPromises) {
    options_.subject_durability = {{"a*", Durability::kMemory},
                                   {"a.b*", Durability::kPageCache},
                                   {"a.b.c", Durability::kFsync}};
    Open();
    EXPECT_EQ(Send("a.x", {"m"}).durability, Durability::kMemory);
    EXPECT_EQ(Send("a.b.d", {"m"}).durability, Durability::kPageCache);
    EXPECT_EQ(Send("a.b.c", {"m"}).durability, Durability::kFsync);
    EXPECT_EQ(Send("b", {"m"}).durability, Durability::kFsync);
    EXPECT_EQ(Send(RetrySubject("a.x", "g"), {"m"}).durability, Durability::kMemory);
}

TEST_F(SendTest, DurabilityBeyondWhatTheBrokerHasIsUnimplemented) {
    options_.best_durability = Durability::kMemory;
    Open();
    SendBatch batch = Batch("orders", {"a"});
    batch.durability = Durability::kFsync;
    const BatchReceipt refused = Send(std::move(batch));
    EXPECT_EQ(refused.outcome, SendOutcome::kRefused);
    EXPECT_EQ(refused.status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(refused.status.message()), HasSubstr("memory"));
    // What it promises by default is what it has.
    EXPECT_EQ(Send("orders", {"a"}).durability, Durability::kMemory);
}

TEST_F(SendTest, ADelayedMessageIsRefusedWithTheReason) {
    Open();
    Message message("orders");
    message.SetDeliverAt(time_.clock.WallNow() + 1s);
    BatchBuilder builder;
    builder.Add(message, "later", time_.clock.WallNow());
    const BatchReceipt receipt =
        Send(SendBatch{"orders", Slice::Own(builder.Finish()), Durability::kDefault});
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("later"));
}

TEST_F(SendTest, OneBadBatchDoesNotHurtItsNeighbours) {
    Open();
    std::vector<SendBatch> frame;
    frame.push_back(Batch("orders", {"a"}));
    frame.push_back(SendBatch{"orders", Slice::Borrow("no batch"), Durability::kDefault});
    frame.push_back(Batch("or/ders", {"a"}));
    SendBatch broken = Batch("orders", {"flipped"});
    std::string bytes(broken.batch.bytes());
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    frame.push_back(SendBatch{"orders", Slice::Own(bytes), Durability::kDefault});
    frame.push_back(Batch("orders", {"b"}));
    auto receipts = Post(std::move(frame));
    time_.Settle();
    ASSERT_TRUE(*receipts);
    std::vector<StatusCode> codes;
    for (const BatchReceipt& receipt : **receipts) {
        codes.push_back(receipt.status.code());
        EXPECT_EQ(receipt.status.ok(), receipt.outcome == SendOutcome::kPersisted);
    }
    EXPECT_THAT(codes,
                ElementsAre(StatusCode::kOk,
                            StatusCode::kInvalidArgument,
                            StatusCode::kInvalidArgument,
                            StatusCode::kDataLoss,
                            StatusCode::kOk));
    EXPECT_EQ((**receipts)[4].first_sequence, 1U);
}

TEST_F(SendTest, BeyondTheRequestBoundTheAnswerIsBusyAtOnce) {
    options_.max_queued_requests = 2;
    Open();
    auto first = Post(Frame(Batch("orders", {"a"})));
    auto second = Post(Frame(Batch("orders", {"b"})));
    auto third = Post(Frame(Batch("orders", {"c"})));
    ASSERT_TRUE(*third) << "busy is answered without waiting";
    EXPECT_EQ((**third)[0].status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ((**third)[0].outcome, SendOutcome::kRefused);
    EXPECT_THAT(std::string((**third)[0].status.message()), HasSubstr("busy"));
    // What waits for its sync still counts.
    time_.SettleWithoutIo();
    EXPECT_TRUE(*Post(Frame(Batch("orders", {"d"}))));
    time_.Settle();
    EXPECT_TRUE(*first && *second);
    EXPECT_TRUE(Send("orders", {"e"}).status.ok());
}

TEST_F(SendTest, BeyondTheByteBoundTheAnswerIsBusyAtOnce) {
    options_.max_queued_bytes = 1U << 20U;
    Open();
    const std::string large(700'000, 'x');
    auto first = Post(Frame(Batch("orders", {large})));
    auto second = Post(Frame(Batch("orders", {large})));
    ASSERT_TRUE(*second);
    EXPECT_EQ((**second)[0].status.code(), StatusCode::kResourceExhausted);
    time_.Settle();
    EXPECT_TRUE((**first)[0].status.ok());
}

TEST_F(SendTest, ManySendsOfARoundShareOneWriteAndOneSync) {
    FaultyFiles files(*memory_);
    files_ = &files;
    Open();
    Send("orders", {"warm"});
    const std::size_t writes = files.write_count;
    const std::size_t syncs = files.sync_count;
    std::vector<std::shared_ptr<std::optional<std::vector<BatchReceipt>>>> all;
    for (int i = 0; i < 100; ++i) {
        all.push_back(Post(Frame(Batch("orders", {"m"}))));
    }
    time_.Settle();
    for (const auto& receipts : all) {
        ASSERT_TRUE(*receipts);
        EXPECT_TRUE((**receipts)[0].status.ok());
    }
    // The second is the store's mark that the log is synced.
    EXPECT_EQ(files.write_count - writes, 2U);
    EXPECT_EQ(files.sync_count - syncs, 1U);
    Crash();
    files_ = memory_.get();
}

TEST_F(SendTest, WhatNobodyWaitsForIsSyncedAfterTheFlushInterval) {
    options_.default_durability = Durability::kPageCache;
    FaultyFiles files(*memory_);
    files_ = &files;
    Open();
    Send("orders", {"a"});
    const std::size_t syncs = files.sync_count;
    time_.Advance(499ms);
    EXPECT_EQ(files.sync_count, syncs);
    time_.Advance(1ms);
    EXPECT_EQ(files.sync_count, syncs + 1);
    time_.Advance(5s);
    EXPECT_EQ(files.sync_count, syncs + 1) << "nothing new, nothing to sync";
    Crash();
    files_ = memory_.get();
}

}  // namespace
}  // namespace qmq::broker::testing
