#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sdk/client/src/receive/credit_window.h"
#include "tests/unit/client/client_fixture.h"

// How many messages a subscription holds whose `prefetch_count` is left to it.

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::SizeIs;

class PrefetchTest : public testing::ClientFixture {
protected:
    PrefetchTest() : first(MakeClient()), second(MakeClient(Options("client-2"))) {}

    Client first;
    Client second;
};

// One of two workers took all of 60 jobs of 50 ms at once, and the other had nothing for 3 s.
TEST_F(PrefetchTest, TwoWorkersShareABacklogOfSlowJobs) {
    Append(60);
    testing::ManualExecutor a(time.clock);
    testing::ManualExecutor b(time.clock);
    std::vector<int> done(2);
    const auto subscribe = [&](Client& client, testing::ManualExecutor& executor, int& count) {
        SubscriptionOptions options = Consumer();
        options.parallelism = 1;
        options.executor = &executor;
        auto made = client.Subscribe(options, [this, &count](const Message&) {
            ++count;
            time.clock.Advance(milliseconds(25));
        });
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
    };
    subscribe(first, a, done[0]);
    subscribe(second, b, done[1]);
    // By turns one message each: after it a runner's time is up.
    for (int i = 0; i < 100; ++i) {
        for (testing::ManualExecutor* executor : {&a, &b}) {
            executor->RunOne();
            Advance(milliseconds(1));
        }
    }
    EXPECT_EQ(done[0] + done[1], 60);
    EXPECT_GE(done[0], 20);
    EXPECT_GE(done[1], 20);
    first.Shutdown(milliseconds(0));
    second.Shutdown(milliseconds(0));
}

TEST_F(PrefetchTest, QuickHandlersSoonHaveAThousandAtHand) {
    Append(5'000);
    int handled = 0;
    auto made = first.Subscribe(Consumer(), [&](const Message&) { ++handled; });
    Settle();
    EXPECT_EQ(handled, 5'000);
    // 8, 16, 32, … 1,000: the acks are as few as the windows.
    EXPECT_LE(broker().acks().size(), 40U);
    EXPECT_LE(broker().granted_messages(), 6'000U);
}

TEST_F(PrefetchTest, ItBeginsWithTwoForEachHandler) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 3;
    auto made = first.Subscribe(options, [](const Message&) {});
    Settle();
    EXPECT_EQ(broker().granted_messages(), 6U);
}

TEST_F(PrefetchTest, ManyHandlersHaveTwoEachAlsoBeyondAThousand) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 600;
    auto made = first.Subscribe(options, [](const Message&) {});
    Settle();
    EXPECT_EQ(broker().granted_messages(), 1'200U);
}

TEST_F(PrefetchTest, EachBrokerGroupMaySendOneAtLeast) {
    cluster.AddBroker("b");
    SubscriptionOptions options = Consumer();
    options.parallelism = 1;
    options.prefetch_count = 1;
    auto made = first.Subscribe(options, [](const Message&) {});
    Settle();
    EXPECT_EQ(broker("a").granted_messages(), 1U);
    EXPECT_EQ(broker("b").granted_messages(), 1U);
}

TEST_F(PrefetchTest, SingleMessagesNowAndThenDoNotWidenIt) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 3;
    auto made = first.Subscribe(options, [](const Message&) {});
    for (int i = 0; i < 200; ++i) {
        Append(1);
        Advance(milliseconds(10));
    }
    EXPECT_LE(broker().granted_messages(), 200U + 6U);
}

TEST_F(PrefetchTest, AManualHandlerMayKeepAThousand) {
    std::vector<Delivery> kept;
    auto made = first.Subscribe(Consumer(),
                                [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(3'000);
    Advance(seconds(1));
    EXPECT_GE(kept.size(), 990U);
    EXPECT_LE(kept.size(), 1'000U);
    first.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(PrefetchTest, WhatWaitsTooLongBehindHandlersThatGotSlowGoesToOthers) {
    testing::ManualExecutor slow(time.clock);
    SubscriptionOptions options = Consumer();
    options.parallelism = 1;
    options.executor = &slow;
    int handled = 0;
    bool quick = true;
    auto made = first.Subscribe(options, [&](const Message&) {
        ++handled;
        time.clock.Advance(quick ? milliseconds(0) : milliseconds(3));
    });
    Settle();
    for (int i = 0; i < 12; ++i) {  // The window grows to a thousand.
        Append(1'000);
        Settle();
        for (int j = 0; j < 50; ++j) {
            slow.RunAll();
            Settle();
        }
    }
    EXPECT_EQ(handled, 12'000);
    quick = false;
    Append(1'000);
    Settle();
    EXPECT_GE(broker().held_count(), 500U);
    int taken_by_other = 0;
    auto other = second.Subscribe(Consumer(), [&](const Message&) { ++taken_by_other; });
    for (int i = 0; i < 40; ++i) {  // One a second.
        Advance(seconds(1));
        slow.RunOne();
        Settle();
    }
    EXPECT_GE(taken_by_other, 900);
    EXPECT_EQ(broker().dead_letters().size(), 0U);
    first.Shutdown(milliseconds(0));
}

}  // namespace
}  // namespace qmq
