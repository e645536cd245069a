// Copies of a subscription, and what is left of it when it is closed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr milliseconds kNow{0};

class SubscriptionCloseTest : public testing::ClientFixture {
protected:
    SubscriptionCloseTest() : client(MakeClient()) {}

    Subscription Keep() {
        return MakeSubscription(
            client, Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    }

    Client client;
    std::vector<Delivery> kept;
    std::vector<std::string> seen;
};

TEST_F(SubscriptionCloseTest, CopiesAreOneSubscription) {
    Subscription subscription = MakeSubscription(
        client, Consumer(), [this](const Message& message) { seen.push_back(Body(message)); });
    Subscription copy = subscription;
    copy.Pause();
    Append(3);
    Advance(seconds(1));
    EXPECT_THAT(seen, IsEmpty());
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(3));
    EXPECT_EQ(copy.stats().acked_count, 3U);
    (void)copy.Close(kNow);
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_EQ(subscription.WaitReady(hours(1)).code(), StatusCode::kCancelled);
    EXPECT_TRUE(subscription.Close(kNow).ok());
}

TEST_F(SubscriptionCloseTest, FromTheCallOnItTakesNothingMoreWhateverHappens) {
    Subscription subscription = Keep();
    Append(1);
    Settle();
    ASSERT_THAT(kept, SizeIs(1));
    EXPECT_EQ(subscription.Close(kNow).code(), StatusCode::kDeadlineExceeded);
    Append(5);
    Advance(minutes(1));
    subscription.Resume();
    broker().Cut();
    Append(5);
    Advance(minutes(5));
    EXPECT_THAT(kept, SizeIs(1));
    EXPECT_EQ(broker().held_count(), 1U);

    kept[0].Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_TRUE(subscription.Close(kNow).ok());
    const std::size_t subscribed = broker().subscribes().size();
    subscription.Resume();
    broker().Cut();
    Advance(minutes(5));
    EXPECT_EQ(broker().subscribes().size(), subscribed);
}

TEST_F(SubscriptionCloseTest, WhatItDidNotTakeOthersGetWithoutAnAttempt) {
    Subscription subscription = Keep();
    Append(1);
    Settle();
    (void)subscription.Close(kNow);
    Append(5);
    Advance(seconds(1));
    std::vector<std::uint32_t> attempts;
    Client other = MakeClient(Options("client-2"));
    const Subscription others = MakeSubscription(
        other, Consumer(), [&](const Message& message) { attempts.push_back(message.attempt()); });
    Advance(seconds(1));
    EXPECT_THAT(attempts, SizeIs(5));
    EXPECT_THAT(attempts, Each(1U));
    kept.clear();
}

}  // namespace
}  // namespace qmq
