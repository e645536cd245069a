#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "qmq/random.h"

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

class ConsumerTest : public testing::ClientFixture {
protected:
    ConsumerTest() : client(MakeClient()) {}

    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return MakeSubscription(client, std::move(options), std::move(handler));
    }
    Subscription Collect(SubscriptionOptions options = Consumer()) {
        return Subscribe(std::move(options),
                         [this](const Message& message) { seen.push_back(Body(message)); });
    }
    std::vector<AckItem> AcksOf(AckVerdict verdict) {
        std::vector<AckItem> items;
        for (const AckItem& item : broker().acks()) {
            if (item.verdict == verdict) {
                items.push_back(item);
            }
        }
        return items;
    }

    Client client;
    std::vector<std::string> seen;
    std::vector<Delivery> kept;
};

TEST_F(ConsumerTest, EveryMessageIsHandledAndAcked) {
    Subscription subscription = Collect();
    Append(100);
    Settle();
    EXPECT_THAT(seen, SizeIs(100));
    EXPECT_EQ(broker().acked_count(), 100U);
    EXPECT_EQ(broker().held_count(), 0U);
    const auto stats = subscription.stats();
    EXPECT_EQ(stats.delivered_count, 100U);
    EXPECT_EQ(stats.acked_count, 100U);
    EXPECT_EQ(stats.failed_count, 0U);
    EXPECT_TRUE(stats.connected);
}

