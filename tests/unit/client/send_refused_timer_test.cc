#include <gtest/gtest.h>

#include <optional>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/refusing_executor.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// What lanes were due for was forgotten with the timer that was refused: the batch lay there until
// its deadline.
class RefusedTimerTest : public testing::ClientFixture {
protected:
    RefusedTimerTest() {
        ClientOptions options = Options();
        options.runtime.executor = &executor;
        client.emplace(MakeClient(std::move(options)));
    }
    testing::RefusingExecutor executor{time.executor};
    std::optional<Client> client;
};

TEST_F(RefusedTimerTest, WhatLingersIsSentAlthoughATimerWasRefusedOnce) {
    ProducerOptions options;
    options.linger = milliseconds(5);
    Producer producer = MakeProducer(*client, options);
    producer.Send(Message("s")).Detach();
    Settle();
    broker().SetHoldSends(true);
    producer.Send(Message("s")).Detach();
    producer.Send(Message("s")).Detach();
    ASSERT_EQ(broker().held_frame_count(), 2U);
    executor.refuses_timers = true;
    const SendFuture third = producer.Send(Message("s"));  // Lingers: two frames are on their way.
    executor.refuses_timers = false;
    (void)producer.stats();  // The next entry.
    Advance(milliseconds(20));
    EXPECT_EQ(broker().held_frame_count(), 3U) << "it lies in its lane until its deadline";
    Advance(seconds(60));
    broker().SetHoldSends(false);
    while (broker().AnswerHeld()) {
        Settle();
    }
    ASSERT_TRUE(third.ready());
    EXPECT_NE(third.Get().outcome, SendOutcome::kRefused) << third.Get();
}

// Nobody ever connected again.
TEST_F(RefusedTimerTest, ALostConnectionIsMadeAgainAlthoughATimerWasRefusedOnce) {
    Producer producer = MakeProducer(*client);
    producer.Send(Message("s")).Detach();
    Settle();
    executor.refuses_timers = true;
    broker().Cut();
    Settle();
    executor.refuses_timers = false;
    ASSERT_EQ(broker().connection_count(), 0U);
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(20));
    EXPECT_TRUE(future.ready());
    EXPECT_EQ(broker().connection_count(), 1U);
}

TEST_F(RefusedTimerTest, AConsumerIsConnectedAgainWhenSomebodyLooksAtIt) {
    const Subscription subscription = MakeSubscription(*client, Consumer(), [](const Message&) {});
    executor.refuses_timers = true;
    broker().Cut();
    Settle();
    executor.refuses_timers = false;
    (void)subscription.stats();
    Advance(seconds(20));
    EXPECT_EQ(broker().connection_count(), 1U);
}

// Nobody ever asked again.
TEST_F(RefusedTimerTest, ARouteThatFailedIsAskedForAgainAlthoughATimerWasRefusedOnce) {
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Producer producer = MakeProducer(*client);
    const SendFuture future = producer.Send(Message("s"), std::chrono::minutes(30));
    executor.refuses_timers = true;
    Settle();
    executor.refuses_timers = false;
    cluster.SetDiscoverError(Status::Ok());
    producer.Send(Message("s"), seconds(1)).Detach();  // In vain: at its deadline it asks why.
    Advance(seconds(20));
    EXPECT_TRUE(future.ready());
}

class CallbackRefusedTest : public testing::ClientFixture {};

// The callback is owed, and the producer full because of it: so nothing came that asked again.
TEST_F(CallbackRefusedTest, ACallbackComesAlthoughItsExecutorAndATimerRefusedOnce) {
    testing::RefusingExecutor callbacks(time.executor);
    testing::RefusingExecutor work(time.executor);
    ClientOptions options = Options();
    options.runtime.executor = &work;
    options.runtime.callbacks = &callbacks;
    Client client = MakeClient(std::move(options));
    ProducerOptions small;
    small.max_pending_count = 1;
    Producer producer = MakeProducer(client, small);
    producer.Send(Message("s")).Detach();
    Settle();
    int told = 0;
    callbacks.refuses_tasks = work.refuses_timers = true;
    ASSERT_TRUE(producer.Send(Message("s"), [&](const SendReceipt&) { ++told; }).ok());
    Settle();
    callbacks.refuses_tasks = work.refuses_timers = false;
    for (int i = 0; i < 10; ++i) {
        Advance(minutes(1));
        (void)producer.stats();
        producer.Send(Message("s")).Detach();  // "the producer is full: 1 messages …"
    }
    EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace qmq
