// The outcome "later, and not its fault".

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LaterTest : public testing::ClientFixture {
protected:
    LaterTest() : client(MakeClient()) { options.retry.max_attempts = 1; }

    Subscription Subscribe(Handler handler) {
        return MakeSubscription(client, options, std::move(handler));
    }
    /// Puts a message off for `delay` so many times, then takes it.
    Handler PutOff(milliseconds delay, std::size_t times = 1) {
        return [this, delay, times](const Message& message) {
            attempts.push_back(message.attempt());
            return attempts.size() <= times ? HandlerOutcome::Later(delay, "producer full")
                                            : HandlerOutcome::Ack();
        };
    }
    /// How many messages have had it, counted anew each time.
    std::uint64_t CountOf(AckVerdict verdict) {
        std::uint64_t count = 0;
        for (const AckItem& item : broker().acks()) {
            count += item.verdict == verdict ? item.last - item.first + 1 : 0;
        }
        return count;
    }

    SubscriptionOptions options = Consumer();
    Client client;
    std::vector<std::uint32_t> attempts;
};

TEST_F(LaterTest, WhatIsPutOffComesAgainAfterItsDelayAndLosesNoAttempt) {
    Subscription subscription = Subscribe(PutOff(seconds(10), 2));
    Append(1);
    Advance(seconds(9));
    EXPECT_THAT(attempts, SizeIs(1));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
    Advance(seconds(12));
    EXPECT_THAT(attempts, ElementsAre(1, 1, 1));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 2U);
    EXPECT_EQ(CountOf(AckVerdict::kRetry), 0U);
    EXPECT_THAT(broker().dead_letters(), IsEmpty());
    const Subscription::Stats stats = subscription.stats();
    EXPECT_EQ(stats.later_count, 2U);
    EXPECT_EQ(stats.failed_count, 0U);
    EXPECT_EQ(stats.acked_count, 1U);
    EXPECT_THAT(log, IsEmpty());
}

TEST_F(LaterTest, AHandlerMayThrowIt) {
    Subscription subscription = Subscribe([this](const Message& message) {
        attempts.push_back(message.attempt());
        if (attempts.size() == 1) {
            throw Later(seconds(2), "producer full");
        }
    });
    Append(1);
    Advance(milliseconds(1'999));
    EXPECT_THAT(attempts, SizeIs(1));
    Advance(milliseconds(10));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
    EXPECT_THAT(log, IsEmpty());
}

TEST_F(LaterTest, ADeliveryMaySayIt) {
    std::vector<Status> told;
    Subscription subscription = Subscribe([&](Delivery delivery) {
        attempts.push_back(delivery.message().attempt());
        if (attempts.size() == 1) {
            delivery.Later(seconds(2), "producer full", [&told](const Status& status) {
                told.push_back(status);
            });
        } else {
            delivery.Ack();
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(told, IsEmpty());
    Advance(seconds(2));
    EXPECT_THAT(told, ElementsAre(Status::Ok()));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
}

TEST_F(LaterTest, MeanwhileItIsRenewedAndTakesAPlace) {
    options.prefetch_count = options.parallelism = 1;
    Subscription subscription = Subscribe(PutOff(minutes(5)));
    Append(2);
    Advance(minutes(4));
    EXPECT_GE(CountOf(AckVerdict::kRenew), 11U);
    EXPECT_THAT(attempts, SizeIs(1));
    Advance(minutes(2));
    EXPECT_THAT(attempts, SizeIs(3));
}

TEST_F(LaterTest, AnyMemberMayHaveItNext) {
    std::vector<std::uint32_t> elsewhere;
    ClientOptions another = Options();
    another.client_id = "client-2";
    Client other = MakeClient(std::move(another));
    Subscription subscription = Subscribe(PutOff(seconds(5)));
    options.start_paused = true;
    Subscription second = MakeSubscription(
        other, options, [&](const Message& message) { elsewhere.push_back(message.attempt()); });
    Append(1);
    Settle();
    EXPECT_THAT(attempts, SizeIs(1));
    subscription.Pause();
    second.Resume();
    Advance(seconds(6));
    EXPECT_THAT(attempts, SizeIs(1));
    EXPECT_THAT(elsewhere, ElementsAre(1));
}

TEST_F(LaterTest, ADelayOfNothingIsGivenBackAtOnce) {
    Subscription subscription = Subscribe(PutOff(milliseconds(-5)));
    Append(1);
    Advance(milliseconds(1));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
}

TEST_F(LaterTest, ADelayIsCutAtHalfOfMaxProcessingTime) {
    options.max_processing_time = minutes(4);
    Subscription subscription = Subscribe(PutOff(milliseconds::max()));
    Append(1);
    Advance(minutes(2) - milliseconds(1));
    EXPECT_THAT(attempts, SizeIs(1));
    Advance(milliseconds(10));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
}

TEST_F(LaterTest, ClosingGivesBackWhatWasPutOffAndDoesNotWaitForIt) {
    Subscription subscription = Subscribe(PutOff(hours(1), 100));
    Append(3);
    Settle();
    EXPECT_EQ(broker().held_count(), 3U);
    (void)subscription.Close(milliseconds(0));
    Advance(milliseconds(1));
    EXPECT_EQ(broker().held_count(), 0U);
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 3U);
    EXPECT_TRUE(subscription.Close(milliseconds(0)).ok());
}

TEST_F(LaterTest, WhoWaitsForItIsToldWhenTheClientStops) {
    std::vector<Status> told;
    Subscription subscription = Subscribe([&](Delivery delivery) {
        delivery.Later(hours(1), "busy", [&told](const Status& status) { told.push_back(status); });
    });
    Append(1);
    Settle();
    client.Shutdown(milliseconds(0));
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told[0].code(), StatusCode::kCancelled);
}

TEST_F(LaterTest, WithAtMostOnceThereIsNoLaterAndItCountsAsAFailure) {
    options.at_most_once = true;
    Subscription subscription = Subscribe(PutOff(seconds(1), 100));
    Append(1);
    Advance(seconds(5));
    EXPECT_THAT(attempts, SizeIs(1));
    EXPECT_EQ(subscription.stats().failed_count, 1U);
    EXPECT_EQ(subscription.stats().later_count, 0U);
}

TEST_F(LaterTest, AfterALostConnectionItIsStillGivenBack) {
    Subscription subscription = Subscribe(PutOff(seconds(10)));
    Append(1);
    Advance(seconds(5));
    broker().Cut();
    Advance(seconds(6));
    EXPECT_THAT(attempts, ElementsAre(1, 1));
}

}  // namespace
}  // namespace qmq
