// What a subscription that is paused goes on with, and what it leaves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PauseTest : public testing::ClientFixture {
protected:
    PauseTest() : client(MakeClient()) {}

    Subscription Collect() {
        return MakeSubscription(client, options, [this](const Message& message) {
            EXPECT_EQ(message.attempt(), 1U);
            seen.push_back(Body(message));
        });
    }

    testing::ManualExecutor late{time.clock};
    SubscriptionOptions options = Consumer();
    Client client;
    std::vector<std::string> seen;
};

TEST_F(PauseTest, WhatIsHereIsHandledAndWhatComesGoesBack) {
    options.executor = &late;
    options.prefetch_count = 100;
    Subscription subscription = Collect();
    Append(10);
    Settle();
    ASSERT_EQ(subscription.stats().waiting_count, 10U);
    subscription.Pause();
    Append(5);
    Settle();
    late.RunAll();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(10));
    EXPECT_EQ(broker().acked_count(), 10U);
    EXPECT_EQ(broker().held_count(), 0U);
    subscription.Resume();
    Settle();
    late.RunAll();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(15));
    EXPECT_EQ(broker().acked_count(), 15U);
    client.Shutdown(milliseconds(0));
}

TEST_F(PauseTest, AHandlerUnderWayEndsAndItsDecisionIsSent) {
    std::vector<Delivery> kept;
    Subscription subscription = MakeSubscription(
        client, options, [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(2);
    Settle();
    ASSERT_THAT(kept, SizeIs(2));
    subscription.Pause();
    kept[0].Ack();
    kept[1].Reject("bad");
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_THAT(broker().dead_letters(), SizeIs(1));
}

TEST_F(PauseTest, EachOfThemTwiceIsAsOnce) {
    Subscription subscription = Collect();
    subscription.Pause();
    subscription.Pause();
    Append(3);
    Advance(seconds(1));
    EXPECT_THAT(seen, IsEmpty());
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(3));
    subscription.Resume();
    subscription.Pause();
    Append(2);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(3));
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(5));
}

TEST_F(PauseTest, ALostConnectionDoesNotEndIt) {
    Subscription subscription = Collect();
    subscription.Pause();
    broker().Cut();
    const std::uint64_t granted = broker().granted_messages();
    Append(3);
    Advance(seconds(20));
    EXPECT_EQ(broker().subscriber_count(), 1U);
    EXPECT_EQ(broker().granted_messages(), granted);
    EXPECT_THAT(seen, IsEmpty());
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(3));
}

}  // namespace
}  // namespace qmq
