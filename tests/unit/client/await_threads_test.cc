// What goes on on the callback thread of a client with threads of its own: coroutines that wait for
// it, whom these hold up, and what is told at the end.

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/signal.h"
#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::Counter;
using testing::kLong;
using testing::Owned;
using testing::Signal;
using Batch = Result<std::vector<Delivery>>;

class AwaitThreadsTest : public testing::ThreadsFixture {
protected:
    static PullConsumer MakePuller(Client& client) {
        PullConsumerOptions options;
        options.subject = "s";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return client.MakePullConsumer(options).value();
    }
    /// The thread on which a pull is answered, once `end` was called.
    template <typename End>
    static std::thread::id AnsweredOn(PullConsumer consumer, milliseconds max_wait, End end) {
        std::promise<std::thread::id> answered;
        const Status begun = consumer.PullAsync({1, max_wait}, [&answered](const Batch&) {
            answered.set_value(std::this_thread::get_id());
        });
        EXPECT_TRUE(begun.ok()) << begun;
        end();
        return answered.get_future().get();
    }
    static std::thread::id CallbackThread(const PullConsumer& consumer) {
        return AnsweredOn(consumer, milliseconds(0), [] {});
    }
};

TEST_F(AwaitThreadsTest, AfterADecisionItGoesOnOnTheCallbackThread) {
    Client client = MakeClient();
    PullConsumer consumer = MakePuller(client);
    broker().Append(Message("s"));
    Batch batch = consumer.Pull({1, kLong});
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ(batch->size(), 1U);
    broker().SetHoldAcks(true);  // So that the answer is not there before it waits.
    std::promise<std::thread::id> resumed;
    const auto ack = [](Delivery& one, std::promise<std::thread::id>* on) -> Owned {
        (void)co_await one.AckAsync();
        on->set_value(std::this_thread::get_id());
    };
    const Owned waits = ack(batch->front(), &resumed);
    EXPECT_FALSE(waits.done());
    broker().SetHoldAcks(false);
    broker().Cut();
    EXPECT_EQ(resumed.get_future().get(), CallbackThread(consumer));
    waits.AwaitEnd();
    EXPECT_TRUE(client.Shutdown(kLong).drained);
}

TEST_F(AwaitThreadsTest, WhatItDoesThereHoldsUpCallbacks) {
    Signal resumed;
    Signal go;
    Counter calls;
    Client client = MakeClient();
    PullConsumer consumer = MakePuller(client);
    const auto pull = [](PullConsumer from, Signal* on, Signal* until) -> Owned {
        (void)co_await from.PullAsync({1, kLong});
        on->Set();
        (void)until->Wait(kLong);
    };
    const Owned waits = pull(consumer, &resumed, &go);
    broker().Append(Message("s"));
    ASSERT_TRUE(resumed.Wait());
    const Status begun = consumer.PullAsync({1, kLong}, [&calls](const Batch&) { calls.Add(); });
    ASSERT_TRUE(begun.ok()) << begun;
    EXPECT_EQ(client.Shutdown(milliseconds(0)).callbacks_dropped, 1U);
    EXPECT_EQ(calls.count(), 0);
    go.Set();
    waits.AwaitEnd();
}

TEST_F(AwaitThreadsTest, WhoEndsAPullDoesNotCallItBackItself) {
    for (const bool by_shutdown : {false, true}) {
        Client client = MakeClient();
        PullConsumer consumer = MakePuller(client);
        const std::thread::id callbacks = CallbackThread(consumer);
        EXPECT_NE(callbacks, std::this_thread::get_id());
        EXPECT_EQ(AnsweredOn(consumer,
                             kLong,
                             [&] {
                                 if (by_shutdown) {
                                     (void)client.Shutdown(kLong);
                                 } else {
                                     EXPECT_TRUE(consumer.Close(kLong).ok());
                                 }
                             }),
                  callbacks);
    }
}

}  // namespace
}  // namespace qmq
