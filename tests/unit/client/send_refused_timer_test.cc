#include <gtest/gtest.h>

#include <optional>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Refusing final : public Executor {
public:
    explicit Refusing(Executor& inner) : inner_(inner) {}
    bool Post(Task task) override { return inner_.Post(std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        return refuses ? 0 : inner_.PostAt(when, std::move(task));
    }
    bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }
    bool refuses = false;

private:
    Executor& inner_;
};

// What lanes were due for was forgotten with the timer that was refused: the batch lay there until
// its deadline.
class RefusedTimerTest : public testing::ClientFixture {
protected:
    RefusedTimerTest() {
        ClientOptions options = Options();
        options.runtime.executor = &executor;
        client.emplace(MakeClient(std::move(options)));
    }
    Refusing executor{time.executor};
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
    executor.refuses = true;
    const SendFuture third = producer.Send(Message("s"));  // Lingers: two frames are on their way.
    executor.refuses = false;
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
    executor.refuses = true;
    broker().Cut();
    Settle();
    executor.refuses = false;
    ASSERT_EQ(broker().connection_count(), 0U);
    const SendFuture future = producer.Send(Message("s"));
    Advance(seconds(20));
    EXPECT_TRUE(future.ready());
    EXPECT_EQ(broker().connection_count(), 1U);
}

TEST_F(RefusedTimerTest, AConsumerIsConnectedAgainWhenSomebodyLooksAtIt) {
    const Subscription subscription = MakeSubscription(*client, Consumer(), [](const Message&) {});
    executor.refuses = true;
    broker().Cut();
    Settle();
    executor.refuses = false;
    (void)subscription.stats();
    Advance(seconds(20));
    EXPECT_EQ(broker().connection_count(), 1U);
}

// Nobody ever asked again.
TEST_F(RefusedTimerTest, ARouteThatFailedIsAskedForAgainAlthoughATimerWasRefusedOnce) {
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Producer producer = MakeProducer(*client);
    const SendFuture future = producer.Send(Message("s"), std::chrono::minutes(30));
    executor.refuses = true;
    Settle();
    executor.refuses = false;
    cluster.SetDiscoverError(Status::Ok());
    producer.Send(Message("s"), seconds(1)).Detach();  // In vain: at its deadline it asks why.
    Advance(seconds(20));
    EXPECT_TRUE(future.ready());
}

}  // namespace
}  // namespace qmq
