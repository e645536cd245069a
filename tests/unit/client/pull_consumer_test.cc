#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "tests/unit/client/pull_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PullConsumerTest : public testing::PullFixture {};

TEST_F(PullConsumerTest, AMessageThatIsThereComesAtOnce) {
    PullConsumer consumer = Make();
    Append(1);
    const auto pulled = Pull(consumer, 50, seconds(60));
    Settle();
    ASSERT_THAT(pulled->deliveries, SizeIs(1));
    pulled->deliveries[0].Ack();
    Advance(milliseconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(PullConsumerTest, APullOfOneWaitsForOneOnly) {
    PullConsumer consumer = Make();
    const auto pulled = Pull(consumer, 1, seconds(60));
    Settle();
    EXPECT_FALSE(pulled->done);
    Append(1);
    Settle();
    EXPECT_THAT(pulled->deliveries, SizeIs(1));
}

TEST_F(PullConsumerTest, NothingInTimeIsAnEmptySuccess) {
    PullConsumer consumer = Make();
    const auto pulled = Pull(consumer, 10, seconds(3));
    Advance(milliseconds(2'999));
    EXPECT_FALSE(pulled->done);
    Advance(milliseconds(1));
    EXPECT_TRUE(pulled->done);
    EXPECT_TRUE(pulled->status.ok()) << pulled->status;
    EXPECT_THAT(pulled->deliveries, IsEmpty());
}

TEST_F(PullConsumerTest, NoMoreIsFetchedThanWasAskedFor) {
    PullConsumer consumer = Make();
    Append(100);
    const auto first = Pull(consumer, 10);
    Settle();
    EXPECT_THAT(first->deliveries, SizeIs(10));
    EXPECT_EQ(broker().granted_messages(), 10U);
    EXPECT_EQ(broker().held_count(), 10U);
    const auto second = Pull(consumer, 7);
    Settle();
    EXPECT_THAT(second->deliveries, SizeIs(7));
    EXPECT_EQ(broker().granted_messages(), 17U);
}

TEST_F(PullConsumerTest, AnUnusedRequestIsNotAskedForTwice) {
    PullConsumer consumer = Make();
    for (int i = 0; i < 5; ++i) {
        (void)Pull(consumer, 10, milliseconds(100));
        Advance(milliseconds(200));
    }
    EXPECT_EQ(broker().granted_messages(), 10U);
}

TEST_F(PullConsumerTest, WhatComesLateWaitsForTheNextPull) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 10, milliseconds(100));
    Advance(milliseconds(200));
    Append(3);
    Settle();
    const auto pulled = Pull(consumer, 10, milliseconds(0));
    Settle();
    EXPECT_THAT(pulled->deliveries, SizeIs(3));
}

TEST_F(PullConsumerTest, WhatNobodyComesForGoesBack) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 10, milliseconds(100));
    Advance(milliseconds(200));
    Append(3);
    Settle();
    EXPECT_EQ(broker().held_count(), 3U);
    Advance(seconds(21));
    bool released = false;
    for (const AckItem& item : broker().acks()) {
        released = released || item.verdict == AckVerdict::kRelease;
    }
    EXPECT_TRUE(released);
}

TEST_F(PullConsumerTest, AZeroWaitAnswersAtOnce) {
    PullConsumer consumer = Make();
    const auto pulled = Pull(consumer, 10, milliseconds(0));
    Settle();
    EXPECT_TRUE(pulled->done);
    EXPECT_THAT(pulled->deliveries, IsEmpty());
}

TEST_F(PullConsumerTest, AZeroWaitAsksForMoreAllTheSame) {
    PullConsumer consumer = Make();
    (void)Pull(consumer, 3, milliseconds(0));
    Append(5);
    Settle();
    EXPECT_EQ(broker().held_count(), 3U);
    const auto pulled = Pull(consumer, 5, milliseconds(0));
    Settle();
    EXPECT_THAT(pulled->deliveries, SizeIs(3));
}

TEST_F(PullConsumerTest, PullsAreServedInTheirOrder) {
    PullConsumer consumer = Make();
    const auto first = Pull(consumer, 2, seconds(60));
    const auto second = Pull(consumer, 2, seconds(60));
    Settle();
    Append(1);
    Settle();
    EXPECT_TRUE(first->done);
    EXPECT_FALSE(second->done);
    Append(1);
    Settle();
    EXPECT_TRUE(second->done);
}