TEST_F(ConsumerTest, ABacklogIsConsumedThroughManyCreditWindows) {
    Append(5'000);
    SubscriptionOptions options = Consumer();
    options.prefetch_count = 100;
    Subscription subscription = Collect(options);
    EXPECT_THAT(seen, SizeIs(5'000));
    EXPECT_EQ(broker().acked_count(), 5'000U);
    EXPECT_LE(broker().granted_messages(), 5'000U + 100U);
}

TEST_F(ConsumerTest, AcksTravelAsRanges) {
    Append(1'000);
    SubscriptionOptions options = Consumer();
    options.prefetch_count = 1'000;
    Subscription subscription = Collect(options);
    EXPECT_EQ(broker().acked_count(), 1'000U);
    EXPECT_LE(broker().acks().size(), 10U);
}

TEST_F(ConsumerTest, NoMoreThanThePrefetchIsInHand) {
    SubscriptionOptions options = Consumer();
    options.prefetch_count = 10;
    auto made = client.Subscribe(
        options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(100);
    Settle();
    EXPECT_THAT(kept, SizeIs(10));
    kept.clear();
    Advance(milliseconds(1));
    EXPECT_THAT(kept, SizeIs(10));
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(ConsumerTest, PrefetchedBytesAreBoundedToo) {
    SubscriptionOptions options = Consumer();
    options.prefetch_bytes = 64 << 10;
    auto made = client.Subscribe(
        options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    for (int i = 0; i < 50; ++i) {
        broker().Append(Message("s").SetBody(std::string(30 << 10, 'x')));
    }
    Settle();
    EXPECT_LE(kept.size(), 3U);
    EXPECT_GE(kept.size(), 2U);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(ConsumerTest, AHandlerThatThrowsGetsTheMessageAgainWithItsText) {
    int tries = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message& message) {
        EXPECT_EQ(message.attempt(), static_cast<std::uint32_t>(++tries));
        if (tries < 3) {
            throw std::runtime_error("not this time");
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(tries, 3);
    const auto retries = AcksOf(AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(2));
    EXPECT_EQ(retries[0].error, "not this time");
    EXPECT_FALSE(retries[0].delay.has_value());
    EXPECT_EQ(subscription.stats().failed_count, 2U);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(ConsumerTest, AnythingThatIsThrownIsCaught) {
    int tries = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) {
        if (++tries == 1) {
            throw 42;
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(tries, 2);
    EXPECT_THAT(AcksOf(AckVerdict::kRetry)[0].error, HasSubstr("no std::exception"));
}

TEST_F(ConsumerTest, RetryLaterNamesItsDelay) {
    int tries = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) {
        if (++tries == 1) {
            throw RetryLater(minutes(10), "the seat map is locked");
        }
    });
    Append(1);
    Advance(seconds(1));
    const auto retries = AcksOf(AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(1));
    EXPECT_EQ(retries[0].delay, minutes(10));
    EXPECT_EQ(retries[0].error, "the seat map is locked");
    EXPECT_THAT(log, IsEmpty());
}

TEST_F(ConsumerTest, ARetryTooFarAwayComesByTheBackoffAndSaysSo) {
    int tries = 0;
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) {
        if (++tries == 1) {
            throw RetryLater(hours(24 * 8));
        }
    });
    Append(1);
    Advance(seconds(1));
    const auto retries = AcksOf(AckVerdict::kRetry);
    ASSERT_THAT(retries, SizeIs(1));
    EXPECT_FALSE(retries[0].delay.has_value());
    EXPECT_THAT(retries[0].error, HasSubstr("7 days"));
    EXPECT_TRUE(Logged("7 days"));
}

TEST_F(ConsumerTest, RejectGoesToTheDeadLettersAtOnce) {
    Subscription subscription =
        Subscribe(Consumer(), [&](const Message&) { throw Reject("no such order"); });
    broker().Append(Message("s").SetId("m1"));
    Advance(seconds(1));
    EXPECT_THAT(broker().dead_letters(), ElementsAre(Pair("m1", "no such order")));
}

TEST_F(ConsumerTest, WhenTheAttemptsAreUsedUpItIsADeadLetter) {
    SubscriptionOptions options = Consumer();
    options.retry.max_attempts = 3;
    int tries = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        ++tries;
        throw std::runtime_error("never");
    });
    broker().Append(Message("s").SetId("m1"));
    Advance(seconds(1));
    EXPECT_EQ(tries, 3);
    EXPECT_THAT(broker().dead_letters(), ElementsAre(Pair("m1", "never")));
}

TEST_F(ConsumerTest, AnErrorTextIsCutAtWholeCharacters) {
    std::string text(4'095, 'x');
    text += "\xC3\xA4\xC3\xA4";
    Subscription subscription = Subscribe(Consumer(), [&](const Message&) { throw Reject(text); });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(broker().dead_letters()[0].second, std::string(4'095, 'x'));
}

TEST_F(ConsumerTest, AnOutcomeHandlerSaysItWithoutThrowing) {
    int calls = 0;
    auto made = client.Subscribe(Consumer(), [&](const Message& message) {
        ++calls;
        if (message.body() == "0") {
            return HandlerOutcome::DeadLetter("bad");
        }
        if (message.body() == "1" && message.attempt() == 1) {
            return HandlerOutcome::Retry(seconds(3), "later");
        }
        return HandlerOutcome::Ack();
    });
    Append(3);
    Advance(seconds(1));
    EXPECT_EQ(calls, 4);
    EXPECT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].delay, seconds(3));
}

TEST_F(ConsumerTest, AManualDeliveryIsAckedWhenTheApplicationSaysSo) {
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(3);
    Settle();
    ASSERT_THAT(kept, SizeIs(3));
    EXPECT_EQ(broker().acked_count(), 0U);
    std::vector<std::string> told;
    const auto tell = [&told](const Status& status) { told.emplace_back(ToString(status.code())); };
    kept[1].Ack(tell);
    kept[1].Nack("too late", tell);
    kept[0].Nack("failed", tell);
    EXPECT_THAT(told, IsEmpty());
    Advance(milliseconds(1));
    EXPECT_THAT(told, ::testing::UnorderedElementsAre("ok", "not found", "ok"));
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].error, "failed");
    kept.clear();
}

TEST_F(ConsumerTest, AForgottenDeliveryIsRetried) {
    int tries = 0;
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (++tries == 2) {
            delivery.Ack();
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(tries, 2);
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].error, "forgotten");
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].delay, milliseconds(0));  // Not by the back-off.
}

TEST_F(ConsumerTest, AManualHandlerThatThrowsIsRetriedWithItsText) {
    int tries = 0;
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (++tries == 1) {
            throw std::runtime_error("broken");
        }
        delivery.Ack();
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(tries, 2);
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].error, "broken");
}

TEST_F(ConsumerTest, ADeliveryLostInAnExceptionThatTheHandlerCaughtIsForgotten) {
    int tries = 0;
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (++tries == 1) {
            try {
                Delivery inner = std::move(delivery);
                throw std::runtime_error("inside");
            } catch (const std::exception&) {
            }
            return;
        }
        delivery.Ack();
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(tries, 2);
    EXPECT_EQ(AcksOf(AckVerdict::kRetry)[0].error, "forgotten");
}

TEST_F(ConsumerTest, ARetryInTooFarAwayIsToldSo) {
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (delivery.message().attempt() > 1) {
            delivery.Ack();
            return;
        }
        delivery.RetryIn(hours(24 * 30), "later", [this](const Status& status) {
            seen.emplace_back(ToString(status.code()));
        });
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("invalid argument"));
}

TEST_F(ConsumerTest, ManualRejectGoesToTheDeadLetters) {
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) { delivery.Reject("bad"); });
    broker().Append(Message("s").SetId("m1"));
    Advance(seconds(1));
    EXPECT_THAT(broker().dead_letters(), ElementsAre(Pair("m1", "bad")));
}

