// What a producer counts of its batches and their attempts.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ReceiptOf;
using testing::Refuse;

class SendStatsTest : public testing::ClientFixture {
protected:
    SendStatsTest() : client(MakeClient()), producer(MakeProducer(client)) {}

    /// Before the route is known, so in one batch.
    std::vector<SendFuture> SendBatchOf(int count) {
        std::vector<SendFuture> futures;
        for (int i = 0; i < count; ++i) {
            futures.push_back(producer.Send(Message("s")));
        }
        Settle();
        return futures;
    }

    Client client;
    Producer producer;
};

TEST_F(SendStatsTest, RetriedBatchesAreAttemptsNotMessages) {
    int refusals = 3;
    broker().SetSendHook([&refusals](const SendBatch&) {
        return refusals-- > 0 ? std::optional(Refuse(Status::ResourceExhausted("busy")))
                              : std::nullopt;
    });
    const std::vector<SendFuture> futures = SendBatchOf(10);
    Advance(seconds(5));
    EXPECT_EQ(ReceiptOf(futures.back()).attempts, 4U);
    EXPECT_EQ(producer.stats().retried_batches, 3U);
    EXPECT_EQ(producer.stats().persisted_count, 10U);
}

TEST_F(SendStatsTest, AnAttemptWhoseAnswerIsLostIsRetriedAsWell) {
    broker().SetHoldSends(true);
    const std::vector<SendFuture> futures = SendBatchOf(1);
    broker().Cut();
    broker().SetHoldSends(false);
    Advance(seconds(5));
    EXPECT_TRUE(ReceiptOf(futures[0]).ok());
    EXPECT_EQ(producer.stats().retried_batches, 1U);
}

TEST_F(SendStatsTest, AnAttemptThatIsTheLastIsNotARetriedOne) {
    broker().SetSendHook(
        [](const SendBatch&) { return Refuse(Status::ResourceExhausted("busy")); });
    const SendFuture busy = producer.Send(Message("s"), seconds(2));
    Advance(seconds(2));
    const std::uint64_t attempts = ReceiptOf(busy).attempts;
    EXPECT_GT(attempts, 2U);
    EXPECT_EQ(producer.stats().retried_batches, attempts - 1);
    broker().SetSendHook([](const SendBatch&) { return Refuse(Status::PermissionDenied("no")); });
    const SendFuture refused = producer.Send(Message("s"));
    Settle();
    EXPECT_EQ(ReceiptOf(refused).outcome, SendOutcome::kRefused);
    EXPECT_EQ(producer.stats().retried_batches, attempts - 1);
}

TEST_F(SendStatsTest, BatchesAreInFlightUntilTheBrokerHasAnswered) {
    broker().SetHoldSends(true);
    const std::vector<SendFuture> futures = SendBatchOf(10);
    EXPECT_EQ(producer.stats().in_flight_batches, 1U);
    EXPECT_EQ(producer.stats().persisted_count, 0U);
    EXPECT_TRUE(broker().AnswerHeld());
    Settle();
    EXPECT_TRUE(ReceiptOf(futures.back()).ok());
    EXPECT_EQ(producer.stats().in_flight_batches, 0U);
}

TEST_F(SendStatsTest, TheyAreToldInOneLine) {
    (void)SendBatchOf(10);
    std::ostringstream text;
    text << producer.stats();
    EXPECT_THAT(text.str(), ::testing::HasSubstr("persisted 10"));
    EXPECT_THAT(text.str(), ::testing::Not(::testing::HasSubstr("\n")));
}

TEST_F(SendStatsTest, AnAttemptAfterWhichTheMessagesGoAloneIsARetriedOne) {
    broker().SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
        return testing::IdsOf(batch).size() > 1
                   ? std::optional(Refuse(Status::InvalidArgument("one of them is bad")))
                   : std::nullopt;
    });
    const std::vector<SendFuture> futures = SendBatchOf(3);
    Advance(seconds(1));
    EXPECT_EQ(ReceiptOf(futures[0]).attempts, 2U);
    EXPECT_EQ(producer.stats().retried_batches, 1U);
}

}  // namespace
}  // namespace qmq
