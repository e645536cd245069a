// Acks on receipt that the broker refuses or loses: what is handled then, and how often.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/decisions.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::DecisionsAt;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class AtMostOnceTest : public testing::ClientFixture {
protected:
    AtMostOnceTest() : client(MakeClient()) {
        SubscriptionOptions options = Consumer();
        options.at_most_once = true;
        subscription = MakeSubscription(
            client, options, [this](const Message& message) { seen.push_back(Body(message)); });
    }

    /// Whatever becomes of it in its handler, each of so many messages is acked and nothing else.
    void ExpectThatOneAckIsAll(std::size_t count, Handler handler) {
        SubscriptionOptions options = Consumer("t");
        options.at_most_once = true;
        const Subscription other = MakeSubscription(client, options, std::move(handler));
        Append(static_cast<int>(count), "t");
        Advance(hours(1));
        EXPECT_EQ(testing::MessagesIn(DecisionsAt(broker(), AckVerdict::kAck)), count);
        EXPECT_EQ(testing::MessagesIn(DecisionsAt(broker())), count);
        EXPECT_EQ(other.stats().failed_count, count - 1);
        EXPECT_THAT(broker().dead_letters(), IsEmpty());
        EXPECT_EQ(broker().held_count(), 0U);
    }

    Client client;
    Subscription subscription;
    std::vector<std::string> seen;
};

TEST_F(AtMostOnceTest, WhatAHandlerSaysTheBrokerDoesNotHear) {
    const std::vector<std::function<HandlerOutcome()>> says = {
        [] { return HandlerOutcome::Ack(); },
        [] { return HandlerOutcome::Retry("no"); },
        [] { return HandlerOutcome::Retry(seconds(5), "no"); },
        [] { return HandlerOutcome::DeadLetter("no"); },
        [] { return HandlerOutcome::Later(seconds(5), "no"); },
        []() -> HandlerOutcome { throw RetryLater(seconds(5), "no"); },
        []() -> HandlerOutcome { throw Reject("no"); },
        []() -> HandlerOutcome { throw std::runtime_error("no"); },
    };
    std::size_t handled = 0;
    ExpectThatOneAckIsAll(says.size(), [&](const Message& message) {
        EXPECT_EQ(message.attempt(), 1U);
        return says[handled++ % says.size()]();
    });
    EXPECT_EQ(handled, says.size());
}

TEST_F(AtMostOnceTest, NorWhatIsDecidedAboutADelivery) {
    const std::vector<std::function<void(Delivery)>> decides = {
        [](Delivery one) { one.Ack(); },
        [](Delivery one) { one.Nack("no"); },
        [](Delivery one) { one.RetryIn(seconds(5), "no"); },
        [](Delivery one) { one.Reject("no"); },
        [](Delivery one) { one.Later(seconds(5), "no"); },
        [](const Delivery&) {},  // Forgotten.
    };
    std::size_t handled = 0;
    ExpectThatOneAckIsAll(decides.size(), [&](Delivery delivery) {
        decides[handled++ % decides.size()](std::move(delivery));
    });
    EXPECT_EQ(handled, decides.size());
    EXPECT_FALSE(Logged("dead letters"));
}

TEST_F(AtMostOnceTest, WhoeverDecidesADeliveryOtherwiseIsToldThatItIsTooLate) {
    SubscriptionOptions options = Consumer("t");
    options.at_most_once = true;
    std::vector<StatusCode> told;
    const auto tell = [&](const Status& status) { told.push_back(status.code()); };
    const Subscription other = MakeSubscription(client, options, [&](Delivery delivery) {
        const std::string body = Body(delivery.message());
        if (body == "0") {
            delivery.Ack(tell);
        } else if (body == "1") {
            delivery.Nack("no", tell);
        } else if (body == "2") {
            delivery.Reject("no", tell);
        } else {
            delivery.Later(seconds(5), "no", tell);
        }
    });
    Append(4, "t");
    Advance(seconds(1));
    EXPECT_THAT(told,
                UnorderedElementsAre(StatusCode::kOk,
                                     StatusCode::kFailedPrecondition,
                                     StatusCode::kFailedPrecondition,
                                     StatusCode::kFailedPrecondition));
}