TEST_F(ConsumerTest, AMessageForAnotherGroupIsAckedAndSkipped) {
    Subscription subscription = Collect();
    // Other clients set this property; the setter keeps applications from doing so.
    for (const char* group : {"g", "other"}) {
        broker().AppendForGroup("s", group);
    }
    Settle();
    EXPECT_THAT(seen, ElementsAre("g"));
    EXPECT_EQ(broker().acked_count(), 2U);
}

TEST_F(ConsumerTest, WhatCannotBeDecodedIsADeadLetterWithTheReason) {
    Subscription subscription = Collect();
    broker().AppendUndecodable("s");
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(1));
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_THAT(broker().dead_letters()[0].second, HasSubstr("crc"));
    EXPECT_TRUE(Logged("dead letters"));
}

TEST_F(ConsumerTest, LeasesAreRenewedWhileAHandlerRuns) {
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(3);
    Advance(minutes(5));
    const auto renewals = AcksOf(AckVerdict::kRenew);
    EXPECT_GE(renewals.size(), 14U);
    EXPECT_EQ(renewals.back().first, 0U);
    EXPECT_EQ(renewals.back().last, 2U);
    kept[1].Ack();
    Advance(minutes(1));
    EXPECT_EQ(AcksOf(AckVerdict::kRenew).back().first, 2U);
    client.Shutdown(milliseconds(0));
    kept.clear();
}

TEST_F(ConsumerTest, BeyondItsProcessingTimeAMessageIsGivenUp) {
    SubscriptionOptions options = Consumer();
    options.ack_timeout = seconds(30);
    options.max_processing_time = minutes(2);
    auto made = client.Subscribe(
        options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Advance(seconds(131));
    ASSERT_GE(kept.size(), 2U);
    EXPECT_EQ(kept[1].message().attempt(), 2U);
    EXPECT_THAT(AcksOf(AckVerdict::kRetry)[0].error, HasSubstr("max_processing_time"));
    std::string told;
    kept[0].Ack([&](const Status& status) { told = ToString(status.code()); });
    kept[1].Ack();
    Advance(milliseconds(1));
    EXPECT_EQ(told, "not found");
    EXPECT_EQ(broker().acked_count(), 1U);
    kept.clear();
}

TEST_F(ConsumerTest, AfterALostConnectionWhatIsStillHeldIsAckedAndNotHandledAgain) {
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(5);
    Settle();
    broker().Cut();
    for (Delivery& delivery : kept) {
        delivery.Ack();
    }
    Advance(seconds(1));
    EXPECT_THAT(kept, SizeIs(5));
    EXPECT_EQ(broker().acked_count(), 5U);
    ASSERT_THAT(broker().subscribes(), SizeIs(2));
    EXPECT_EQ(broker().subscribes()[1].resume->next_pull_sequence, 5U);
    EXPECT_EQ(broker().subscribes()[1].resume->incarnation, 1U);
    kept.clear();
}

TEST_F(ConsumerTest, AfterALostConnectionWhatIsNotOursIsNotAcked) {
    broker().SetKeepHeld(false);
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(3);
    Settle();
    broker().Cut();
    Advance(seconds(1));
    ASSERT_THAT(kept, SizeIs(6));
    std::vector<std::string> told;
    for (std::size_t i = 0; i < 3; ++i) {
        kept[i].Ack([&](const Status& status) { told.emplace_back(ToString(status.code())); });
    }
    Advance(milliseconds(10));
    EXPECT_THAT(told, ElementsAre("not found", "not found", "not found"));
    // The numbers are used again: an old ack must not have touched the new messages.
    EXPECT_EQ(broker().acked_count(), 0U);
    EXPECT_EQ(broker().held_count(), 3U);
    for (std::size_t i = 3; i < 6; ++i) {
        kept[i].Ack();
    }
    Advance(milliseconds(10));
    EXPECT_EQ(broker().acked_count(), 3U);
    kept.clear();
}

TEST_F(ConsumerTest, AnAckWhoseAnswerWasLostIsSentAgain) {
    broker().SetHoldAcks(true);
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Settle();
    std::string told;
    kept[0].Ack([&](const Status& status) { told = ToString(status.code()); });
    Advance(milliseconds(1));
    EXPECT_EQ(told, "");
    broker().SetHoldAcks(false);
    broker().Cut();
    Advance(seconds(1));
    EXPECT_THAT(AcksOf(AckVerdict::kAck), SizeIs(2));
    // It was recorded the first time, but the client cannot know that.
    EXPECT_EQ(told, "unavailable");
    kept.clear();
}

TEST_F(ConsumerTest, AcksThatTheBrokerDoesNotTakeNowAreRepeated) {
    Subscription subscription = Collect();
    broker().SetAckError(Status::ResourceExhausted("busy"));
    Append(10);
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 0U);
    broker().SetAckError(Status::Ok());
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 10U);
    EXPECT_THAT(seen, SizeIs(10));
}

