// "A message that fails does not hold up those behind it", with an ordering key and without one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using testing::HasMessage;
using testing::ReceiptOf;
using testing::Refuse;

class SendFailureTest : public testing::ClientFixture, public ::testing::WithParamInterface<bool> {
protected:
    SendFailureTest() : client(MakeClient()) {
        ProducerOptions options;
        options.max_batch_count = 1;  // None shares the fate of another.
        producer = MakeProducer(client, options);
        SendOne("first", seconds(30)).Detach();
        Settle();
    }

    static bool with_key() { return GetParam(); }
    SendFuture SendOne(const std::string& id, milliseconds timeout) {
        Message message("s");
        message.SetId(id);
        if (with_key()) {
            message.SetOrderingKey("k");
        }
        return producer.Send(std::move(message), timeout);
    }
    void SendBehind() {
        for (const char* id : {"1", "2", "3", "4"}) {
            behind.push_back(SendOne(id, seconds(30)));
        }
        Settle();
    }
    void ExpectStoredBehind() {
        std::vector<std::string> ids;
        for (const SendFuture& future : behind) {
            EXPECT_TRUE(ReceiptOf(future).ok()) << ReceiptOf(future);
        }
        for (const auto& message : broker().stored()) {
            if (message.id != "bad") {
                ids.push_back(message.id);
            }
        }
        EXPECT_THAT(ids, ElementsAre("first", "1", "2", "3", "4"));
    }
    /// Those of a key wait for their turn until the message before has failed; all others do not.
    void ExpectHeldUpOnlyByTheirKey() {
        if (!with_key()) {
            ExpectStoredBehind();
        }
        for (const SendFuture& future : behind) {
            EXPECT_EQ(future.ready(), !with_key());
        }
    }

    Client client;
    Producer producer;
    std::vector<SendFuture> behind;
};

INSTANTIATE_TEST_SUITE_P(OrderingKey, SendFailureTest, ::testing::Bool(), [](const auto& param) {
    return std::string(param.param ? "WithAKey" : "WithoutAKey");
});

TEST_P(SendFailureTest, AMessageThatIsRefusedForGoodHoldsUpNobody) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "bad") ? std::optional(Refuse(Status::PermissionDenied("no")))
                                        : std::nullopt;
    });
    const SendFuture bad = SendOne("bad", seconds(30));
    SendBehind();
    EXPECT_EQ(ReceiptOf(bad).outcome, SendOutcome::kRefused);
    ExpectStoredBehind();
}

TEST_P(SendFailureTest, AMessageForWhichTheBrokerStaysBusyHoldsUpNobody) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "bad") ? std::optional(Refuse(Status::ResourceExhausted("busy")))
                                        : std::nullopt;
    });
    const SendFuture bad = SendOne("bad", seconds(2));
    SendBehind();
    EXPECT_FALSE(bad.ready());
    ExpectHeldUpOnlyByTheirKey();
    Advance(seconds(2));
    EXPECT_EQ(ReceiptOf(bad).outcome, SendOutcome::kRefused);
    ExpectStoredBehind();
}

TEST_P(SendFailureTest, AMessageThatIsNotAnsweredByItsDeadlineHoldsUpNobody) {
    broker().SetHoldSends(true);
    const SendFuture bad = SendOne("bad", seconds(2));
    Settle();
    ASSERT_EQ(broker().held_frame_count(), 1U);
    broker().SetHoldSends(false);
    SendBehind();
    EXPECT_FALSE(bad.ready());
    ExpectHeldUpOnlyByTheirKey();
    Advance(seconds(2));
    EXPECT_EQ(ReceiptOf(bad).outcome, SendOutcome::kUnknown);
    EXPECT_EQ(broker().held_frame_count(), 1U) << "still not answered";
    ExpectStoredBehind();
}

TEST_P(SendFailureTest, AMessageWhoseAnswerIsLostUntilItsDeadlineHoldsUpNobody) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "bad") ? std::optional(BatchReceipt{Status::Unavailable("lost"),
                                                                     SendOutcome::kUnknown,
                                                                     Durability::kDefault,
                                                                     0})
                                        : std::nullopt;
    });
    const SendFuture bad = SendOne("bad", milliseconds(100));
    SendBehind();
    ExpectHeldUpOnlyByTheirKey();
    Advance(milliseconds(100));
    EXPECT_EQ(ReceiptOf(bad).outcome, SendOutcome::kUnknown);
    ExpectStoredBehind();
}

class SendFailureInABatchTest : public testing::ClientFixture {};

TEST_F(SendFailureInABatchTest, ItsNeighboursAreStoredAndToldOfWithTheLastOfThem) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    broker().SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
        if (testing::IdsOf(batch).size() > 1) {
            return Refuse(Status::InvalidArgument("one of them is bad"));
        }
        return HasMessage(batch, "bad") ? std::optional(Refuse(Status::ResourceExhausted("busy")))
                                        : std::nullopt;
    });
    // Before the route is known, so in one batch.
    const SendFuture before = producer.Send(Message("s").SetId("before"));
    const SendFuture bad = producer.Send(Message("s").SetId("bad"));
    int told = 0;
    Message behind("s");
    behind.SetId("behind");
    EXPECT_TRUE(producer.Send(std::move(behind), [&](const SendReceipt&) { ++told; }).ok());
    Advance(seconds(1));
    EXPECT_EQ(broker().stored().size(), 2U);
    EXPECT_FALSE(before.ready());
    Advance(seconds(30));
    ASSERT_TRUE(before.ready() && bad.ready());
    EXPECT_TRUE(before.Get().ok()) << before.Get();
    EXPECT_EQ(bad.Get().status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace qmq
