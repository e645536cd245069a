// Several calls of Shutdown at once, each with a deadline of its own.

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/signal.h"
#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::kLong;
using testing::kSoon;

std::vector<std::uint64_t> NumbersOf(const ShutdownReport& report) {
    return {report.drained ? 1U : 0U,
            report.sends_unknown,
            report.sends_refused,
            report.deliveries_handed_back,
            report.deliveries_dropped,
            report.handlers_running,
            report.acks_unconfirmed,
            report.deliveries_undecided,
            report.callbacks_dropped,
            report.status.ok() ? 1U : 0U};
}

class ShutdownTogetherTest : public testing::ThreadsFixture {
protected:
    ShutdownTogetherTest() : client(MakeClient()), producer(*client.MakeProducer()) {}
    ~ShutdownTogetherTest() override { LetGo(); }

    /// What the test holds up goes on.
    void LetGo() {
        if (!std::exchange(let_go_, true)) {
            go_.set_value();
        }
    }
    /// A handler does not return, three messages wait behind it, and a send is not answered.
    void HoldUpAHandler() {
        SubscriptionOptions options = Consumer();
        options.parallelism = 1;
        options.prefetch_count = 4;
        subscription = *client.Subscribe(
            options, [asked = asked, went = went](const Message&, DeliveryContext& context) {
                const std::stop_callback on_stop(context.stop_token(),
                                                 [&asked] { asked->set_value(); });
                went.wait();
            });
        for (int i = 0; i < 4; ++i) {
            broker().Append(Message("s"));
        }
        while (subscription.stats().waiting_count != 3 || subscription.stats().running_count != 1) {
            std::this_thread::yield();  // They are on their way on other threads.
        }
        broker().SetHoldSends(true);
        producer.Send(Message("t")).Detach();
        while (broker().held_frame_count() == 0) {
            std::this_thread::yield();
        }
    }
    /// A callback does not return, and nine are due behind it.
    void HoldUpACallback() {
        const auto began = std::make_shared<std::promise<void>>();
        (void)producer.Send(Message("t"), [began, went = went](const SendReceipt&) {
            began->set_value();
            went.wait();
        });
        began->get_future().wait();
        for (int i = 0; i < 9; ++i) {
            (void)producer.Send(Message("t"), [count = called](const SendReceipt&) { ++*count; });
        }
        ASSERT_TRUE(producer.Flush(kLong).ok());
    }
    std::future<ShutdownReport> ShutDownBeside(milliseconds timeout) {
        return std::async(std::launch::async, [this, timeout] { return client.Shutdown(timeout); });
    }
    /// A shutdown that has come so far has only callbacks and threads to wait for.
    void AwaitTheEndOfAllConnections() {
        while (broker().connection_count() > 0) {
            std::this_thread::yield();
        }
    }
    static void ExpectWhatTheHandlerLeft(const ShutdownReport& report) {
        EXPECT_EQ(report.handlers_running, 1U);
        EXPECT_EQ(report.deliveries_handed_back, 3U);
        EXPECT_EQ(report.sends_unknown, 1U);
        EXPECT_FALSE(report.drained);
    }

private:
    std::promise<void> go_;
    bool let_go_ = false;

protected:
    const std::shared_future<void> went = go_.get_future().share();
    const std::shared_ptr<std::promise<void>> asked = std::make_shared<std::promise<void>>();
    const std::shared_ptr<std::atomic<int>> called = std::make_shared<std::atomic<int>>(0);
    Client client;
    Producer producer;
    Subscription subscription;
};

TEST_F(ShutdownTogetherTest, AShorterOneEndsALongerOneAndTheirReportsAgree) {
    HoldUpAHandler();
    std::future<ShutdownReport> longer = ShutDownBeside(kLong);
    asked->get_future().wait();
    const auto start = steady_clock::now();
    const ShutdownReport shorter = client.Shutdown(milliseconds(50));
    const ShutdownReport other = longer.get();
    EXPECT_LT(steady_clock::now() - start, kSoon);
    ExpectWhatTheHandlerLeft(shorter);
    EXPECT_EQ(NumbersOf(shorter), NumbersOf(other));
}

TEST_F(ShutdownTogetherTest, ALongerOneThatComesLaterEndsWithTheShorterOne) {
    HoldUpAHandler();
    const auto start = steady_clock::now();
    std::future<ShutdownReport> shorter = ShutDownBeside(milliseconds(200));
    asked->get_future().wait();
    const ShutdownReport longer = client.Shutdown(kLong);
    const ShutdownReport other = shorter.get();
    EXPECT_LT(steady_clock::now() - start, kSoon);
    ExpectWhatTheHandlerLeft(longer);
    EXPECT_EQ(NumbersOf(longer), NumbersOf(other));
}

TEST_F(ShutdownTogetherTest, OnceOneHasReturnedNothingIsCalledForALongerOne) {
    HoldUpACallback();
    std::future<ShutdownReport> longer = ShutDownBeside(kLong);
    AwaitTheEndOfAllConnections();
    const auto start = steady_clock::now();
    const ShutdownReport shorter = client.Shutdown(milliseconds(10));
    EXPECT_LT(steady_clock::now() - start, kSoon);
    const int called_before = *called;
    LetGo();
    const ShutdownReport other = longer.get();
    EXPECT_EQ(*called, called_before);
    EXPECT_FALSE(shorter.drained);
    EXPECT_EQ(NumbersOf(shorter), NumbersOf(other));
}