TEST_F(ConsumerTest, AckingGoesOnThroughManyCutsWithoutLoss) {
    SubscriptionOptions options = Consumer();
    options.prefetch_count = 20;
    std::set<std::string> bodies;
    Subscription subscription =
        Subscribe(options, [&](const Message& message) { bodies.insert(Body(message)); });
    Random random(9);
    for (int i = 0; i < 200; ++i) {
        Append(10);
        if (random.Chance(0.3)) {
            broker().SetKeepHeld(random.Chance(0.5));
            broker().Cut();
        }
        Advance(milliseconds(static_cast<int>(random.Below(40))));
    }
    Advance(minutes(1));
    EXPECT_THAT(bodies, SizeIs(2'000));
    EXPECT_EQ(broker().acked_count(), 2'000U);
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_F(ConsumerTest, PauseTakesNoMoreAndResumeGoesOn) {
    Subscription subscription = Collect();
    Append(5);
    Settle();
    subscription.Pause();
    Append(50);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(5));
    EXPECT_EQ(broker().held_count(), 0U);
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(55));
    EXPECT_EQ(broker().acked_count(), 55U);
}

TEST_F(ConsumerTest, StartPausedTakesNothing) {
    SubscriptionOptions options = Consumer();
    options.start_paused = true;
    Subscription subscription = Collect(options);
    Append(5);
    Advance(seconds(1));
    EXPECT_EQ(broker().granted_messages(), 0U);
    subscription.Resume();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(5));
}

TEST_F(ConsumerTest, PauseAndResumeStormsLoseNoWakeUp) {
    Subscription subscription = Collect();
    for (int i = 0; i < 100; ++i) {
        subscription.Pause();
        Append(3);
        if (i % 3 == 0) {
            Settle();
        }
        subscription.Resume();
    }
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(300));
}

TEST_F(ConsumerTest, AtMostOnceAcksBeforeTheHandlerSeesAMessage) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    std::uint64_t acked = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        acked = broker().acked_count();
        throw std::runtime_error("lost");
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(acked, 1U);
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_F(ConsumerTest, AtMostOnceHandlesNothingWhoseAckWasNotConfirmed) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    broker().SetHoldAcks(true);
    Subscription subscription = Collect(options);
    Append(3);
    Settle();
    EXPECT_THAT(seen, IsEmpty());
    broker().Cut();
    broker().SetHoldAcks(false);
    Append(2);
    Advance(seconds(1));
    EXPECT_THAT(seen, ElementsAre("3", "4"));
}

TEST_F(ConsumerTest, AtMostOnceKeepsWithinItsPrefetch) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    options.prefetch_count = 10;
    Subscription subscription = Collect(options);
    Append(1'000);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(1'000));
    EXPECT_LE(broker().granted_messages(), 1'010U);
}

