// When a subscription takes part, and why it does not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr milliseconds kNow{0};

class ReadyTest : public testing::ClientFixture {
protected:
    ReadyTest() : client(MakeClient()) {}

    Subscription Subscribe() {
        return client.Subscribe(Consumer(), [](const Message&) {}).value();
    }
    static std::string TextOf(const Status& status) { return std::string(status.message()); }

    Client client;
};

// Subscribe returns before the broker knows the group, and there was nothing to wait for: what was
// sent right after it was missed.
TEST_F(ReadyTest, ASubscriptionIsReadyWhenTheBrokerHasConfirmedIt) {
    Subscription subscription = Subscribe();
    const Status before = subscription.WaitReady(kNow);
    EXPECT_EQ(before.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(TextOf(before), HasSubstr("subject s, group g: not ready after 0 ms"));
    EXPECT_FALSE(subscription.stats().last_error.ok());
    Settle();
    EXPECT_TRUE(subscription.WaitReady(kNow).ok());
    EXPECT_TRUE(subscription.stats().last_error.ok());
    EXPECT_TRUE(subscription.stats().connected);
}

TEST_F(ReadyTest, EveryBrokerGroupOfTheRouteHasToConfirm) {
    cluster.AddBroker("b");
    broker("b").SetConnectable(false);
    Subscription subscription = Subscribe();
    Advance(seconds(1));
    EXPECT_EQ(subscription.WaitReady(kNow).code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(TextOf(subscription.WaitReady(kNow)), HasSubstr("broker group b"));
    broker("b").SetConnectable(true);
    Advance(seconds(20));
    EXPECT_TRUE(subscription.WaitReady(kNow).ok());
}

TEST_F(ReadyTest, TheReasonIsTheConnectionsTheRoutesOrTheBrokers) {
    cluster.SetDiscoverError(Status::Unavailable("metaserver is away"));
    Subscription subscription = Subscribe();
    Advance(seconds(1));
    EXPECT_THAT(TextOf(subscription.WaitReady(kNow)), HasSubstr("metaserver is away"));

    cluster.SetDiscoverError(Status::Ok());
    broker().SetConnectError(Status::Unavailable("connection refused"));
    Advance(seconds(20));
    EXPECT_THAT(TextOf(subscription.stats().last_error), HasSubstr("connection refused"));

    broker().SetConnectError(Status::Ok());
    Advance(seconds(20));
    EXPECT_TRUE(subscription.WaitReady(kNow).ok());

    broker().CloseStreams(Status::ResourceExhausted("too many groups"));
    Settle();
    const Status status = subscription.stats().last_error;
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(TextOf(status), HasSubstr("too many groups"));
}

// A refusal for good was tried again for ever, and only a log line said so.
TEST_F(ReadyTest, ARefusalForGoodEndsTheWaitAtOnceWithItsCode) {
    for (const Status& why : {Status::PermissionDenied("group g is not yours"),
                              Status::InvalidArgument("64 filters"),
                              Status::FailedPrecondition("certificate"),
                              Status::Unimplemented("no tags here")}) {
        broker().SetConnectError(why);
        Subscription subscription = Subscribe();
        Settle();
        const Status status = subscription.WaitReady(hours(1));
        EXPECT_EQ(status.code(), why.code());
        EXPECT_THAT(TextOf(status), HasSubstr(std::string(why.message())));
        (void)subscription.Close(kNow);
        Settle();
    }
}

TEST_F(ReadyTest, ARouteThatIsRefusedForGoodEndsTheWaitToo) {
    cluster.SetDiscoverError(Status::PermissionDenied("unknown token"));
    Subscription subscription = Subscribe();
    Settle();
    EXPECT_EQ(subscription.WaitReady(hours(1)).code(), StatusCode::kPermissionDenied);
}

TEST_F(ReadyTest, WhatWasRefusedForGoodIsTriedOnAndReadyOnceItIsCured) {
    const Status why = Status::PermissionDenied("not yours");
    cluster.SetDiscoverError(why);
    Subscription subscription = Subscribe();
    Settle();
    EXPECT_EQ(subscription.WaitReady(hours(1)).code(), why.code());

    broker().SetConnectError(why);
    cluster.SetDiscoverError(Status::Ok());
    Advance(minutes(1));
    EXPECT_EQ(subscription.WaitReady(hours(1)).code(), why.code());
    EXPECT_THAT(TextOf(subscription.WaitReady(kNow)), HasSubstr("broker group a"));

    broker().SetConnectError(Status::Ok());
    Advance(minutes(1));
    EXPECT_TRUE(subscription.WaitReady(kNow).ok());

    broker().CloseStreams(why);
    Settle();
    EXPECT_EQ(subscription.WaitReady(hours(1)).code(), why.code());
    Advance(minutes(1));
    EXPECT_TRUE(subscription.WaitReady(kNow).ok());
    EXPECT_TRUE(subscription.stats().last_error.ok());
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(ReadyTest, AWaitEndsWithItsTimeAndTheLastReason) {
    broker().SetConnectable(false);
    Subscription subscription = Subscribe();
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "pulls";
    PullConsumer consumer = client.MakePullConsumer(options).value();
    Settle();
    for (const Status& status :
         {subscription.WaitReady(milliseconds(20)), consumer.WaitReady(milliseconds(20))}) {
        EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
        EXPECT_THAT(TextOf(status), HasSubstr("not ready after 20 ms; last: unavailable"));
        EXPECT_THAT(TextOf(status), HasSubstr("broker group a"));
    }
}

// It was waited for as long as the program allowed.
TEST_F(ReadyTest, ASubjectThatIsRefusedForGoodEndsTheWaitOfTheClient) {
    for (const Status& why : {Status::PermissionDenied("unknown token"),
                              Status::InvalidArgument("no such subject"),
                              Status::FailedPrecondition("certificate"),
                              Status::Unimplemented("an old server")}) {
        cluster.SetDiscoverError(why);
        Client other = MakeClient(Options("client-2"));
        Producer producer = MakeProducer(other);
        producer.Send(Message("s")).Detach();
        Settle();
        const Status status = other.WaitReady("s", hours(1));
        EXPECT_EQ(status.code(), why.code());
        EXPECT_THAT(TextOf(status), HasSubstr(std::string(why.message())));
    }
}

TEST_F(ReadyTest, OneBrokerGroupThatRefusesForGoodLeavesTheOthersToWaitFor) {
    cluster.AddBroker("b");
    broker().SetConnectError(Status::PermissionDenied("not yours"));
    broker("b").SetConnectable(false);
    Producer producer = MakeProducer(client);
    producer.Send(Message("s")).Detach();
    Settle();
    EXPECT_EQ(client.WaitReady("s", kNow).code(), StatusCode::kDeadlineExceeded);
    broker("b").SetConnectError(Status::PermissionDenied("nor this"));
    broker("b").Cut();
    Advance(seconds(20));
    EXPECT_EQ(client.WaitReady("s", kNow).code(), StatusCode::kPermissionDenied);
}

TEST_F(ReadyTest, OneBrokerGroupThatIsConnectedIsEnoughForTheClient) {
    cluster.AddBroker("b");
    broker().SetConnectable(false);
    broker("b").SetConnectable(false);
    Producer producer = MakeProducer(client);
    producer.Send(Message("s")).Detach();
    Settle();
    EXPECT_EQ(client.WaitReady("s", kNow).code(), StatusCode::kDeadlineExceeded);
    broker("b").SetConnectable(true);
    Settle();
    EXPECT_TRUE(client.WaitReady("s", kNow).ok());
}

TEST_F(ReadyTest, TheEndOfTheSubscriptionEndsTheWait) {
    Subscription closed = Subscribe();
    (void)closed.Close(kNow);
    EXPECT_EQ(closed.WaitReady(hours(1)).code(), StatusCode::kCancelled);
    EXPECT_EQ(closed.stats().last_error.code(), StatusCode::kCancelled);
    Settle();
    EXPECT_EQ(closed.stats().last_error.code(), StatusCode::kCancelled);
    Subscription shut = Subscribe();
    client.Shutdown(kNow);
    EXPECT_EQ(shut.WaitReady(hours(1)).code(), StatusCode::kCancelled);
    EXPECT_EQ(shut.stats().last_error.code(), StatusCode::kCancelled);
}

TEST_F(ReadyTest, TimeoutsOfAnySizeMeanWhatTheySay) {
    Subscription subscription = Subscribe();
    EXPECT_EQ(subscription.WaitReady(milliseconds(-1)).code(), StatusCode::kDeadlineExceeded);
    EXPECT_EQ(subscription.WaitReady(milliseconds::min()).code(), StatusCode::kDeadlineExceeded);
    Settle();
    EXPECT_TRUE(subscription.WaitReady(milliseconds::max()).ok());
    EXPECT_TRUE(subscription.WaitReady(milliseconds::min()).ok());
}

TEST_F(ReadyTest, APullConsumerIsReadyInTheSameWay) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    PullConsumer consumer = client.MakePullConsumer(options).value();
    EXPECT_THAT(TextOf(consumer.WaitReady(kNow)), HasSubstr("subject s, group g: not ready"));
    Settle();
    EXPECT_TRUE(consumer.WaitReady(kNow).ok());
    broker().SetConnectError(Status::PermissionDenied("no"));
    broker().Cut();
    Advance(seconds(1));
    EXPECT_EQ(consumer.WaitReady(hours(1)).code(), StatusCode::kPermissionDenied);
    (void)consumer.Close(kNow);
    EXPECT_EQ(consumer.WaitReady(hours(1)).code(), StatusCode::kCancelled);
}

// Threads: those that wait are woken by what another thread does.
class ReadyThreadsTest : public ReadyTest {
protected:
    std::future<Status> Wait(Subscription subscription) {
        return std::async(std::launch::async, [subscription]() mutable {
            return subscription.WaitReady(milliseconds::max());
        });
    }
};

TEST_F(ReadyThreadsTest, AWaiterIsWokenWhenTheSubscriptionBecomesReady) {
    std::future<Status> waiting = Wait(Subscribe());
    Settle();
    EXPECT_TRUE(waiting.get().ok());
}

TEST_F(ReadyThreadsTest, AWaiterIsWokenWhenItIsRefusedForGood) {
    broker().SetConnectError(Status::PermissionDenied("no"));
    std::future<Status> waiting = Wait(Subscribe());
    Settle();
    EXPECT_EQ(waiting.get().code(), StatusCode::kPermissionDenied);
}

TEST_F(ReadyThreadsTest, AWaiterIsWokenWhenTheSubscriptionIsClosed) {
    broker().SetConnectable(false);
    Subscription subscription = Subscribe();
    std::future<Status> waiting = Wait(subscription);
    (void)subscription.Close(kNow);
    EXPECT_EQ(waiting.get().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace qmq
