#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/unit/client/client_fixture.h"

// What becomes of a delivery that is destroyed without a decision, wherever that happens.

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DeliveryTest : public testing::ClientFixture {
protected:
    DeliveryTest() : client(MakeClient()) {}

    /// Keeps the first delivery of each message in the application's hands, and acks all others.
    Subscription KeepFirst(const std::string& subject = "s") {
        auto made = client.Subscribe(Consumer(subject), [this](Delivery delivery) {
            if (delivery.message().attempt() == 1) {
                kept.push_back(std::move(delivery));
            } else {
                again.push_back(Body(delivery.message()));
                delivery.Ack();
            }
        });
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
        return std::move(*made);
    }
    /// A job that fails with the delivery in its hands, as a worker's loop has it.
    static void FailWith(Delivery delivery) {
        try {
            const Delivery job = std::move(delivery);
            throw std::runtime_error("database is away");
        } catch (const std::exception&) {
        }
    }
    std::vector<std::string> RetryErrors() {
        std::vector<std::string> errors;
        for (const AckItem& item : broker().acks()) {
            if (item.verdict == AckVerdict::kRetry) {
                errors.push_back(item.error);
            }
        }
        return errors;
    }

    Client client;
    std::vector<Delivery> kept;
    std::vector<std::string> again;
};

// A delivery that an exception destroyed on a worker's thread was marked as an orphan, which only
// the runner of its own handler looked at: it was never decided, and held for up to 12 h.
TEST_F(DeliveryTest, LostInAnExceptionAfterItsHandlerHasReturnedItIsRetriedAtOnce) {
    Subscription subscription = KeepFirst();
    Append(1);
    Settle();
    FailWith(std::move(kept.at(0)));
    Advance(milliseconds(10));
    EXPECT_THAT(RetryErrors(), ElementsAre("forgotten"));
    Advance(seconds(1));
    EXPECT_THAT(again, ElementsAre("0"));
    EXPECT_EQ(broker().held_count(), 0U);
    EXPECT_EQ(subscription.stats().failed_count, 1U);
}