TEST_F(ConsumerTest, BroadcastUsesTheClientsIdAsGroup) {
    SubscriptionOptions options = Consumer("s", "");
    options.broadcast = true;
    Subscription subscription = Collect(options);
    ASSERT_THAT(broker().subscribes(), SizeIs(1));
    EXPECT_EQ(broker().subscribes()[0].key.group, "client-1");
    EXPECT_EQ(broker().subscribes()[0].key.consumer_id, "client-1");
}

TEST_F(ConsumerTest, TheSubscriptionSaysWhatItWants) {
    SubscriptionOptions options = Consumer();
    options.tags = {"x", "y"};
    options.retry.max_attempts = 7;
    options.ack_timeout = seconds(99);
    Subscription subscription = Collect(options);
    const SubscribeRequest request = broker().subscribes()[0];
    EXPECT_EQ(request.filter, (TagFilter{TagMode::kAny, {"x", "y"}}));
    EXPECT_EQ(request.retry, options.retry);
    EXPECT_EQ(request.ack_timeout, seconds(99));
    EXPECT_EQ(request.start, StartPosition::kEarliest);
    EXPECT_FALSE(request.resume.has_value());
}

TEST_F(ConsumerTest, MessagesOfEveryBrokerGroupCome) {
    cluster.AddBroker("b");
    Subscription subscription = Collect();
    broker("a").Append(Message("s").SetBody("from a"));
    broker("b").Append(Message("s").SetBody("from b"));
    Settle();
    EXPECT_THAT(seen, ::testing::UnorderedElementsAre("from a", "from b"));
}

TEST_F(ConsumerTest, ABrokerGroupThatJoinsIsSubscribedAndOneThatLeavesIsLeft) {
    Subscription subscription = Collect();
    cluster.AddBroker("b");
    Advance(seconds(61));
    EXPECT_EQ(broker("b").subscriber_count(), 1U);
    cluster.RemoveBroker("a");
    Advance(seconds(61));
    EXPECT_EQ(broker("a").subscriber_count(), 0U);
    broker("b").Append(Message("s").SetBody("x"));
    Settle();
    EXPECT_THAT(seen, ElementsAre("x"));
}

TEST_F(ConsumerTest, ASubscriptionIsMadeForEverWhateverFailsFirst) {
    cluster.SetDiscoverError(Status::Unavailable("meta is away"));
    Subscription subscription = Collect();
    EXPECT_FALSE(subscription.stats().connected);
    Advance(minutes(30));
    cluster.SetDiscoverError(Status::Ok());
    broker().SetConnectError(Status::Unavailable("refused"));
    Advance(minutes(30));
    broker().SetConnectError(Status::Ok());
    Append(1);
    Advance(seconds(10));
    EXPECT_THAT(seen, SizeIs(1));
    // Half an hour of failures is a handful of lines, not a storm.
    EXPECT_LT(log.size(), 40U);
}

TEST_F(ConsumerTest, AnExecutorThatIsFullGetsTheMessagesLater) {
    class Refusing final : public Executor {
    public:
        explicit Refusing(Executor& inner) : inner_(inner) {}
        bool Post(Task task) override {
            ++asked;
            if (mode == 1) {
                return false;
            }
            if (mode == 2) {
                throw std::runtime_error("executor");
            }
            return inner_.Post(std::move(task));
        }
        TimerId PostAt(TimePoint when, Task task) override {
            return inner_.PostAt(when, std::move(task));
        }
        bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }
        int mode = 1;
        int asked = 0;

    private:
        Executor& inner_;
    };
    Refusing executor(time.executor);
    SubscriptionOptions options = Consumer();
    options.executor = &executor;
    Subscription subscription = Collect(options);
    Append(20);
    Advance(seconds(5));
    EXPECT_THAT(seen, IsEmpty());
    EXPECT_GT(executor.asked, 5);
    EXPECT_LT(executor.asked, 2'000);
    executor.mode = 2;
    Advance(seconds(5));
    EXPECT_THAT(seen, IsEmpty());
    executor.mode = 0;
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(20));
    client.Shutdown(milliseconds(0));
}

