// What a pull consumer asks its brokers for, and what of that a pull is given.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/unit/client/decisions.h"
#include "tests/unit/client/pull_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr milliseconds kNow{0};

class PullAskTest : public testing::PullFixture {
protected:
    std::uint64_t ReleasedCount() {
        return testing::MessagesIn(testing::DecisionsAt(broker(), AckVerdict::kRelease));
    }
};

TEST_F(PullAskTest, ItSubscribesAsItsOptionsSayToItsGroupsRetriesToo) {
    PullConsumerOptions options = PullFrom("s");
    options.tags = AllOf("x", "y");
    options.retry = {.max_attempts = 7, .initial_backoff = seconds(9)};
    options.ack_timeout = seconds(99);
    const PullConsumer consumer = Make(options);
    options.group.clear();
    options.broadcast = true;
    options.start = StartPosition::kLatest;
    options.tags = {};
    const PullConsumer broadcast = Make(options);

    const std::vector<SubscribeRequest> requests = broker().subscribes();
    ASSERT_THAT(requests, SizeIs(2));
    EXPECT_EQ(requests[0].key, (ConsumerKey{"s", "g", "client-1", ConsumeSource::kBoth}));
    EXPECT_EQ(requests[0].filter, (TagFilter{TagMode::kAll, {"x", "y"}}));
    EXPECT_EQ(requests[0].start, StartPosition::kEarliest);
    EXPECT_EQ(requests[0].retry, options.retry);
    EXPECT_EQ(requests[0].ack_timeout, seconds(99));
    EXPECT_EQ(requests[1].key, (ConsumerKey{"s", "client-1", "client-1", ConsumeSource::kBoth}));
    EXPECT_EQ(requests[1].filter, TagFilter());
    EXPECT_EQ(requests[1].start, StartPosition::kLatest);
}

TEST_F(PullAskTest, OfWhatIsThereAPullTakesNoMoreThanItMay) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 10, kNow);
    Append(10);
    Settle();
    ASSERT_EQ(broker().held_count(), 10U);
    const auto first = Pull(consumer, 3, kNow);
    const auto rest = Pull(consumer, 10, kNow);
    Settle();
    EXPECT_THAT(first->deliveries, SizeIs(3));
    EXPECT_THAT(rest->deliveries, SizeIs(7));
}

TEST_F(PullAskTest, NobodyIsAskedBeforeAPullAndThenEachBrokerGroupForOneMessage) {
    cluster.AddBroker("b");
    PullConsumer consumer = Make();
    Advance(minutes(1));
    EXPECT_EQ(broker("a").granted_messages(), 0U);
    EXPECT_EQ(broker("b").granted_messages(), 0U);
    const auto pulled = Pull(consumer, 1, minutes(1));
    Settle();
    EXPECT_EQ(broker("a").granted_messages(), 1U);
    EXPECT_EQ(broker("b").granted_messages(), 1U);
    broker("b").Append(Message("s").SetBody("from b"));
    Advance(seconds(1));
    ASSERT_THAT(pulled->deliveries, SizeIs(1));
    EXPECT_EQ(pulled->deliveries[0].message().body(), "from b");
    EXPECT_EQ(broker("a").granted_messages(), 1U);
    EXPECT_EQ(broker("b").granted_messages(), 1U);
}

TEST_F(PullAskTest, AlsoFromSeveralBrokerGroupsNoMoreAreOutThanMayBeUnacked) {
    cluster.AddBroker("b");
    PullConsumerOptions options = PullFrom("s");
    options.max_unacked_count = 1;
    PullConsumer consumer = Make(options);
    broker("a").Append(Message("s"));
    broker("b").Append(Message("s"));
    const auto first = Pull(consumer, 1, minutes(1));
    Settle();
    ASSERT_THAT(first->deliveries, SizeIs(1));
    const auto second = Pull(consumer, 1, minutes(1));
    Advance(seconds(1));
    EXPECT_FALSE(second->done);
    first->deliveries[0].Ack();
    Advance(seconds(1));
    EXPECT_THAT(second->deliveries, SizeIs(1));
}

