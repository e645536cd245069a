// What a subscription tells of itself while it works.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

class SubscriptionStatsTest : public testing::ClientFixture {
protected:
    SubscriptionStatsTest() : client(MakeClient()) {}

    /// Keeps a message beyond its processing time, and the same when it comes again.
    void GiveOneUp() {
        SubscriptionOptions options = Consumer();
        options.ack_timeout = seconds(30);
        options.max_processing_time = minutes(2);
        subscription = MakeSubscription(
            client, options, [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
        Append(1);
        Advance(seconds(131));
        ASSERT_THAT(kept, SizeIs(2));
    }

    Client client;
    Subscription subscription;
    std::vector<Delivery> kept;
};

TEST_F(SubscriptionStatsTest, WhatRunsAndWhatWaitsIsCounted) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 1;
    options.prefetch_count = 10;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> counts;
    subscription = MakeSubscription(client, options, [&](const Message&) {
        const Subscription::Stats stats = subscription.stats();
        counts.emplace_back(stats.running_count, stats.waiting_count);
    });
    Append(3);
    Advance(seconds(1));
    EXPECT_THAT(counts, ElementsAre(Pair(1, 2), Pair(1, 1), Pair(1, 0)));
    const Subscription::Stats stats = subscription.stats();
    EXPECT_EQ(stats.running_count, 0U);
    EXPECT_EQ(stats.waiting_count, 0U);
    EXPECT_EQ(stats.delivered_count, 3U);
    EXPECT_EQ(stats.acked_count, 3U);
}

TEST_F(SubscriptionStatsTest, ADeliveryIsUndecidedFromTheCallOfItsHandlerToItsDecision) {
    Subscription::Stats inside;
    subscription = MakeSubscription(client, Consumer(), [&](Delivery delivery) {
        inside = subscription.stats();
        kept.push_back(std::move(delivery));
    });
    Append(1);
    Settle();
    ASSERT_THAT(kept, SizeIs(1));
    EXPECT_EQ(inside.running_count, 1U);
    EXPECT_EQ(inside.undecided_count, 1U);
    EXPECT_EQ(subscription.stats().running_count, 0U);
    EXPECT_EQ(subscription.stats().undecided_count, 1U);
    kept[0].Ack();
    EXPECT_EQ(subscription.stats().undecided_count, 0U);
}

TEST_F(SubscriptionStatsTest, EachEndOfAHandlerIsCountedAsWhatItIs) {
    const std::vector<std::function<HandlerOutcome()>> says = {
        [] { return HandlerOutcome::Ack(); },
        [] { return HandlerOutcome::Retry("no"); },
        []() -> HandlerOutcome { throw RetryLater("no"); },
        []() -> HandlerOutcome { throw std::runtime_error("no"); },
        [] { return HandlerOutcome::DeadLetter("no"); },
        []() -> HandlerOutcome { throw Reject("no"); },
        [] { return HandlerOutcome::Later(milliseconds(5), "no"); },
    };
    std::set<std::string> seen;
    subscription = MakeSubscription(client, Consumer(), [&](const Message& message) {
        return seen.insert(Body(message)).second ? says.at(seen.size() - 1)()
                                                 : HandlerOutcome::Ack();
    });
    Append(static_cast<int>(says.size()));
    Advance(seconds(1));
    const Subscription::Stats stats = subscription.stats();
    EXPECT_EQ(stats.failed_count, 5U);
    EXPECT_EQ(stats.later_count, 1U);
    EXPECT_EQ(stats.acked_count, 5U);
    EXPECT_EQ(stats.delivered_count, 11U);  // Three were tried again, and one was put off.
    EXPECT_THAT(broker().dead_letters(), SizeIs(2));
}

TEST_F(SubscriptionStatsTest, SoIsEachDecisionAboutADelivery) {
    const std::vector<std::function<void(Delivery)>> decides = {
        [](Delivery one) { one.Ack(); },
        [](Delivery one) { one.Nack("no"); },
        [](Delivery one) { one.RetryIn(milliseconds(0), "no"); },
        [](const Delivery&) {},  // Forgotten.
        [](Delivery one) { one.Reject("no"); },
        [](Delivery one) { one.Later(milliseconds(5), "no"); },
    };
    std::set<std::string> seen;
    subscription = MakeSubscription(client, Consumer(), [&](Delivery delivery) {
        if (seen.insert(Body(delivery.message())).second) {
            decides.at(seen.size() - 1)(std::move(delivery));
        } else {
            delivery.Ack();
        }
    });
    Append(static_cast<int>(decides.size()));
    Advance(seconds(1));
    const Subscription::Stats stats = subscription.stats();
    EXPECT_EQ(stats.failed_count, 4U);
    EXPECT_EQ(stats.later_count, 1U);
    EXPECT_EQ(stats.acked_count, 5U);
    EXPECT_EQ(stats.undecided_count, 0U);
}

TEST_F(SubscriptionStatsTest, WhatIsGivenUpIsRetriedAndCountsAsThat) {
    ASSERT_NO_FATAL_FAILURE(GiveOneUp());
    EXPECT_EQ(kept[1].message().attempt(), 2U);
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(SubscriptionStatsTest, ItIsConnectedWhenEveryBrokerGroupOfItsRouteIs) {
    cluster.AddBroker("b");
    broker("b").SetConnectable(false);
    subscription = MakeSubscription(client, Consumer(), [](const Message&) {});
    Advance(seconds(1));
    EXPECT_FALSE(subscription.stats().connected);
    broker("b").SetConnectable(true);
    Advance(seconds(20));
    EXPECT_TRUE(subscription.stats().connected);
    broker("a").SetConnectError(Status::Unavailable("refused"));
    broker("a").Cut();
    Advance(seconds(1));
    EXPECT_FALSE(subscription.stats().connected);
    broker("a").SetConnectError(Status::Ok());
    Advance(seconds(20));
    EXPECT_TRUE(subscription.stats().connected);
}

TEST_F(SubscriptionStatsTest, WhatIsGivenUpAndThenPutOffCountsOnce) {
    ASSERT_NO_FATAL_FAILURE(GiveOneUp());
    kept[0].Later(milliseconds(5), "late");
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    EXPECT_EQ(subscription.stats().later_count, 0U);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(SubscriptionStatsTest, AGroupThatHasLeftTheRouteDoesNotMakeItUnconnected) {
    cluster.AddBroker("b");
    subscription = MakeSubscription(
        client, Consumer(), [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    broker("b").Append(Message("s"));
    Settle();
    ASSERT_THAT(kept, SizeIs(1));  // So its stream stays until this is decided.
    cluster.RemoveBroker("b");
    Advance(seconds(61));  // Routes are asked for again each minute.
    broker("b").SetConnectError(Status::Unavailable("gone"));
    broker("b").Cut();
    Advance(seconds(1));
    EXPECT_TRUE(subscription.stats().last_error.ok()) << subscription.stats().last_error;
    EXPECT_TRUE(subscription.stats().connected);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

}  // namespace
}  // namespace qmq
