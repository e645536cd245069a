// A message whose answer was lost may be stored: nothing that comes later makes it "refused".

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasMessage;
using ::testing::HasSubstr;
using testing::ReceiptOf;
using testing::Refuse;
using ::testing::SizeIs;

class LostAnswerTest : public testing::ClientFixture {
protected:
    LostAnswerTest() : client(MakeClient()), producer(MakeProducer(client)) {}

    /// Sends these in one batch, whose answer is lost with the connection.
    std::vector<SendFuture> SendAndLose(const std::vector<std::string>& ids, milliseconds timeout) {
        broker().SetHoldSends(true);
        std::vector<SendFuture> futures;
        for (const std::string& id : ids) {
            futures.push_back(producer.Send(Message("s").SetId(id), timeout));
        }
        Settle();
        EXPECT_EQ(broker().frame_sizes().back(), 1U);
        EXPECT_EQ(broker().held_frame_count(), 1U);
        broker().SetHoldSends(false);
        broker().Cut();
        return futures;
    }
    SendFuture SendAndLose(milliseconds timeout = seconds(30)) {
        return SendAndLose({"lost"}, timeout).front();
    }

    Client client;
    Producer producer;
};

TEST_F(LostAnswerTest, ARefusalForGoodThatFollowsIsUnknown) {
    for (const Status& why : {Status::PermissionDenied("not yours"),
                              Status::InvalidArgument("not such a message"),
                              Status::FailedPrecondition("not here"),
                              Status::Unimplemented("not at all")}) {
        SCOPED_TRACE(why.ToString());
        broker().SetSendHook([why](const SendBatch&) { return Refuse(why); });
        const SendFuture future = SendAndLose();
        Advance(seconds(10));
        const SendReceipt receipt = ReceiptOf(future);
        EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
        EXPECT_EQ(receipt.status.code(), StatusCode::kUnavailable);
        EXPECT_THAT(std::string(receipt.status.message()), HasSubstr(std::string(why.message())));
        EXPECT_EQ(receipt.attempts, 2U);
    }
}

TEST_F(LostAnswerTest, ABrokerThatIsBusyFromThenOnMakesItUnknownAtTheDeadline) {
    broker().SetSendHook(
        [](const SendBatch&) { return Refuse(Status::ResourceExhausted("disk full")); });
    const SendFuture future = SendAndLose(seconds(5));
    Advance(seconds(5));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(receipt.status.message()), HasSubstr("disk full"));
    EXPECT_GT(receipt.attempts, 3U);
}

TEST_F(LostAnswerTest, ABrokerThatStaysAwayMakesItUnknownAtTheDeadline) {
    const SendFuture future = SendAndLose(seconds(5));
    broker().SetConnectError(Status::Unavailable("connection refused"));
    Advance(seconds(5));
    const SendReceipt receipt = ReceiptOf(future);
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_EQ(receipt.attempts, 1U);
}

TEST_F(LostAnswerTest, OfABatchThatIsThenSplitTheRefusedPartIsUnknown) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "bad") ? std::optional(Refuse(Status::InvalidArgument("too old")))
                                        : std::nullopt;
    });
    const std::vector<SendFuture> futures = SendAndLose({"0", "1", "bad", "3", "4"}, seconds(30));
    Advance(seconds(10));
    for (std::size_t i = 0; i < futures.size(); ++i) {
        const SendReceipt receipt = ReceiptOf(futures[i]);
        EXPECT_EQ(receipt.outcome, i == 2 ? SendOutcome::kUnknown : SendOutcome::kPersisted)
            << receipt;
        EXPECT_EQ(receipt.attempts, 3U) << "twice with the others, and alone";
    }
    EXPECT_EQ(ReceiptOf(futures[2]).status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(ReceiptOf(futures[2]).status.message()), HasSubstr("too old"));
    EXPECT_THAT(broker().stored(), SizeIs(4));
}

TEST_F(LostAnswerTest, AShutdownThatFollowsLeavesItUnknown) {
    const SendFuture future = SendAndLose();
    broker().SetConnectError(Status::Unavailable("connection refused"));
    Advance(seconds(1));
    EXPECT_FALSE(future.ready());
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ReceiptOf(future).outcome, SendOutcome::kUnknown);
    EXPECT_EQ(report.sends_unknown, 1U);
    EXPECT_EQ(report.sends_refused, 0U);
}

}  // namespace
}  // namespace qmq
