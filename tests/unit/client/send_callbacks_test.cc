// The callback of a message that was taken comes exactly once, whatever becomes of the answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::Each;
using testing::HasMessage;
using testing::Refuse;
using ::testing::SizeIs;

class SendCallbacksTest : public testing::ClientFixture {
protected:
    static constexpr int kCount = 10;

    SendCallbacksTest() : client(MakeClient()), producer(MakeProducer(client)) {}

    /// In one batch, since nobody knows the route.
    void SendAll(milliseconds timeout = seconds(30)) {
        for (int i = 0; i < kCount; ++i) {
            const std::string id = std::to_string(i);
            Message message("s");
            message.SetId(id);
            const Status taken =
                producer.Send(std::move(message), timeout, [this, id](const SendReceipt& receipt) {
                    EXPECT_EQ(receipt.message_id, id);
                    receipts[id].push_back(receipt);
                });
            EXPECT_TRUE(taken.ok()) << taken;
        }
        Settle();
        EXPECT_THAT(broker().frame_sizes(), Each(1U));
    }
    /// Nothing more comes, however long one waits and whatever the broker still answers.
    void ExpectOneEach(const std::string& but_for = "") {
        broker().SetHoldSends(false);
        while (broker().AnswerHeld()) {
            Settle();
        }
        Advance(minutes(2));
        EXPECT_THAT(receipts, SizeIs(kCount));
        for (const auto& [id, told] : receipts) {
            EXPECT_THAT(told, SizeIs(1)) << id;
            EXPECT_EQ(told.front().outcome, id == but_for ? other_outcome : outcome)
                << told.front();
        }
        EXPECT_EQ(producer.stats().callbacks_owed, 0U);
        EXPECT_EQ(producer.stats().pending_count, 0U);
    }

    std::map<std::string, std::vector<SendReceipt>> receipts;
    Client client;
    Producer producer;
    SendOutcome outcome = SendOutcome::kPersisted;
    SendOutcome other_outcome = SendOutcome::kRefused;
};

TEST_F(SendCallbacksTest, ACallbackComesOnceWhenTheAnswerComesAfterTheDeadline) {
    broker().SetHoldSends(true);
    SendAll(seconds(1));
    Advance(seconds(1));
    EXPECT_THAT(receipts, SizeIs(kCount));
    outcome = SendOutcome::kUnknown;
    ASSERT_EQ(broker().held_frame_count(), 1U);
    ExpectOneEach();
    EXPECT_THAT(broker().stored(), SizeIs(kCount)) << "the late answer said that they are stored";
}

TEST_F(SendCallbacksTest, ACallbackComesOnceWhenTheConnectionIsCutAndTheMessageSentAgain) {
    broker().SetHoldSends(true);
    SendAll();
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(broker().held_frame_count(), 1U);
        broker().Cut();
        Advance(seconds(2));
    }
    EXPECT_THAT(receipts, SizeIs(0));
    ExpectOneEach();
    EXPECT_EQ(receipts["0"].front().attempts, 4U);
}

TEST_F(SendCallbacksTest, ACallbackComesOnceWhenTheSecondAttemptIsAnsweredAfterTheDeadline) {
    broker().SetHoldSends(true);
    SendAll(seconds(5));
    broker().Cut();
    Advance(seconds(5));
    outcome = SendOutcome::kUnknown;
    ASSERT_EQ(broker().held_frame_count(), 1U);
    ExpectOneEach();
}

TEST_F(SendCallbacksTest, EachCallbackOfABatchThatIsSplitComesOnce) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "7") ? std::optional(Refuse(Status::InvalidArgument("bad")))
                                      : std::nullopt;
    });
    broker().SetHoldSends(true);
    SendAll();
    ExpectOneEach("7");
}

TEST_F(SendCallbacksTest, EachCallbackOfABatchThatIsSplitComesOnceAlsoAfterACut) {
    broker().SetSendHook([](const SendBatch& batch) {
        return HasMessage(batch, "7") ? std::optional(Refuse(Status::InvalidArgument("bad")))
                                      : std::nullopt;
    });
    broker().SetHoldSends(true);
    SendAll();
    broker().Cut();
    Advance(seconds(2));
    other_outcome = SendOutcome::kUnknown;
    ExpectOneEach("7");
}

}  // namespace
}  // namespace qmq