TEST_F(DeliveryTest, LostInAnExceptionOnAnotherThreadWhileItsHandlerRunsItIsRetriedAtOnce) {
    std::vector<std::string> errors;
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (delivery.message().attempt() > 1) {
            delivery.Ack();
            return;
        }
        std::thread worker([&] { FailWith(std::move(delivery)); });
        worker.join();
        Advance(milliseconds(10));  // The handler goes on.
        errors = RetryErrors();
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(errors, ElementsAre("forgotten"));
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_F(DeliveryTest, LostInAnExceptionInAnotherHandlerItIsRetriedAtOnce) {
    Subscription subscription = KeepFirst();
    Append(1);
    Settle();
    std::vector<std::string> errors;
    auto other = client.Subscribe(Consumer("other"), [&](const Message&) {
        FailWith(std::move(kept.at(0)));
        Advance(milliseconds(10));  // That handler goes on for long.
        errors = RetryErrors();
    });
    Append(1, "other");
    Advance(seconds(1));
    EXPECT_THAT(errors, ElementsAre("forgotten"));
    EXPECT_THAT(again, ElementsAre("0"));
}

TEST_F(DeliveryTest, LostInAnExceptionInACallbackOfTheClientItIsRetriedAtOnce) {
    Subscription subscription = KeepFirst();
    Append(2);
    Settle();
    // What the completion of one ack throws takes the other delivery with it.
    kept.at(0).Ack([this](const Status&) {
        const Delivery job = std::move(kept.at(1));
        throw std::runtime_error("database is away");
    });
    Advance(seconds(1));
    EXPECT_THAT(RetryErrors(), ElementsAre("forgotten"));
    EXPECT_THAT(again, ElementsAre("1"));
}

// As above, of a pull loop: each exception kept a batch for ever, and its credit with it, until
// `Pull` was "ok, empty" for good.
TEST_F(DeliveryTest, PulledAndLostInAnExceptionItIsRetriedAtOnceAndGivesItsRoomBack) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    options.max_unacked_count = 2;
    auto consumer = client.MakePullConsumer(options);
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    Append(10);
    Settle();
    int handled = 0;
    int failures = 0;
    for (int i = 0; i < 40 && handled < 10; ++i) {
        std::optional<std::vector<Delivery>> batch;
        (void)consumer->PullAsync({.max_messages = 2, .max_wait = milliseconds(100)},
                                  [&](Result<std::vector<Delivery>> result) {
                                      if (result.ok()) {
                                          batch = std::move(*result);
                                      }
                                  });
        Advance(milliseconds(200));
        ASSERT_TRUE(batch.has_value());
        try {
            const std::vector<Delivery> mine = std::move(*batch);
            if (i % 3 == 0 && !mine.empty()) {
                ++failures;
                throw std::runtime_error("database is away");
            }
            for (const Delivery& delivery : mine) {
                const_cast<Delivery&>(delivery).Ack();
                ++handled;
            }
        } catch (const std::exception&) {
        }
    }
    EXPECT_EQ(handled, 10);
    EXPECT_GT(failures, 1);
    Advance(milliseconds(10));
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_F(DeliveryTest, DestroyedWhileItsOwnHandlerUnwindsItHasTheTextOfTheException) {
    auto made = client.Subscribe(Consumer(), [&](Delivery delivery) {
        if (delivery.message().attempt() > 1) {
            delivery.Ack();
            return;
        }
        const Delivery mine = std::move(delivery);
        throw std::runtime_error("broken");
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(RetryErrors(), ElementsAre("broken"));
    EXPECT_EQ(broker().acked_count(), 1U);
}

// The broker said how many of a request were not held, not which: one lost lease made all say "not
// recorded".
TEST_F(DeliveryTest, EachAcksCompletionTellsWhetherThatOneWasRecorded) {
    Subscription subscription = KeepFirst();
    Append(4);
    Settle();
    ASSERT_THAT(kept, SizeIs(4));
    broker().EndLeases(1, 2);
    std::vector<std::string> told(4);
    for (std::size_t i = 0; i < 4; ++i) {
        kept[i].Ack([&told, i](const Status& status) { told[i] = ToString(status.code()); });
    }
    Advance(milliseconds(10));
    EXPECT_THAT(told, ElementsAre("ok", "not found", "not found", "ok"));
    EXPECT_EQ(broker().acked_count(), 2U);
    kept.clear();
}

// A delivery in the application's hands was in no counter: the report said "drained".
TEST_F(DeliveryTest, WhatTheApplicationHasAndDoesNotDecideIsCounted) {
    Subscription subscription = KeepFirst();
    Append(5);
    Settle();
    ASSERT_THAT(kept, SizeIs(5));
    EXPECT_EQ(subscription.stats().undecided_count, 5U);
    EXPECT_EQ(subscription.stats().waiting_count + subscription.stats().running_count, 0U);
    kept[0].Ack();
    kept[1].Nack("no");
    kept[2].Ack();
    kept[2].Ack();  // Counts no more.
    EXPECT_EQ(subscription.stats().undecided_count, 2U);
    Advance(seconds(1));
    EXPECT_EQ(subscription.Close(milliseconds(0)).code(), StatusCode::kDeadlineExceeded);
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_FALSE(report.drained);
    EXPECT_EQ(report.deliveries_undecided, 2U);
    EXPECT_EQ(report.acks_unconfirmed, 0U);
    EXPECT_EQ(report.handlers_running, 0U);
    kept.clear();
}

TEST_F(DeliveryTest, WhatWasPulledAndIsNotDecidedIsCountedInTheReport) {
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    auto consumer = client.MakePullConsumer(options);
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    Settle();
    std::vector<Delivery> pulled;
    (void)consumer->PullAsync(
        {.max_messages = 2, .max_wait = seconds(1)},
        [&](Result<std::vector<Delivery>> result) { pulled = std::move(*result); });
    Append(2);
    Advance(seconds(1));
    ASSERT_FALSE(pulled.empty());
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_FALSE(report.drained);
    EXPECT_EQ(report.deliveries_undecided, pulled.size());
    pulled.clear();
}

TEST_F(DeliveryTest, WhenAllIsDecidedAShutdownIsDrained) {
    Subscription subscription = KeepFirst();
    Append(3);
    Settle();
    kept[0].Ack();
    kept[1].Nack("no");
    kept.clear();  // The third is forgotten.
    Advance(seconds(1));
    const ShutdownReport report = client.Shutdown(milliseconds(0));
    EXPECT_EQ(report.deliveries_undecided, 0U);
    EXPECT_TRUE(report.drained);
}

TEST_F(DeliveryTest, AtMostOnceAReceiptWhoseAnswerWasLostIsSentAgain) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    auto made = client.Subscribe(
        options, [this](const Message& message) { again.push_back(Body(message)); });
    Settle();
    broker().SetAckError(Status::Unavailable("not now"));
    Append(3);
    Advance(milliseconds(50));
    EXPECT_THAT(again, IsEmpty());
    EXPECT_EQ(broker().acked_count(), 0U);
    broker().SetAckError(Status::Ok());
    Advance(seconds(1));
    EXPECT_THAT(again, ElementsAre("0", "1", "2"));
    EXPECT_EQ(broker().acked_count(), 3U);
    EXPECT_EQ(made->stats().acked_count, 3U);
}

// What waited behind hung handlers was given back though it was acked: nobody would have had it.
TEST_F(DeliveryTest, AtMostOnceKeepsWhatWaitsBehindAHungHandler) {
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    options.parallelism = 1;
    options.prefetch_count = 100;
    auto made = client.Subscribe(options, [this](const Message& message) {
        again.push_back(Body(message));
        if (again.size() == 1) {
            Advance(std::chrono::minutes(5));
            EXPECT_EQ(broker().acked_count(), 10U);
        }
    });
    Settle();
    Append(10);
    Advance(seconds(1));
    EXPECT_THAT(again, SizeIs(10));
}

TEST_F(DeliveryTest, AcksGatherForTheLingerAndNoLonger) {
    for (const milliseconds linger : {milliseconds(0), milliseconds(300), milliseconds(1'000)}) {
        SubscriptionOptions options = Consumer("s" + std::to_string(linger.count()));
        options.ack_linger = linger;
        const Subscription subscription = MakeSubscription(
            client, options, [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
        Append(2, options.subject);
        Advance(milliseconds(20));  // That they have begun is told by then.
        ASSERT_THAT(kept, SizeIs(2));
        const std::uint64_t before = broker().acked_count();
        const std::size_t items = broker().acks().size();
        kept[0].Ack();
        Advance(linger / 2);
        kept[1].Ack();
        Advance(linger / 2);
        EXPECT_EQ(broker().acked_count(), before + 2) << linger.count();
        EXPECT_EQ(broker().acks().size(), items + (linger.count() > 0 ? 1 : 2));
        kept.clear();
    }
}

TEST_F(DeliveryTest, OverwrittenByAnotherItIsRetriedAtOnce) {
    Subscription subscription = KeepFirst();
    Append(2);
    Settle();
    try {
        struct Swap {
            ~Swap() { *to = std::move(*from); }  // In the middle of an exception.
            Delivery* to;
            Delivery* from;
        };
        const Swap swap{&kept.at(0), &kept.at(1)};
        throw std::runtime_error("database is away");
    } catch (const std::exception&) {
    }
    Advance(milliseconds(10));
    EXPECT_THAT(RetryErrors(), ElementsAre("forgotten"));
    kept.at(0).Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 2U);
    kept.clear();
}

}  // namespace
}  // namespace qmq