TEST_F(ShutdownTogetherTest, AnAsynchronousOneIsAnsweredByItsDeadlineBesideALongerOne) {
    HoldUpACallback();
    std::future<ShutdownReport> longer = ShutDownBeside(kLong);
    AwaitTheEndOfAllConnections();
    const auto told = std::make_shared<std::promise<ShutdownReport>>();
    client.ShutdownAsync(milliseconds(10),
                         [told](const ShutdownReport& report) { told->set_value(report); });
    std::future<ShutdownReport> shorter = told->get_future();
    EXPECT_EQ(shorter.wait_for(kSoon), std::future_status::ready);
    LetGo();
    EXPECT_EQ(NumbersOf(shorter.get()), NumbersOf(longer.get()));
}

// The time of the first one was that of its transport's threads, too.
TEST_F(ShutdownTogetherTest, AShorterOneWaitsForNoTransportThatTheLongerOneWouldWaitFor) {
    const auto ending = std::make_shared<std::promise<void>>();
    ClientOptions options = Options();
    options.transports = {testing::MakeHookedFactory(cluster.factory(), [ending, went = went] {
        ending->set_value();
        went.wait();
    })};
    Client other = MakeClient(options);
    std::future<ShutdownReport> longer =
        std::async(std::launch::async, [&other] { return other.Shutdown(kLong); });
    ending->get_future().wait();
    (void)other.Shutdown(milliseconds(0));
    EXPECT_EQ(longer.wait_for(kSoon), std::future_status::ready);
    LetGo();
}

// They had what was left of 200 ms from the deadline.
TEST_F(ShutdownTogetherTest, CallbacksHaveTheirTimeHoweverLongTheConnectionsTakeToEnd) {
    // Longer than callbacks that are owed get.
    broker().SetCloseHook([] { std::this_thread::sleep_for(milliseconds(300)); });
    const auto began = std::make_shared<std::promise<void>>();
    SubscriptionOptions one = Consumer();
    one.parallelism = 1;
    subscription = *client.Subscribe(one, [began, went = went](const Message&) {
        began->set_value();
        went.wait();  // So that the end closes its stream, and not the handler.
    });
    broker().Append(Message("s"));
    began->get_future().wait();
    broker().SetHoldSends(true);
    for (int i = 0; i < 20; ++i) {
        (void)producer.Send(Message("t"), [count = called](const SendReceipt&) { ++*count; });
    }
    while (broker().held_frame_count() == 0) {
        std::this_thread::yield();
    }
    EXPECT_EQ(client.Shutdown(milliseconds(0)).callbacks_dropped, 0U);
    EXPECT_EQ(*called, 20);
    LetGo();
}

// It said drained while nine were owed, of which none was called.
TEST_F(ShutdownTogetherTest, WhatACallbackIsToldDoesNotSayDrainedWhileCallbacksAreOwed) {
    const auto began = std::make_shared<std::promise<void>>();
    const auto told = std::make_shared<std::promise<ShutdownReport>>();
    const auto ending = std::make_shared<std::promise<void>>();
    (void)producer.Send(
        Message("t"),
        [this, began, told, ended = ending->get_future().share(), went = went](const SendReceipt&) {
            began->set_value();
            ended.wait();
            told->set_value(client.Shutdown(milliseconds(0)));
            went.wait();
        });
    began->get_future().wait();
    for (int i = 0; i < 9; ++i) {
        (void)producer.Send(Message("t"), [count = called](const SendReceipt&) { ++*count; });
    }
    ASSERT_TRUE(producer.Flush(kLong).ok());
    std::future<ShutdownReport> beside = ShutDownBeside(milliseconds(0));
    AwaitTheEndOfAllConnections();
    ending->set_value();
    const ShutdownReport inside = told->get_future().get();
    const ShutdownReport outside = beside.get();
    ASSERT_EQ(outside.callbacks_dropped, 9U);
    EXPECT_EQ(*called, 0);
    EXPECT_FALSE(inside.drained);
    LetGo();
}

// They counted as two consumers: the other subscription's handler, which ran, was not waited for,
// and what it sent was refused.
TEST_F(ShutdownTogetherTest, TwoHandlersOfOneSubscriptionWaitForTheHandlerOfAnother) {
    std::atomic<int> inside{0};
    testing::Signal began;
    testing::Signal returned;
    testing::Counter ended;
    SubscriptionOptions two = Consumer();
    two.parallelism = 2;
    subscription = *client.Subscribe(two, [&](const Message&) {
        ++inside;
        while (inside < 2) {
            std::this_thread::yield();
        }
        (void)began.Wait();
        (void)client.Shutdown(kLong);
        returned.Set();
        ended.Add();
    });
    SubscriptionOptions one = Consumer("other");
    one.subject = "other";
    bool early = true;
    Status sent = Status::Internal("not reached");
    const Subscription other = *client.Subscribe(one, [&](const Message&) {
        began.Set();
        early = returned.Wait(milliseconds(200));
        sent = producer.Send(Message("t"), [](const SendReceipt&) {});
        ended.Add();
    });
    for (const char* subject : {"s", "s", "other"}) {
        broker().Append(Message(subject));
    }
    ASSERT_TRUE(ended.WaitFor(3));
    EXPECT_FALSE(early) << "it returned while a handler ran";
    EXPECT_TRUE(sent.ok()) << sent;
}

}  // namespace
}  // namespace qmq