// Its runner was taken for one that is on its way, and the subscription never handled anything more
// and never closed.
TEST_F(ConsumerTest, AnExecutorThatDropsWhatItTookGetsTheMessagesLater) {
    class Dropping final : public Executor {
    public:
        explicit Dropping(Executor& inner) : inner_(inner) {}
        bool Post(Task task) override { return drops || inner_.Post(std::move(task)); }
        TimerId PostAt(TimePoint when, Task task) override {
            return inner_.PostAt(when, std::move(task));
        }
        bool Cancel(TimerId timer) override { return inner_.Cancel(timer); }
        bool drops = true;

    private:
        Executor& inner_;
    };
    Dropping executor(time.executor);
    SubscriptionOptions options = Consumer();
    options.executor = &executor;
    options.parallelism = 1;
    Subscription subscription = Collect(options);
    Append(3);
    Advance(seconds(1));
    EXPECT_THAT(seen, IsEmpty());
    executor.drops = false;
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(3));
    executor.drops = true;
    Append(1);
    Settle();
    (void)subscription.Close(milliseconds(0));
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    client.Shutdown(milliseconds(0));
}

// What was acked on receipt and not handled yet was dropped, in a process that went on.
TEST_F(ConsumerTest, AtMostOnceWhatABrokerGroupThatLeavesHasSentIsHandled) {
    cluster.AddBroker("b");
    testing::ManualExecutor late(time.clock);
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    options.executor = &late;
    Subscription subscription = Collect(options);
    Append(4);
    Advance(seconds(1));
    ASSERT_EQ(broker().acked_count(), 4U);
    cluster.RemoveBroker("a");
    Advance(seconds(120));
    late.RunAll();
    EXPECT_THAT(seen, SizeIs(4));
    Advance(seconds(1));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    client.Shutdown(milliseconds(0));
}

TEST_F(ConsumerTest, CloseAcksHandsBackAndLeaves) {
    SubscriptionOptions options = Consumer();
    auto made = client.Subscribe(
        options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(4);
    Settle();
    kept[0].Ack();
    EXPECT_EQ(made->Close(milliseconds(0)).code(), StatusCode::kDeadlineExceeded);
    kept[1].Ack();
    kept[2].Nack("x");
    kept[3].Ack();
    Advance(milliseconds(10));
    EXPECT_TRUE(made->Close(milliseconds(0)).ok());
    EXPECT_EQ(broker().acked_count(), 3U);
    EXPECT_EQ(broker().subscriber_count(), 0U);
    kept.clear();
}

TEST_F(ConsumerTest, WhatWaitsIsHandedBackOnClose) {
    // The handlers' executor does not run, so nothing is begun.
    testing::ManualExecutor stuck(time.clock);
    SubscriptionOptions options = Consumer();
    options.executor = &stuck;
    options.prefetch_count = 100;
    auto made = client.Subscribe(options, [this](const Message&) { seen.emplace_back("x"); });
    Settle();
    Append(10);
    Settle();
    EXPECT_EQ(made->stats().waiting_count, 10U);
    (void)made->Close(milliseconds(0));
    stuck.RunAll();
    Settle();
    EXPECT_TRUE(made->Close(milliseconds(0)).ok());
    EXPECT_THAT(seen, IsEmpty());
    const auto released = AcksOf(AckVerdict::kRelease);
    ASSERT_FALSE(released.empty());
    EXPECT_EQ(broker().held_count(), 0U);
}

/// Acked on receipt, and no handler runs until the test says so.
class AtMostOnceEndTest : public ConsumerTest {
protected:
    AtMostOnceEndTest() {
        SubscriptionOptions options = Consumer();
        options.at_most_once = true;
        options.executor = &late;
        subscription = Collect(options);
        Append(4);
        Advance(seconds(1));
        EXPECT_EQ(broker().acked_count(), 4U);
    }
    ~AtMostOnceEndTest() override { client.Shutdown(milliseconds(0)); }

    testing::ManualExecutor late{time.clock};
    Subscription subscription;
};

// What was acked and not begun was dropped by an orderly end, which said "drained".
TEST_F(AtMostOnceEndTest, AShutdownHandlesWhatIsAcked) {
    std::optional<ShutdownReport> report;
    client.ShutdownAsync(seconds(10), [&](const ShutdownReport& told) { report = told; });
    Advance(seconds(1));
    EXPECT_FALSE(report.has_value());
    late.RunAll();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(4));
    ASSERT_TRUE(report.has_value());
    EXPECT_TRUE(report->drained);
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_F(AtMostOnceEndTest, TheReportCountsWhatItCouldNotHandle) {
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_EQ(report.deliveries_dropped, 4U);
    EXPECT_EQ(report.deliveries_handed_back, 0U);
    EXPECT_FALSE(report.drained);
    late.RunAll();
    EXPECT_THAT(seen, IsEmpty());
}

TEST_F(AtMostOnceEndTest, CloseHandlesWhatIsAckedAndTakesNoMore) {
    const Status closed = subscription.Close(milliseconds(0));
    EXPECT_EQ(closed.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(closed.message()), HasSubstr("4 messages wait"));
    Append(3);
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 4U);
    late.RunAll();
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(4));
    EXPECT_TRUE(subscription.Close(milliseconds(0)).ok());
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_F(ConsumerTest, CloseFromItsOwnHandlerGoesOnInTheBackground) {
    Subscription subscription;
    int calls = 0;
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        ++calls;
        EXPECT_TRUE(subscription.Close(hours(1)).ok());
    });
    subscription = *made;
    Append(10);
    Advance(milliseconds(10));
    EXPECT_GE(calls, 1);
    EXPECT_TRUE(subscription.Close(milliseconds(0)).ok());
    EXPECT_EQ(broker().acked_count(), static_cast<std::uint64_t>(calls));
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_F(ConsumerTest, ShutdownReportsWhatIsLeft) {
    broker().SetHoldAcks(true);
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(3);
    Settle();
    kept[0].Ack();
    Advance(milliseconds(1));
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_FALSE(report.drained);
    EXPECT_EQ(report.acks_unconfirmed, 1U);
    EXPECT_EQ(report.handlers_running, 0U);
    std::string told;
    kept[1].Ack([&](const Status& status) { told = ToString(status.code()); });
    Settle();
    EXPECT_EQ(told, "");  // Nothing is called after Shutdown.
    kept.clear();
}

