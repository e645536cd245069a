#include <algorithm>
#include <string>
#include <vector>

#include "tests/integration/grpc/grpc_fixture.h"

// Frames are made with a look at what the other side takes: in bytes, and in items.

namespace qmq {
namespace {

using testing::IsEmpty;

class FrameLimitsTest : public GrpcTest {
protected:
    void StartServerOf(std::size_t max_message_bytes) {
        rpc::GrpcServerOptions options;
        options.max_message_bytes = max_message_bytes;
        StartServer(options);
    }
    std::future<Result<AckReply>> Ack(DeliveryStream& stream, std::vector<AckItem> items) {
        auto reply = std::make_shared<std::promise<Result<AckReply>>>();
        stream.Ack(std::move(items),
                   [reply](Result<AckReply> answer) { reply->set_value(std::move(answer)); });
        return reply->get_future();
    }
    void ExpectAcked(std::size_t count, std::size_t error_bytes) {
        Connect();
        auto stream =
            connection_->Subscribe(Consumer("s", "g"), std::make_shared<RecordingDelivery>());
        std::vector<AckItem> items(count);
        for (std::size_t i = 0; i < count; ++i) {
            items[i] = {AckVerdict::kRetry, i, i, {}, std::string(error_bytes, 'e')};
        }
        const Result<AckReply> reply = Await(Ack(*stream, items));
        EXPECT_TRUE(reply.ok()) << reply.status();
        EXPECT_TRUE(broker_.WaitFor([&] { return Same(broker_.acks_locked(), items); }));
        ExpectConnected();
    }
    static bool Same(const std::vector<AckItem>& some, const std::vector<AckItem>& others) {
        return std::equal(some.begin(),
                          some.end(),
                          others.begin(),
                          others.end(),
                          [](const AckItem& a, const AckItem& b) {
                              return a.verdict == b.verdict && a.first == b.first &&
                                     a.last == b.last && a.error == b.error;
                          });
    }
    void ExpectConnected() { EXPECT_THAT(listener_->closed.values(), IsEmpty()); }
};

// A frame had up to 1,024 items, whatever their size.
TEST_F(FrameLimitsTest, AcksFitIntoTheSmallestFrameThatAServerMayTake) {
    StartServerOf(64U << 10);
    ExpectAcked(32, 4'000);
}

TEST_F(FrameLimitsTest, AThousandFailuresWithLongReasonsAreAcked) {
    StartServerOf(4U << 20);
    ExpectAcked(1'024, 4'096);
}

TEST_F(FrameLimitsTest, MoreAcksThanAFrameHasItemsAreAcked) {
    StartServer();
    ExpectAcked(100'000, 0);
}

// They came in frames of 1 MiB.
TEST_F(FrameLimitsTest, DeliveriesFitIntoTheSmallestFrameThatAClientMayTake) {
    StartServer();
    GrpcClientOptions options;
    options.max_message_bytes = 64U << 10;
    Connect(options);
    constexpr std::size_t kBatches = 200;
    std::vector<SendBatch> batches(kBatches, SendBatch{"s", MakeBatch(1, 60'000)});
    for (const BatchReceipt& receipt : Await(Send(batches))) {
        EXPECT_EQ(receipt.outcome, SendOutcome::kPersisted) << receipt.status;
    }
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    stream->Grant({kBatches, 100U << 20});
    EXPECT_TRUE(consumer->delivered.WaitFor(kBatches));
    ExpectConnected();
}

// What had gathered was written in one frame, whose last piece could make it twice as large.
TEST_F(FrameLimitsTest, ALargeBatchGetsAFrameOfItsOwn) {
    StartServer();
    GrpcClientOptions options;
    options.max_message_bytes = 2U << 20;
    Connect(options);
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    const std::size_t most = (2U << 20) - 1'024;
    std::vector<SendBatch> batches;
    for (int i = 0; i < 10; ++i) {
        batches.push_back({"s", MakeBatch(1, 1'000'000)});
        batches.push_back({"s", MakeBatch(1, most - MakeBatch(1, 0).size())});
    }
    Await(Send(batches));
    stream->Grant({20, 100U << 20});
    EXPECT_TRUE(consumer->delivered.WaitFor(20));
    ExpectConnected();
}

// The server ends a stream for more items than it takes in a frame.
TEST_F(FrameLimitsTest, ASendOfMoreBatchesThanAFrameHasItemsIsAnswered) {
    StartServer();
    Connect();
    std::vector<SendBatch> batches(70'000, SendBatch{"s", MakeBatch(1, 1)});
    const Receipts receipts = Await(Send(std::move(batches)));
    ASSERT_EQ(receipts.size(), 70'000U);
    for (const BatchReceipt& receipt : receipts) {
        ASSERT_EQ(receipt.outcome, SendOutcome::kPersisted) << receipt.status;
    }
    ExpectConnected();
}

// So does a client for the answers, of which a frame had as many as fitted into its bytes.
TEST_F(FrameLimitsTest, AnswersThatGatherComeInFramesThatAClientTakes) {
    StartServer();
    Connect();
    broker_.HoldSends();
    constexpr std::size_t kSends = 1'000;
    std::vector<std::future<Receipts>> sends;
    for (std::size_t i = 0; i < kSends; ++i) {
        sends.push_back(Send(std::vector<SendBatch>(100, SendBatch{"s", Slice()})));
    }
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.held_locked() == kSends; }));
    broker_.Release();
    for (std::future<Receipts>& send : sends) {
        EXPECT_EQ(Await(std::move(send)).size(), 100U);
    }
    ExpectConnected();
}

}  // namespace
}  // namespace qmq