TEST_F(PullConsumerTest, BeyondTheUnackedLimitAPullWaits) {
    auto options = PullFrom("s");
    options.max_unacked_count = 5;
    PullConsumer consumer = Make(options);
    Append(10);
    const auto first = Pull(consumer, 5, minutes(1));
    Settle();
    ASSERT_THAT(first->deliveries, SizeIs(5));
    const auto second = Pull(consumer, 5, minutes(1));
    Advance(seconds(1));
    EXPECT_FALSE(second->done);
    first->deliveries[0].Ack();
    first->deliveries[1].Ack();
    Advance(seconds(1));
    EXPECT_THAT(second->deliveries, SizeIs(::testing::AllOf(::testing::Ge(1U), ::testing::Le(2U))));
    EXPECT_LE(broker().held_count(), 5U);
}

TEST_F(PullConsumerTest, OptionsOutOfRangeAreRefused) {
    PullConsumer consumer = Make();
    for (const std::uint32_t count : {0U, 10'001U}) {
        const auto pulled = Pull(consumer, count);
        Settle();
        EXPECT_EQ(pulled->status.code(), StatusCode::kInvalidArgument);
    }
    for (const milliseconds wait : {milliseconds(-1), milliseconds(hours(1)) + milliseconds(1)}) {
        const auto pulled = Pull(consumer, 1, wait);
        Settle();
        EXPECT_EQ(pulled->status.code(), StatusCode::kInvalidArgument);
    }
}

TEST_F(PullConsumerTest, TheEndsOfTheRangesAreTaken) {
    PullConsumer consumer = Make();
    EXPECT_TRUE(Pull(consumer, 1, milliseconds(0))->status.ok());
    EXPECT_TRUE(Pull(consumer, 10'000, hours(1))->status.ok());
}

TEST_F(PullConsumerTest, WithoutABrokerAPullEndsWithTheReason) {
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    PullConsumer consumer = Make();
    const auto pulled = Pull(consumer, 1, seconds(2));
    Advance(seconds(2));
    EXPECT_EQ(pulled->status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(pulled->status.message()), HasSubstr("meta is away"));
}

TEST_F(PullConsumerTest, APullThatWaitsSurvivesALostConnection) {
    PullConsumer consumer = Make();
    const auto pulled = Pull(consumer, 5, minutes(5));
    Settle();
    broker().Cut();
    Advance(seconds(5));
    Append(1);
    Settle();
    EXPECT_THAT(pulled->deliveries, SizeIs(1));
}

TEST_F(PullConsumerTest, TwoBrokerGroupsAreBothAsked) {
    cluster.AddBroker("b");
    PullConsumer consumer = Make();
    broker("b").Append(Message("s").SetBody("from b"));
    const auto pulled = Pull(consumer, 1, minutes(1));
    Settle();
    ASSERT_THAT(pulled->deliveries, SizeIs(1));
    EXPECT_EQ(pulled->deliveries[0].message().body(), "from b");
}

TEST_F(PullConsumerTest, ADroppedDeliveryIsRetried) {
    PullConsumer consumer = Make();
    Append(1);
    auto pulled = Pull(consumer, 1);
    Settle();
    pulled->deliveries.clear();
    Advance(seconds(1));
    const auto again = Pull(consumer, 1);
    Settle();
    ASSERT_THAT(again->deliveries, SizeIs(1));
    EXPECT_EQ(again->deliveries[0].message().attempt(), 2U);
}

TEST_F(PullConsumerTest, LeasesOfWhatIsOutAreRenewed) {
    PullConsumer consumer = Make();
    Append(1);
    auto pulled = Pull(consumer, 1);
    Advance(minutes(5));
    std::size_t renewals = 0;
    for (const AckItem& item : broker().acks()) {
        renewals += item.verdict == AckVerdict::kRenew ? 1U : 0U;
    }
    EXPECT_GE(renewals, 14U);
    pulled->deliveries[0].Ack();
    Advance(milliseconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(PullConsumerTest, BeyondItsProcessingTimeWhatIsOutIsGivenUp) {
    auto options = PullFrom("s");
    options.ack_timeout = seconds(30);
    options.max_processing_time = minutes(2);
    PullConsumer consumer = Make(options);
    Append(1);
    const auto pulled = Pull(consumer, 1);
    Advance(seconds(131));
    Status told;
    pulled->deliveries.at(0).Ack([&](const Status& status) { told = status; });
    Advance(milliseconds(1));
    EXPECT_EQ(told.code(), StatusCode::kNotFound);
    EXPECT_EQ(broker().acked_count(), 0U);
}

TEST_F(PullConsumerTest, CloseEndsWaitingPullsAndDeliveries) {
    PullConsumer consumer = Make();
    Append(1);
    auto first = Pull(consumer, 1);
    Settle();
    const auto waiting = Pull(consumer, 1, hours(1));
    Settle();
    EXPECT_TRUE(consumer.Close(milliseconds(0)).ok());
    EXPECT_TRUE(consumer.Close(milliseconds(0)).ok());
    Settle();
    EXPECT_EQ(waiting->status.code(), StatusCode::kCancelled);
    Status told;
    first->deliveries[0].Ack([&](const Status& status) { told = status; });
    const auto late = Pull(consumer, 1);
    Settle();
    EXPECT_EQ(told.code(), StatusCode::kCancelled);
    EXPECT_EQ(late->status.code(), StatusCode::kCancelled);
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_F(PullConsumerTest, TheLastHandleLeavesTheGroup) {
    {
        PullConsumer consumer = Make();
        // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): the copy is the point.
        const PullConsumer copy = consumer;
        EXPECT_EQ(broker().subscriber_count(), 1U);
    }
    Settle();
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_TRUE(client.MakePullConsumer(PullFrom("s")).ok());
}

TEST_F(PullConsumerTest, APullFromACallbackIsRefusedInsteadOfWaitingForItself) {
    PullConsumer consumer = Make();
    Append(1);
    Status status;
    const auto pull_again = [&](const Result<std::vector<Delivery>>&) {
        status = consumer.Pull({1, seconds(1)}).status();
    };
    ASSERT_TRUE(consumer.PullAsync({1, seconds(1)}, pull_again).ok());
    Advance(seconds(2));
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
}

TEST_F(PullConsumerTest, ShutdownEndsPulls) {
    PullConsumer consumer = Make();
    const auto waiting = Pull(consumer, 1, hours(1));
    Settle();
    client.Shutdown(milliseconds(0));
    EXPECT_EQ(waiting->status.code(), StatusCode::kCancelled);
    EXPECT_EQ(Pull(consumer, 1)->status.code(), StatusCode::kCancelled);
}

// Each of two pulls that met asked for what both wanted, so messages were held here that others
// could have had.
TEST(PullConsumerThreadsTest, NoMoreIsFetchedThanPullsThatMeetHaveAskedFor) {
    testing::FakeCluster cluster;
    cluster.AddBroker("a");
    ClientOptions client_options;
    client_options.uri = "fake:";
    client_options.app_code = "test";
    client_options.transports = {cluster.factory()};
    Client client = Client::Create(std::move(client_options)).value();
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    std::uint64_t before = 0;
    for (int round = 0; round < 300; ++round) {
        PullConsumer consumer = client.MakePullConsumer(options).value();
        ASSERT_TRUE(consumer.WaitReady(seconds(20)).ok());
        constexpr int kPulls = 4;
        std::atomic<int> ready{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < kPulls; ++i) {
            threads.emplace_back([&] {
                ++ready;
                while (ready < kPulls) {
                    std::this_thread::yield();
                }
                EXPECT_TRUE(consumer
                                .PullAsync({10, seconds(3'600)},
                                           [](const Result<std::vector<Delivery>>&) {})
                                .ok());
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        const std::uint64_t granted = cluster.broker("a").granted_messages();
        ASSERT_LE(granted - before, 10U * kPulls);
        before = granted;
        EXPECT_TRUE(consumer.Close(seconds(20)).ok());
    }
}

TEST(PullConsumerThreadsTest, WhileCloseWaitsWhatIsOutMayBeAcked) {
    testing::FakeCluster cluster;
    cluster.AddBroker("a").Append(Message("s"));
    ClientOptions client_options;
    client_options.uri = "fake:";
    client_options.app_code = "test";
    client_options.transports = {cluster.factory()};
    Client client = Client::Create(std::move(client_options)).value();
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    PullConsumer consumer = client.MakePullConsumer(options).value();
    auto pulled = consumer.Pull({1, seconds(20)});
    ASSERT_TRUE(pulled.ok() && pulled->size() == 1);
    Status closed = Status::Internal("not yet");
    std::thread closer([&] { closed = consumer.Close(seconds(60)); });
    while (consumer.WaitReady(milliseconds(0)).code() != StatusCode::kCancelled) {
        std::this_thread::yield();  // Close has begun.
    }
    (*pulled)[0].Ack();
    closer.join();
    EXPECT_TRUE(closed.ok()) << closed;
    EXPECT_EQ(cluster.broker("a").acked_count(), 1U);
}

}  // namespace
}  // namespace qmq
