// The end of clients and producers whose handles go, without a call of Shutdown.

#include <gmock/gmock.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_answers.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using ::testing::Each;
using testing::ReceiptOf;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class DroppedClientTest : public testing::ClientFixture {
protected:
    DroppedClientTest() : client(MakeClient()) {
        // From here on a message waits for its answer only.
        Producer first = MakeProducer(*client);
        first.Send(Message("s")).Detach();
        Settle();
        broker().SetHoldSends(true);
    }

    void Send(Producer& producer) {
        const Status taken = producer.Send(
            Message("s"), [this](const SendReceipt& receipt) { told.push_back(receipt.outcome); });
        EXPECT_TRUE(taken.ok()) << taken;
    }

    std::optional<Client> client;
    std::vector<SendOutcome> told;
};

TEST_F(DroppedClientTest, ItsSendsAreAnsweredAndCalledBack) {
    ProducerOptions options;
    options.max_in_flight_frames = 1;
    Producer producer = MakeProducer(*client, options);
    Send(producer);
    Settle();
    Send(producer);
    const SendFuture future = producer.Send(Message("s"));
    Settle();
    ASSERT_EQ(broker().held_frame_count(), 1U);
    client.reset();
    EXPECT_THAT(told, UnorderedElementsAre(SendOutcome::kUnknown, SendOutcome::kRefused));
    EXPECT_EQ(ReceiptOf(future).outcome, SendOutcome::kRefused);
    EXPECT_EQ(ReceiptOf(future).status.code(), StatusCode::kCancelled);
    Settle();
    EXPECT_THAT(told, SizeIs(2));
}

TEST_F(DroppedClientTest, WhatItsHandlersHaveNotBegunOthersHaveAtOnce) {
    broker().SetHoldSends(false);
    testing::ManualExecutor late(time.clock);
    SubscriptionOptions options = Consumer("t");
    options.executor = &late;
    options.parallelism = 1;
    options.prefetch_count = 3;  // And no more: what goes back does not come here again.
    Append(3, "t");
    const Subscription mine = MakeSubscription(*client, options, [](const Message&) {});
    std::vector<std::string> came;
    Client other = MakeClient(Options("client-2"));
    const Subscription others =
        MakeSubscription(other, Consumer("t"), [&came](const Message& message) {
            came.push_back(Body(message) + ", attempt " + std::to_string(message.attempt()));
        });
    ASSERT_THAT(came, SizeIs(0));
    client.reset();
    Settle();  // No time passes.
    EXPECT_THAT(came, UnorderedElementsAre("0, attempt 1", "1, attempt 1", "2, attempt 1"));
}

TEST_F(DroppedClientTest, WhereAnotherIsAssignedItEndsInTheSameWay) {
    Producer producer = MakeProducer(*client);
    Send(producer);
    Settle();
    *client = MakeClient(Options("client-2"));
    EXPECT_THAT(told, UnorderedElementsAre(SendOutcome::kUnknown));
    EXPECT_EQ(ReceiptOf(producer.Send(Message("s"))).status.code(), StatusCode::kCancelled);
    EXPECT_EQ(client->client_id(), "client-2");
    EXPECT_TRUE(client->MakeProducer().ok());
}

TEST_F(DroppedClientTest, AProducerThatWasDroppedEndsWithItsClient) {
    {
        Producer producer = MakeProducer(*client);
        Send(producer);
    }
    Settle();
    EXPECT_THAT(told, SizeIs(0));
    EXPECT_EQ(client->Shutdown(milliseconds(0)).sends_unknown, 1U);
    EXPECT_THAT(told, UnorderedElementsAre(SendOutcome::kUnknown));
}

TEST_F(DroppedClientTest, CopiesOfAProducerAreOneProducer) {
    ProducerOptions options;
    options.max_pending_count = 2;
    std::optional<Producer> producer = MakeProducer(*client, options);
    Producer copy = *producer;
    Send(*producer);
    Send(copy);
    EXPECT_EQ(producer->stats().pending_count, 2U);
    EXPECT_EQ(copy.stats().pending_count, 2U);
    EXPECT_EQ(copy.Send(Message("s"), SendCallback()).code(), StatusCode::kResourceExhausted);
    producer.reset();
    broker().SetHoldSends(false);
    while (broker().AnswerHeld()) {
        Settle();
    }
    Settle();
    Send(copy);
    Settle();
    EXPECT_THAT(told,
                ::testing::ElementsAre(
                    SendOutcome::kPersisted, SendOutcome::kPersisted, SendOutcome::kPersisted));
    EXPECT_EQ(copy.stats().persisted_count, 3U);
}

// A link that came up had given its connection to a lane of it again, which kept it for ever.
TEST_F(DroppedClientTest, AProducerThatHasEndedKeepsNoConnection) {
    Producer producer = MakeProducer(*client);
    Send(producer);
    Settle();
    // What holds it, and not what ends it when the last handle goes.
    const auto core = ProducerAccess::Core(producer)->shared_from_this();
    (void)core->Abandon();
    producer = {};  // The client ends without it.
    Settle();
    broker().Cut();
    Advance(std::chrono::seconds(10));
    EXPECT_EQ(broker().connection_count(), 1U);
    client.reset();
    EXPECT_EQ(broker().connection_count(), 0U);
}

}  // namespace
}  // namespace qmq