TEST_F(ConsumerTest, AnAckThatWaitsAtShutdownIsToldCancelled) {
    broker().SetHoldAcks(true);
    auto made = client.Subscribe(
        Consumer(), [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Settle();
    std::string told;
    kept[0].Ack([&](const Status& status) { told = ToString(status.code()); });
    Advance(milliseconds(1));
    client.Shutdown(milliseconds(0));
    EXPECT_EQ(told, "cancelled");
    kept.clear();
}

TEST_F(ConsumerTest, ALogSinkThatThrowsIsIsolated) {
    auto client_options = Options();
    client_options.client_id = "client-2";
    client_options.log = [](LogLevel, std::string_view) { throw std::runtime_error("log"); };
    Client other = MakeClient(std::move(client_options));
    auto made = other.Subscribe(Consumer(),
                                [this](const Message& message) { seen.push_back(Body(message)); });
    broker().AppendUndecodable("s");
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(ConsumerTest, TwoProcessesWithOneClientIdAreTold) {
    Subscription subscription = Collect();
    broker().Cut();
    broker().CloseStreams(Status::AlreadyExists("subscribed elsewhere"));
    Advance(seconds(1));
    broker().CloseStreams(Status::AlreadyExists("subscribed elsewhere"));
    Settle();
    EXPECT_TRUE(Logged("client-1"));
    Append(1);
    Advance(seconds(5));
    EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(ConsumerTest, OneSeedGivesOneRun) {
    const auto run = [this](std::uint64_t seed) {
        testing::ManualTime other_time;
        testing::FakeCluster other(&other_time.executor);
        testing::FakeBroker& only = other.AddBroker("a");
        auto options = Options();
        options.transports = {other.factory()};
        options.runtime = {&other_time.clock,
                           &other_time.executor,
                           &other_time.executor,
                           &other_time.executor,
                           seed};
        Client one = MakeClient(std::move(options));
        Producer producer = MakeProducer(one);
        auto made = one.Subscribe(Consumer(), [](const Message&) {});
        for (int i = 0; i < 50; ++i) {
            (void)producer.Send(Message("s").SetBody(std::to_string(i)));
            if (i % 10 == 9) {
                only.Cut();
            }
            other_time.Advance(milliseconds(7));
        }
        other_time.Advance(seconds(10));
        std::string trace;
        for (const auto& stored : only.stored()) {
            trace += stored.id + ",";
        }
        return trace;
    };
    EXPECT_EQ(run(5), run(5));
    EXPECT_NE(run(5), run(6));
}

}  // namespace
}  // namespace qmq