TEST_F(AtMostOnceTest, AReceiptThatIsRefusedForNowIsRepeatedAndItsMessageHandledOnce) {
    std::size_t count = 0;
    for (const Status& why : {Status::ResourceExhausted("busy"),
                              Status::Unavailable("not now"),
                              Status::DeadlineExceeded("too late")}) {
        broker().SetAckError(why);
        Append(2);
        Advance(minutes(2));
        EXPECT_THAT(seen, SizeIs(count)) << why;
        EXPECT_EQ(broker().acked_count(), count) << why;
        broker().SetAckError(Status::Ok());
        count += 2;
        Advance(seconds(1));
        EXPECT_THAT(seen, SizeIs(count)) << why;
        Advance(minutes(2));
    }
    EXPECT_THAT(seen, ElementsAre("0", "1", "2", "3", "4", "5"));
    EXPECT_EQ(testing::MessagesIn(DecisionsAt(broker())), count);
    EXPECT_EQ(broker().acked_count(), count);
    EXPECT_EQ(subscription.stats().acked_count, count);
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_F(AtMostOnceTest, AReceiptThatIsRefusedForGoodLeavesTheMessageToWhoeverGetsItNext) {
    broker().SetAckError(Status::PermissionDenied("not yours"));
    Append(1);
    Advance(minutes(2));
    EXPECT_TRUE(Logged("acks were refused"));
    broker().SetAckError(Status::Ok());
    Advance(seconds(10));
    EXPECT_THAT(seen, IsEmpty());
    EXPECT_EQ(broker().acked_count(), 0U);
    broker().EndLeases(0, 0);
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, UnorderedElementsAre("0", "1"));
    EXPECT_EQ(broker().acked_count(), 2U);
}

TEST_F(AtMostOnceTest, WhereNoReceiptWasRecordedTheMessageComesAgainAndIsHandledOnce) {
    broker().SetAckError(Status::Unavailable("not now"));
    Append(2);
    Advance(seconds(1));
    broker().SetKeepHeld(false);
    broker().Cut();
    broker().SetAckError(Status::Ok());
    Advance(minutes(1));
    EXPECT_THAT(seen, UnorderedElementsAre("0", "1"));
    EXPECT_EQ(broker().acked_count(), 2U);
}

/// Its credit is that of one message.
class AtMostOnceCreditTest : public testing::ClientFixture {
protected:
    AtMostOnceCreditTest() : client(MakeClient()) {
        SubscriptionOptions options = Consumer();
        options.at_most_once = true;
        options.parallelism = 1;
        options.prefetch_count = 1;
        subscription = MakeSubscription(
            client, options, [this](const Message& message) { seen.push_back(Body(message)); });
    }
    Client client;
    Subscription subscription;
    std::vector<std::string> seen;
};

// The credit of a message whose receipt was refused was free, but nobody granted it: the consumer
// never got a message again.
TEST_F(AtMostOnceCreditTest, AReceiptThatIsRefusedForGoodGivesItsCreditBack) {
    broker().SetAckError(Status::PermissionDenied("not yours"));
    Append(1);
    Advance(seconds(1));
    ASSERT_TRUE(Logged("acks were refused"));
    broker().SetAckError(Status::Ok());
    broker().EndLeases(0, 0);
    Append(1);
    Advance(seconds(10));
    EXPECT_THAT(seen, UnorderedElementsAre("0", "1"));
}

TEST_F(AtMostOnceCreditTest, SoDoesAReceiptThatCameTooLate) {
    broker().SetAckError(Status::Unavailable("not now"));
    Append(1);
    Advance(seconds(1));
    broker().EndLeases(0, 0);  // Others may have it, and we are the only one.
    broker().SetAckError(Status::Ok());
    Advance(seconds(10));
    EXPECT_THAT(seen, ElementsAre("0"));
}

}  // namespace
}  // namespace qmq
