// What a client that shuts down leaves to the other members of its groups, and what its report says
// of that.

#include <gmock/gmock.h>

#include <optional>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class HandedBackTest : public testing::ClientFixture {
protected:
    HandedBackTest() : client(MakeClient()), other(MakeClient(Options("client-2"))) {}

    /// So many messages at hand, and none of them begun until `late` runs.
    Subscription Hold(int count, Handler handler) {
        Append(count);
        return MakeSubscription(client, OneHandler(count), std::move(handler));
    }
    SubscriptionOptions OneHandler(int prefetch_count) {
        SubscriptionOptions options = Consumer();
        options.executor = &late;
        options.parallelism = 1;
        // And no more: what goes back does not come here again.
        options.prefetch_count = static_cast<std::uint32_t>(prefetch_count);
        return options;
    }
    Handler Keep() {
        return [this](Delivery delivery) { kept.push_back(std::move(delivery)); };
    }
    PullConsumer MakePuller() {
        PullConsumerOptions options;
        options.subject = "s";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        PullConsumer puller = client.MakePullConsumer(options).value();
        Settle();
        return puller;
    }
    /// The other client handles whatever comes to it.
    Subscription Join() {
        return MakeSubscription(other, Consumer(), [this](const Message& message) {
            came.push_back(Body(message) + ", attempt " + std::to_string(message.attempt()));
        });
    }
    void ShutDown(milliseconds timeout) {
        client.ShutdownAsync(timeout, [this](const ShutdownReport& told) { report = told; });
    }

    testing::ManualExecutor late{time.clock};
    std::vector<std::string> came;
    std::optional<ShutdownReport> report;
    Client client;
    Client other;
    std::vector<Delivery> kept;
};

TEST_F(HandedBackTest, WhatWasNotBegunIsCountedAndOthersHaveItAtOnceWithoutAnAttemptLess) {
    Subscription mine = Hold(3, [](const Message&) {});
    Subscription others = Join();
    ASSERT_THAT(came, IsEmpty());
    ShutDown(seconds(10));
    Settle();  // No time passes.
    EXPECT_THAT(came, UnorderedElementsAre("0, attempt 1", "1, attempt 1", "2, attempt 1"));
    EXPECT_FALSE(report.has_value());
    late.RunAll();
    Settle();
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->deliveries_handed_back, 3U);
    EXPECT_EQ(report->acks_unconfirmed, 0U);
    EXPECT_EQ(report->deliveries_undecided, 0U);
    EXPECT_FALSE(report->drained);
    EXPECT_EQ(broker().acked_count(), 3U);
}

TEST_F(HandedBackTest, OthersDoNotWaitForAHandlerThatStillRuns) {
    std::vector<std::string> meanwhile;
    Subscription mine = Hold(4, [&](const Message&) {
        ShutDown(seconds(10));
        Settle();
        meanwhile = came;
    });
    Subscription others = Join();
    late.RunAll();
    EXPECT_THAT(meanwhile, UnorderedElementsAre("1, attempt 1", "2, attempt 1", "3, attempt 1"));
    Settle();
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->deliveries_handed_back, 3U);
    EXPECT_EQ(report->handlers_running, 0U);
    EXPECT_THAT(came, SizeIs(3));
    EXPECT_EQ(broker().acked_count(), 4U);
}

TEST_F(HandedBackTest, WithoutAnyTimeItIsHandedBackAllTheSame) {
    Subscription mine = Hold(3, [](const Message&) {});
    Subscription others = Join();
    const ShutdownReport ended = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ended.deliveries_handed_back, 3U);
    EXPECT_FALSE(ended.drained);
    Settle();
    EXPECT_THAT(came, UnorderedElementsAre("0, attempt 1", "1, attempt 1", "2, attempt 1"));
}

