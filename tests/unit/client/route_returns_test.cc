// A broker group that leaves the route and comes back while its messages are still being handled.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class RouteReturnsTest : public testing::ClientFixture {
protected:
    RouteReturnsTest() { cluster.AddBroker("b"); }

    Subscription Keep() {
        return MakeSubscription(client, Consumer(), [this](Delivery delivery) {
            seen.push_back(Body(delivery.message()) + " " +
                           std::to_string(delivery.message().attempt()));
            kept.push_back(std::move(delivery));
        });
    }
    void Leave() {
        cluster.RemoveBroker("a");
        Advance(seconds(61));
    }
    void Return() {
        cluster.AddBroker("a");
        Advance(seconds(61));
    }

    Client client{MakeClient()};
    std::vector<Delivery> kept;
    std::vector<std::string> seen;
};

// It got a second stream as the same consumer, which has nothing: what the first one held, and was
// at, was handed out again.
TEST_F(RouteReturnsTest, WhatIsBeingHandledIsNotHandedOutAgain) {
    const Subscription subscription = Keep();
    Append(1);
    Settle();
    ASSERT_THAT(kept, SizeIs(1));
    Leave();
    Return();
    EXPECT_THAT(seen, ElementsAre("0 1"));
    EXPECT_EQ(broker().subscriber_count(), 1U);
    std::optional<Status> told;
    kept[0].Ack([&](const Status& status) { told = status; });
    Advance(seconds(1));
    ASSERT_TRUE(told.has_value());
    EXPECT_TRUE(told->ok()) << *told;
}

// And it is consumed, without waiting for the handler.
TEST_F(RouteReturnsTest, ABrokerGroupThatIsBackIsConsumedAtOnce) {
    const Subscription subscription = Keep();
    Append(1);
    Settle();
    Leave();
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("0 1"));
    Return();
    EXPECT_THAT(seen, ElementsAre("0 1", "1 1"));
    kept.clear();
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 1U);
    EXPECT_TRUE(subscription.stats().connected);
}

TEST_F(RouteReturnsTest, ThenItMayLeaveAgain) {
    const Subscription subscription = Keep();
    Append(1);
    Settle();
    Leave();
    Return();
    Leave();
    ASSERT_THAT(kept, SizeIs(1));
    kept[0].Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_EQ(subscription.stats().acked_count, 1U);
    Return();
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("0 1", "1 1"));
    EXPECT_EQ(subscription.stats().acked_count, 1U);
}

// A pause that ends meanwhile is not missed.
TEST_F(RouteReturnsTest, WhetherMoreIsTakenIsAsTheSubscriptionSays) {
    Subscription subscription = Keep();
    Append(1);
    Settle();
    subscription.Pause();
    Leave();
    subscription.Resume();
    Append(1);
    Return();
    EXPECT_THAT(seen, ElementsAre("0 1", "1 1"));
    Leave();
    subscription.Pause();
    Append(1);
    Return();
    EXPECT_THAT(seen, SizeIs(2));
}

}  // namespace
}  // namespace qmq