TEST_F(PullAskTest, WhatNobodyComesForGoesBackAfterAThirdOfTheAckTimeoutAndNotBefore) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 3, milliseconds(100));
    Advance(milliseconds(200));
    Append(3);
    Advance(milliseconds(19'999));
    EXPECT_EQ(ReleasedCount(), 0U);
    Advance(milliseconds(2));
    EXPECT_EQ(ReleasedCount(), 3U);
    EXPECT_EQ(broker().held_count(), 0U);
    const auto pulled = Pull(consumer, 3);
    Settle();
    ASSERT_THAT(pulled->deliveries, SizeIs(3));
    EXPECT_EQ(pulled->deliveries[0].message().attempt(), 1U);
}

TEST_F(PullAskTest, TheMembershipIsThatOfTheHandlesThatAreLeft) {
    PullConsumer consumer = Make();
    PullConsumer copy = consumer;
    consumer = PullConsumer();
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 1U);
    Append(1);
    const auto pulled = Pull(copy, 1);
    Settle();
    ASSERT_THAT(pulled->deliveries, SizeIs(1));
    pulled->deliveries[0].Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    copy = PullConsumer();
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_F(PullAskTest, WithoutAConnectionAPullEndsWithTheReasonAtItsDeadline) {
    broker().SetConnectable(false);
    PullConsumer consumer = Make();
    const auto early = Pull(consumer, 1, seconds(2));
    Advance(milliseconds(1'999));
    EXPECT_FALSE(early->done);
    Advance(milliseconds(1));
    EXPECT_EQ(early->status.code(), StatusCode::kUnavailable);

    broker().SetConnectable(true);
    Advance(seconds(20));
    const auto connected = Pull(consumer, 1, seconds(2));
    Advance(seconds(2));
    EXPECT_TRUE(connected->done);
    EXPECT_TRUE(connected->status.ok()) << connected->status;

    broker().SetConnectError(Status::Unavailable("refused"));
    broker().Cut();
    const auto cut = Pull(consumer, 1, seconds(2));
    Advance(seconds(2));
    EXPECT_EQ(cut->status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(cut->status.message()), HasSubstr("subject s"));
}

TEST_F(PullAskTest, ARouteThatCouldNotBeAskedForAgainEndsNoPullWhileABrokerIsThere) {
    PullConsumer consumer = Make();
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Advance(seconds(90));  // The route is asked for again each minute.
    const auto meanwhile = Pull(consumer, 1, seconds(1));
    Advance(seconds(1));
    EXPECT_TRUE(meanwhile->status.ok()) << meanwhile->status;
    EXPECT_THAT(meanwhile->deliveries, IsEmpty());

    cluster.SetDiscoverError(Status::Ok());
    Advance(minutes(5));
    const auto afterwards = Pull(consumer, 1, seconds(1));
    Advance(seconds(1));
    EXPECT_TRUE(afterwards->status.ok()) << afterwards->status;
}

TEST_F(PullAskTest, ARouteThatWasAnsweredAgainIsNoLongerTheReason) {
    PullConsumer consumer = Make();
    broker().SetConnectError(Status::Unavailable("refused"));
    broker().Cut();
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Advance(seconds(90));
    const auto away = Pull(consumer, 1, seconds(1));
    Advance(seconds(1));
    EXPECT_THAT(std::string(away->status.message()), HasSubstr("meta is away"));

    cluster.SetDiscoverError(Status::Ok());
    Advance(minutes(5));
    const auto back = Pull(consumer, 1, seconds(1));
    Advance(seconds(1));
    EXPECT_THAT(std::string(back->status.message()), HasSubstr("no broker group is connected"));
}

TEST_F(PullAskTest, ARouteThatIsRefusedEndsAPullWithItsOwnCode) {
    cluster.SetDiscoverError(Status::PermissionDenied("not yours"));
    PullConsumer consumer = Make(PullFrom("t"));
    const auto pulled = Pull(consumer, 1, seconds(1));
    Advance(seconds(1));
    EXPECT_EQ(pulled->status.code(), StatusCode::kPermissionDenied);
}

TEST_F(PullAskTest, AtTheLimitOneDecisionMakesRoomForOneMessage) {
    cluster.AddBroker("b");
    PullConsumerOptions options = PullFrom("s");
    options.max_unacked_count = 3;
    PullConsumer consumer = Make(options);
    for (int i = 0; i < 2; ++i) {
        broker("a").Append(Message("s"));
        broker("b").Append(Message("s"));
    }
    const auto first = Pull(consumer, 3, minutes(1));
    const auto second = Pull(consumer, 3, minutes(1));
    Advance(seconds(1));
    EXPECT_EQ(first->deliveries.size() + second->deliveries.size(), 3U);
    const auto third = Pull(consumer, 3, minutes(1));
    Advance(seconds(1));
    EXPECT_FALSE(third->done);
    first->deliveries[0].Ack();
    Advance(seconds(1));
    EXPECT_THAT(third->deliveries, SizeIs(1));
}

// One clock ran for all that waited, that of the oldest.
TEST_F(PullAskTest, EachMessageThatComesTooLateWaitsForAThirdOfTheAckTimeout) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 2, milliseconds(100));
    Advance(milliseconds(200));
    Append(1);
    Advance(milliseconds(19'900));
    Append(1);
    Advance(milliseconds(200));  // The first one's time is over.
    EXPECT_EQ(ReleasedCount(), 1U);
    const auto pulled = Pull(consumer, 1, kNow);
    Settle();
    EXPECT_THAT(pulled->deliveries, SizeIs(1));
}

}  // namespace
}  // namespace qmq