TEST_F(HandedBackTest, WhatCameTooLateForAPullIsHandedBackToo) {
    PullConsumer puller = MakePuller();
    (void)puller.PullAsync({.max_messages = 3, .max_wait = milliseconds(0)},
                           [](const Result<std::vector<Delivery>>&) {});
    Append(3);
    Settle();
    Subscription others = Join();
    ASSERT_THAT(came, IsEmpty());
    ShutDown(seconds(10));
    Settle();
    EXPECT_THAT(came, UnorderedElementsAre("0, attempt 1", "1, attempt 1", "2, attempt 1"));
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->deliveries_handed_back, 3U);
    EXPECT_EQ(report->deliveries_undecided, 0U);
    EXPECT_FALSE(report->drained);
}

TEST_F(HandedBackTest, WhatTheApplicationHasNotDecidedComesAgainToOthers) {
    Subscription mine = Hold(3, Keep());
    late.RunAll();
    ASSERT_THAT(kept, SizeIs(3));
    kept[1].Ack();
    Advance(milliseconds(1));
    Subscription others = Join();
    const ShutdownReport ended = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ended.deliveries_undecided, 2U);
    EXPECT_EQ(ended.deliveries_handed_back, 0U);
    EXPECT_FALSE(ended.drained);
    Settle();
    EXPECT_THAT(came, UnorderedElementsAre(StartsWith("0, "), StartsWith("2, ")));
    kept.clear();  // What is decided from here on counts no more.
    Settle();
    EXPECT_THAT(came, SizeIs(2));
    EXPECT_EQ(broker().acked_count(), 3U);
}

TEST_F(HandedBackTest, WhatWasPulledAndNotDecidedComesAgainToOthers) {
    PullConsumer puller = MakePuller();
    Append(2);
    (void)puller.PullAsync(
        {.max_messages = 2, .max_wait = seconds(1)},
        [this](Result<std::vector<Delivery>> batch) { kept = std::move(*batch); });
    Settle();
    ASSERT_THAT(kept, SizeIs(2));
    Subscription others = Join();
    const ShutdownReport ended = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ended.deliveries_undecided, 2U);
    EXPECT_EQ(ended.deliveries_handed_back, 0U);
    Settle();
    EXPECT_THAT(came, UnorderedElementsAre(StartsWith("0, "), StartsWith("1, ")));
}

TEST_F(HandedBackTest, WhatAHandlerIsAtWhenTheTimeIsOverComesAgainToOthers) {
    ShutdownReport ended;
    Subscription mine = Hold(1, [&](const Message&) { ended = client.Shutdown(milliseconds(0)); });
    Subscription others = Join();
    late.RunAll();
    EXPECT_EQ(ended.handlers_running, 1U);
    EXPECT_EQ(ended.deliveries_handed_back, 0U);
    EXPECT_FALSE(ended.drained);
    Settle();
    EXPECT_THAT(came, ElementsAre(StartsWith("0, ")));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(HandedBackTest, AnAckThatCouldNotBeSentIsCounted) {
    Subscription mine = Hold(2, Keep());
    late.RunAll();
    broker().Cut();
    Settle();
    kept.at(0).Ack();
    const ShutdownReport ended = client.Shutdown(milliseconds(0));
    EXPECT_EQ(ended.acks_unconfirmed, 1U);
    EXPECT_EQ(ended.deliveries_undecided, 1U);
    EXPECT_FALSE(ended.drained);
}

TEST_F(HandedBackTest, AtMostOnceWhatOnlyAHandlerInShutdownCouldTakeIsDropped) {
    SubscriptionOptions options = OneHandler(4);
    options.at_most_once = true;
    int handled = 0;
    ShutdownReport ended;
    Append(4);
    Subscription mine = MakeSubscription(client, options, [&](const Message&) {
        ++handled;
        ended = client.Shutdown(seconds(60));  // Nobody is left to be waited for.
    });
    Advance(seconds(1));
    ASSERT_EQ(broker().acked_count(), 4U);
    Subscription others = Join();
    late.RunAll();
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(ended.deliveries_dropped, 3U);
    EXPECT_EQ(ended.deliveries_handed_back, 0U);
    EXPECT_FALSE(ended.drained);
    Advance(seconds(1));
    EXPECT_THAT(came, IsEmpty());
}

}  // namespace
}  // namespace qmq
