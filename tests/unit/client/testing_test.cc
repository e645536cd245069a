#include "qmq/testing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

#include "qmq/batch.h"
#include "qmq/subject.h"

namespace qmq::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Message Order() {
    Message order("order.paid");
    order.Set("orderId", "A-1").AddTag("domestic").SetOrderingKey("A").SetBody("body");
    return order;
}

/// What `MakeReceived` says of what it does not take.
std::string Refusal(const Message& message, const ReceivedOptions& options) {
    try {
        MakeReceived(message, options);
    } catch (const std::invalid_argument& refused) {
        return refused.what();
    }
    return "taken";
}

TEST(MakeReceivedTest, TheMessageIsAsAHandlerIsGivenIt) {
    const Message received = MakeReceived(Order());
    EXPECT_EQ(received.subject(), "order.paid");
    EXPECT_EQ(received.Get<std::string>("orderId"), "A-1");
    EXPECT_THAT(received.tags(), ElementsAre("domestic"));
    EXPECT_EQ(received.ordering_key(), "A");
    EXPECT_EQ(received.body(), "body");
    EXPECT_EQ(received.attempt(), 1U);
    EXPECT_EQ(received.last_error(), "");
}

TEST(MakeReceivedTest, WhatItHasNoneOfItIsGiven) {
    EXPECT_THAT(std::string(MakeReceived(Order()).id()), StartsWith("test-message-"));
    EXPECT_NE(MakeReceived(Order()).id(), MakeReceived(Order()).id());
    EXPECT_NE(MakeReceived(Order()).created_time(), WallTime{});
    const WallTime then{std::chrono::hours(24)};
    const Message own = MakeReceived(Order().SetId("mine").SetCreatedTime(then));
    EXPECT_EQ(own.id(), "mine");
    EXPECT_EQ(own.created_time(), then);
}

TEST(MakeReceivedTest, ItHasTheAttemptAndTheErrorThatATestWantsToSee) {
    const Message received = MakeReceived(Order(), {.attempt = 4, .last_error = "no paper"});
    EXPECT_EQ(received.attempt(), 4U);
    EXPECT_EQ(received.last_error(), "no paper");
    EXPECT_EQ(received.Get<std::string>("orderId"), "A-1");
    EXPECT_EQ(MakeReceived(Order(), {.attempt = 4}).attempt(), 4U);
}

TEST(MakeReceivedTest, WhatAReceivedMessageSaysOfItsDeliveriesCountsForNothing) {
    const Message before = MakeReceived(Order(), {.attempt = 7, .last_error = "no paper"});
    const Message received = MakeReceived(before);
    EXPECT_EQ(received.attempt(), 1U);
    EXPECT_EQ(received.last_error(), "");
    EXPECT_EQ(received.id(), before.id());
    EXPECT_EQ(MakeReceived(before, {.attempt = 2}).attempt(), 2U);
}

TEST(MakeReceivedTest, ADueTimeComesWithARetryOnly) {
    EXPECT_EQ(MakeReceived(Order().SetDelay(std::chrono::milliseconds(400))).deliver_at(),
              std::nullopt);
    EXPECT_NE(MakeReceived(Order(), {.attempt = 2}).deliver_at(), std::nullopt);
}

TEST(MakeReceivedTest, ADeadLetterIsMadeByItsSubject) {
    const std::string dead = DeadLetterSubject("order.paid", "ticketing");
    EXPECT_EQ(MakeReceived(Order(), {.subject = dead}).subject(), dead);
}

TEST(MakeReceivedTest, ALargeMessageIsNoException) {
    EXPECT_EQ(MakeReceived(Message("s").SetBody(std::string(8U << 20, 'x'))).body().size(),
              8U << 20);
}

TEST(MakeReceivedTest, ItSaysWhatIsWrong) {
    EXPECT_THAT(Refusal(Message(""), {}), HasSubstr("MakeReceived: invalid argument: "));
    EXPECT_THAT(Refusal(Order().Set("", 1), {}), HasSubstr("MakeReceived: invalid argument: "));
    EXPECT_THAT(Refusal(Order(), {.attempt = 0}), HasSubstr("attempt is 0"));
    EXPECT_THAT(Refusal(Order(), {.subject = "a/b"}),
                HasSubstr("MakeReceived: invalid argument: "));
}

}  // namespace
}  // namespace qmq::testing
