#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "qmq/batch.h"

#include "sdk/client/src/receive/delivery_run.h"
#include "tests/unit/client/client_fixture.h"

// What the client says of messages that handlers have begun, so that no other loses an attempt when
// the process dies.

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

/// After this, what a handler has begun must have been told.
constexpr milliseconds kSoon{20};

class BeginTest : public testing::ClientFixture {
protected:
    BeginTest() : client(MakeClient()) {}

    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return MakeSubscription(client, std::move(options), std::move(handler));
    }
    /// Each message stays in a handler's hands.
    Subscription Keep(SubscriptionOptions options = Consumer()) {
        auto made = client.Subscribe(
            options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
        return std::move(*made);
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> Begun() {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
        for (const AckItem& item : broker().acks()) {
            if (item.verdict == AckVerdict::kBegin) {
                ranges.emplace_back(item.first, item.last);
            }
        }
        return ranges;
    }
    void End() {
        client.Shutdown(milliseconds(0));
        kept.clear();
    }

    Client client;
    std::vector<Delivery> kept;
};

TEST_F(BeginTest, AHandlerThatRunsForLongIsToldOnceAndSoon) {
    Subscription subscription = Keep();
    Append(1);
    Advance(kSoon);
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 0)));
    Advance(minutes(10));  // Renewals and timers: nothing more is to be said of it.
    EXPECT_THAT(Begun(), SizeIs(1));
    kept[0].Ack();
    Advance(kSoon);
    EXPECT_THAT(Begun(), SizeIs(1));
    End();
}

TEST_F(BeginTest, AQuickHandlerCostsNoItem) {
    int handled = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) { ++handled; });
    for (int i = 0; i < 50; ++i) {
        Append(7);
        Advance(milliseconds(3));
    }
    Append(5'000);
    Advance(seconds(1));
    EXPECT_EQ(handled, 5'350);
    EXPECT_EQ(broker().acked_count(), 5'350U);
    EXPECT_THAT(Begun(), IsEmpty());
}

TEST_F(BeginTest, AHandlerThatFailsAtOnceCostsNoItem) {
    Subscription subscription =
        Subscribe(Consumer(), [&](const Message&) { throw std::runtime_error("no"); });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(Begun(), IsEmpty());
}

TEST_F(BeginTest, WhatMerelyWaitsIsNotToldOf) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 1;
    std::vector<std::size_t> told;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        Advance(kSoon);
        told.push_back(Begun().size());
    });
    Append(3);  // One is handled, the others are here and wait.
    Advance(seconds(1));
    EXPECT_THAT(told, ElementsAre(1U, 2U, 3U));
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 0), Pair(1, 1), Pair(2, 2)));
}

TEST_F(BeginTest, WhatWaitsBehindAPauseOrAFullExecutorIsNotToldOf) {
    class Full final : public Executor {
    public:
        bool Post(Task) override { return false; }
        TimerId PostAt(TimePoint, Task) override { return 0; }
        bool Cancel(TimerId) override { return false; }
    };
    Full full;
    SubscriptionOptions options = Consumer();
    options.executor = &full;
    Subscription subscription = Subscribe(options, [](const Message&) {});
    Append(3);
    Advance(seconds(15));  // Then they go back.
    EXPECT_EQ(broker().held_count(), 3U);
    EXPECT_THAT(Begun(), IsEmpty());
    End();
}

TEST_F(BeginTest, ItTravelsInFrontOfWhatIsSentAnyway) {
    Subscription subscription = Keep();
    Append(2);
    Settle();
    ASSERT_THAT(kept, SizeIs(2));
    kept[1].Ack();
    Advance(milliseconds(1));  // The ack's own linger.
    const std::vector<AckItem> items = broker().acks();
    ASSERT_THAT(items, SizeIs(2));
    EXPECT_EQ(items[0].verdict, AckVerdict::kBegin);
    EXPECT_EQ(items[0].first, 0U);
    EXPECT_EQ(items[1].verdict, AckVerdict::kAck);
    EXPECT_EQ(items[1].first, 1U);
    End();
}

TEST_F(BeginTest, WhatHasBegunTogetherIsOneItem) {
    SubscriptionOptions options = Consumer();
    options.prefetch_count = 1'000;
    Subscription subscription = Keep(options);
    Append(400);  // Less than half a window, which would be a flush of its own.
    Advance(kSoon);
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 399)));
    End();
}

TEST_F(BeginTest, AfterAReconnectionWhatIsStillHeldIsToldAgain) {
    Subscription subscription = Keep();
    Append(3);
    Advance(kSoon);
    kept[1].Ack();
    Advance(kSoon);
    ASSERT_THAT(Begun(), ElementsAre(Pair(0, 2)));
    broker().Cut();
    Advance(seconds(5));
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 2), Pair(0, 0), Pair(2, 2)));
    End();
}

TEST_F(BeginTest, AClaimThatIsNotOursAnyMoreIsNotReported) {
    BatchBuilder builder;
    for (int i = 0; i < 4; ++i) {
        builder.Add(Message("s").SetBody("x"), std::to_string(i), WallTime(std::chrono::hours(1)));
    }
    auto reader = MessageReader::Make("s", {}, Slice::Own(builder.Finish()), 1, {});
    ASSERT_TRUE(reader.ok()) << reader.status();
    internal::DeliveryRun run(nullptr, std::move(*reader), {10, 13}, 500, 4, TimePoint());
    internal::DeliveryRun::Claim claim;
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(run.Next(std::nullopt, &claim));
    }
    EXPECT_EQ(run.StoredSequence(claim.sequence), 502U);
    EXPECT_EQ(run.TakeProgress().claimed, (internal::SequenceRange{10, 12}));
    EXPECT_FALSE(run.TakeProgress().claimed.has_value());
    run.Disown(11);  // 11 and 12 may soon be the numbers of other messages.
    run.ReportClaimsAgain();
    EXPECT_EQ(run.TakeProgress().claimed, (internal::SequenceRange{10, 10}));
}

TEST_F(BeginTest, AnErrorThatARepeatMayCureRepeatsIt) {
    Subscription subscription = Keep();
    broker().SetAckError(Status::Unavailable("not now"));
    Append(1);
    Advance(kSoon);
    EXPECT_THAT(Begun(), IsEmpty());
    broker().SetAckError(Status::Ok());
    Advance(seconds(1));
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 0)));
    End();
}

TEST_F(BeginTest, ABeginThatIsNotAnsweredKeepsNobodyWaiting) {
    Subscription subscription = Keep();
    Append(1);
    broker().SetHoldAcks(true);
    Advance(kSoon);
    ASSERT_THAT(Begun(), SizeIs(1));
    broker().SetHoldAcks(false);
    kept[0].Ack();
    (void)subscription.Close(milliseconds(0));
    Advance(kSoon);
    EXPECT_EQ(broker().subscriber_count(), 0U);
    EXPECT_EQ(client.Shutdown(milliseconds(0)).acks_unconfirmed, 0U);
}

TEST_F(BeginTest, AtMostOnceHasNothingToTell) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    Subscription subscription = Keep(options);
    Append(3);
    Advance(seconds(1));
    ASSERT_THAT(kept, SizeIs(3));
    EXPECT_THAT(Begun(), IsEmpty());
    End();
}

TEST_F(BeginTest, AtMostOnceAsksForWhatTheSubjectPromises) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    Subscription subscription = Subscribe(options, [](const Message&) {});
    Append(3);
    Advance(seconds(1));
    const std::vector<AckItem> items = broker().acks();
    ASSERT_FALSE(items.empty());
    for (const AckItem& item : items) {
        EXPECT_EQ(item.verdict, AckVerdict::kAck);
        EXPECT_EQ(item.durability, Durability::kDefault);
    }
}

TEST_F(BeginTest, AcksOfHandlersAskForNoMoreThanBefore) {
    Subscription subscription = Subscribe(Consumer(), [](const Message&) {});
    Append(3);
    Advance(seconds(1));
    for (const AckItem& item : broker().acks()) {
        EXPECT_EQ(item.durability, Durability::kMemory);
    }
}

TEST_F(BeginTest, WhatWasPulledCountsAsBegunAndWhatWaitsForAPullDoesNot) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    auto puller = client.MakePullConsumer(options);
    ASSERT_TRUE(puller.ok());
    Settle();
    std::vector<Delivery> pulled;
    const auto take = [&](Result<std::vector<Delivery>> result) {
        for (Delivery& delivery : *result) {
            pulled.push_back(std::move(delivery));
        }
    };
    ASSERT_TRUE(puller->PullAsync({.max_messages = 3, .max_wait = seconds(1)}, take).ok());
    Append(1);
    Append(2);
    Advance(milliseconds(100));
    ASSERT_THAT(pulled, SizeIs(1));
    EXPECT_EQ(broker().held_count(), 3U);
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 0)));
    ASSERT_TRUE(puller->PullAsync({.max_messages = 3, .max_wait = seconds(1)}, take).ok());
    Advance(milliseconds(100));
    EXPECT_THAT(Begun(), ElementsAre(Pair(0, 0), Pair(1, 2)));
    client.Shutdown(milliseconds(0));
    pulled.clear();
}

TEST_F(BeginTest, WhatTheBrokerWarnsOfIsLoggedOnceAndCanBeRead) {
    const std::string warning = "member client-2 asks for other tags";
    broker().SetWarnings({warning});
    Subscription subscription = Subscribe(Consumer(), [](const Message&) {});
    EXPECT_THAT(subscription.warnings(), ElementsAre(warning));
    EXPECT_TRUE(Logged("subject s, group g, broker group a: " + warning));
    const std::size_t lines = log.size();
    broker().CloseStreams(Status::Unavailable("anew"));
    Advance(seconds(5));
    EXPECT_THAT(log, SizeIs(lines));
    broker().SetWarnings({});
    broker().CloseStreams(Status::Unavailable("anew"));
    Advance(seconds(5));
    EXPECT_THAT(subscription.warnings(), IsEmpty());
}

TEST_F(BeginTest, AWarningOfTwoBrokerGroupsIsOneTextAndTwoLines) {
    const std::string warning = "member client-2 asks for other tags";
    cluster.AddBroker("b");
    broker("a").SetWarnings({warning});
    broker("b").SetWarnings({warning});
    Subscription subscription = Subscribe(Consumer(), [](const Message&) {});
    EXPECT_THAT(subscription.warnings(), ElementsAre(warning));
    EXPECT_TRUE(Logged("broker group a: " + warning));
    EXPECT_TRUE(Logged("broker group b: " + warning));
}

}  // namespace
}  // namespace qmq
