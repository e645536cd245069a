#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

// What becomes of messages that are here and that no handler has taken yet.

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class WaitingTest : public testing::ClientFixture {
protected:
    WaitingTest() : client(MakeClient()) {}

    static SubscriptionOptions OneHandler() {
        SubscriptionOptions options = Consumer();
        options.parallelism = 1;
        options.prefetch_count = 1'000;
        return options;
    }
    Subscription Subscribe(SubscriptionOptions options, Handler handler) {
        return Subscribe(client, std::move(options), std::move(handler));
    }
    Subscription Subscribe(Client& of, SubscriptionOptions options, Handler handler) {
        return MakeSubscription(of, std::move(options), std::move(handler));
    }
    Client Another() { return MakeClient(Options("client-2")); }
    std::uint64_t CountOf(AckVerdict verdict) {
        std::uint64_t count = 0;
        for (const AckItem& item : broker().acks()) {
            count += item.verdict == verdict ? item.last - item.first + 1 : 0;
        }
        return count;
    }

    Client client;
    std::vector<std::string> seen;
};

// The clock of `max_processing_time` ran from the arrival on: 47 of these 60 became dead letters
// that no handler had seen, with a text that accused the handler.
TEST_F(WaitingTest, GoodMessagesThatWaitForLongerThanAHandlerMayTakeAreHandledOnce) {
    for (const seconds ack_timeout : {seconds(1), seconds(30)}) {
        SubscriptionOptions options = OneHandler();
        options.subject = "s" + std::to_string(ack_timeout.count());
        options.ack_timeout = ack_timeout;
        options.max_processing_time = ack_timeout * 2;
        options.retry.max_attempts = 3;
        std::map<std::string, int> begun;
        std::uint32_t most_attempts = 0;
        Subscription subscription = Subscribe(options, [&](const Message& message) {
            ++begun[Body(message)];
            most_attempts = std::max(most_attempts, message.attempt());
            Advance(ack_timeout / 4);
        });
        Append(60, options.subject);
        Advance(ack_timeout * 30);
        EXPECT_THAT(begun, SizeIs(60));
        for (const auto& [body, count] : begun) {
            EXPECT_EQ(count, 1) << body;
        }
        EXPECT_EQ(most_attempts, 1U);
        EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
        EXPECT_EQ(CountOf(AckVerdict::kRetry), 0U);
        EXPECT_THAT(broker().dead_letters(), IsEmpty());
    }
}

TEST_F(WaitingTest, AlsoWhenEachTakesLongerThanTheyMayWait) {
    SubscriptionOptions options = OneHandler();
    options.ack_timeout = seconds(1);
    options.max_processing_time = seconds(2);
    options.retry.max_attempts = 3;
    std::map<std::string, int> begun;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        ++begun[Body(message)];
        EXPECT_EQ(message.attempt(), 1U);
        Advance(milliseconds(500));
    });
    Append(60);
    Advance(seconds(60));
    EXPECT_THAT(begun, SizeIs(60));
    EXPECT_THAT(broker().dead_letters(), IsEmpty());
    EXPECT_EQ(CountOf(AckVerdict::kRetry), 0U);
    EXPECT_EQ(broker().acked_count(), 60U);
}

TEST_F(WaitingTest, AHandlerThatTakesTooLongIsGivenUpAndWhatWaitsBehindItIsNot) {
    SubscriptionOptions options = OneHandler();
    options.ack_timeout = seconds(30);
    options.max_processing_time = minutes(2);
    std::uint64_t retried = 0;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        seen.push_back(Body(message) + ":" + std::to_string(message.attempt()));
        if (seen.size() == 1) {
            Advance(seconds(131));
            retried = CountOf(AckVerdict::kRetry);
        }
    });
    Append(5);
    Advance(seconds(200));
    EXPECT_EQ(retried, 1U);
    EXPECT_THAT(seen, ::testing::UnorderedElementsAre("0:1", "1:1", "2:1", "3:1", "4:1", "0:2"));
}

TEST_F(WaitingTest, TheClockOfAManualDeliveryRunsFromTheCallOfItsHandler) {
    // The executor takes 100 s to come to the message.
    testing::ManualExecutor late(time.clock);
    SubscriptionOptions options = OneHandler();
    options.executor = &late;
    options.ack_timeout = minutes(10);
    options.max_processing_time = seconds(750);
    std::vector<Delivery> kept;
    auto made =
        client.Subscribe(options, [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(1);
    Advance(seconds(100));
    late.RunAll();
    ASSERT_THAT(kept, SizeIs(1));
    // 810 s since it came: it was looked after each 200 s, the last time at 800 s.
    Advance(seconds(710));
    EXPECT_EQ(CountOf(AckVerdict::kRetry), 0U);
    kept.at(0).Ack();
    Advance(seconds(1));
    EXPECT_EQ(broker().acked_count(), 1U);
    client.Shutdown(milliseconds(0));
}

TEST_F(WaitingTest, WhatWaitsBehindAHungHandlerGoesToAnotherMemberWithoutAnAttempt) {
    Client second = Another();
    std::vector<std::uint32_t> attempts;
    std::optional<Subscription> other;
    Subscription subscription = Subscribe(OneHandler(), [&](const Message&) {
        if (other.has_value()) {
            return;
        }
        other = Subscribe(second, OneHandler(), [&](const Message& message) {
            attempts.push_back(message.attempt());
        });
        Advance(seconds(19));
        EXPECT_THAT(attempts, IsEmpty());  // For a third of the ack time-out they wait.
        Advance(seconds(12));
        EXPECT_THAT(attempts, SizeIs(9));
        EXPECT_EQ(broker().held_count(), 1U);
    });
    Append(10);
    Advance(seconds(1));
    ASSERT_TRUE(other.has_value());
    EXPECT_THAT(attempts, ::testing::Each(1U));
    EXPECT_EQ(broker().acked_count(), 10U);
    EXPECT_EQ(subscription.stats().failed_count, 0U);
}

TEST_F(WaitingTest, WhileAllHandlersHangNoMoreIsTakenAndThenItGoesOn) {
    SubscriptionOptions options = OneHandler();
    options.parallelism = 3;
    int hung = 0;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        seen.push_back(Body(message));
        if (++hung <= 3) {
            Advance(hung == 3 ? minutes(5) : minutes(0));
            if (hung == 3) {
                hung = 100;
                const std::uint64_t released = CountOf(AckVerdict::kRelease);
                EXPECT_GE(released, 47U);
                EXPECT_EQ(broker().held_count(), 3U);
                Append(20);
                Advance(minutes(5));
                EXPECT_EQ(broker().held_count(), 3U);
            }
        }
    });
    Append(50);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(70));
    EXPECT_EQ(broker().acked_count(), 70U);
    EXPECT_EQ(subscription.stats().failed_count, 0U);
}

TEST_F(WaitingTest, WhatAnExecutorDoesNotComeToGoesBackAndComesAgainOnceItRuns) {
    testing::ManualExecutor stuck(time.clock);
    SubscriptionOptions options = OneHandler();
    options.executor = &stuck;
    Subscription subscription =
        Subscribe(options, [&](const Message& message) { seen.push_back(Body(message)); });
    Append(10);
    Advance(minutes(1));
    EXPECT_EQ(broker().held_count(), 0U);
    EXPECT_EQ(subscription.stats().waiting_count, 0U);
    for (int i = 0; i < 5; ++i) {
        stuck.RunAll();
        Advance(milliseconds(10));
    }
    EXPECT_THAT(seen, SizeIs(10));
    client.Shutdown(milliseconds(0));
}

TEST_F(WaitingTest, ACallOfResumeDoesNotTakeMessagesForHandlersThatHang) {
    SubscriptionOptions options = OneHandler();
    Subscription subscription;
    subscription = Subscribe(options, [&](const Message& message) {
        seen.push_back(Body(message));
        if (seen.size() == 1) {
            Advance(minutes(1));
            subscription.Pause();
            subscription.Resume();
            Advance(seconds(1));
            EXPECT_EQ(broker().held_count(), 1U);
        }
    });
    Append(10);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(10));
}

TEST_F(WaitingTest, WhatWaitsIsRenewed) {
    SubscriptionOptions options = OneHandler();
    std::uint64_t last_renewed = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        Advance(seconds(10));  // Some handler takes one every 10 s, so nothing is released.
        for (const AckItem& item : broker().acks()) {
            if (item.verdict == AckVerdict::kRenew) {
                last_renewed = item.last;
            }
        }
    });
    Append(10);
    Advance(minutes(2));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
    EXPECT_EQ(last_renewed, 9U);
    EXPECT_EQ(broker().acked_count(), 10U);
}

// Four hung handlers of one subscription stopped everything, and not a word was in the log.
TEST_F(WaitingTest, ThatAllHandlersAreBusyIsToldAtTenSecondsAndThenAtTwiceTheTime) {
    SubscriptionOptions options = OneHandler();
    options.parallelism = 2;
    options.subject = "busy";
    std::vector<std::size_t> lines;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        if (message.body() == "first") {
            Advance(seconds(0));  // The second one begins, inside of this one.
            return;
        }
        Advance(seconds(5));
        lines.push_back(log.size());
        Advance(seconds(16));
        lines.push_back(log.size());
        Advance(seconds(70));
        lines.push_back(log.size());
    });
    broker().Append(Message("busy").SetBody("first"));
    broker().Append(Message("busy").SetBody("second"));
    Advance(seconds(1));
    ASSERT_THAT(lines, SizeIs(3));
    EXPECT_EQ(lines[0], 0U);
    EXPECT_GE(lines[1], 1U);
    EXPECT_LE(lines[1], 2U);
    EXPECT_LE(lines[2], 4U);
    EXPECT_TRUE(Logged("subject busy, group g: all 2 handlers have been busy for 1"));
    EXPECT_THAT(log, SizeIs(lines[2]));
}

TEST_F(WaitingTest, HowLongAllHandlersHaveBeenBusyIsToldAgainEachTimeAtTwiceTheTime) {
    SubscriptionOptions options = OneHandler();
    options.parallelism = 2;
    options.ack_timeout = seconds(3);  // So it is looked at each second.
    const auto told = [this] {
        return std::count_if(log.begin(), log.end(), [](const std::string& line) {
            return line.find("all 2 handlers have been busy") != std::string::npos;
        });
    };
    int begun = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        if (++begun == 1) {
            Settle();  // The second one begins, inside of this one.
            return;
        }
        const std::vector<std::pair<milliseconds, int>> steps = {
            {milliseconds(9'900), 0},
            {milliseconds(2'100), 1},
            {milliseconds(7'900), 1},
            {milliseconds(2'100), 2},
            {milliseconds(17'900), 2},
            {milliseconds(2'100), 3},
            {milliseconds(37'900), 3},
            {milliseconds(2'100), 4},
        };
        for (const auto& [more, lines] : steps) {
            Advance(more);
            EXPECT_EQ(told(), lines);
        }
    });
    Append(2);
    Settle();
    EXPECT_EQ(begun, 2);
}

TEST_F(WaitingTest, HandlersThatGoOnWithOtherMessagesAreNotCalledBusy) {
    int handled = 0;
    Subscription subscription = Subscribe(OneHandler(), [&](const Message&) {
        ++handled;
        Advance(seconds(9));
    });
    Append(12);
    Settle();
    EXPECT_EQ(handled, 12);
    EXPECT_THAT(log, IsEmpty());
}

// With a handler that ran for a third of the ack time-out, and nothing else to do, the subscription
// took no more until that one returned, however many others were free.
TEST_F(WaitingTest, AHandlerThatTakesLongKeepsNothingFromThoseThatAreFree) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 2;
    Subscription subscription = Subscribe(options, [&](const Message& message) {
        seen.push_back(Body(message));
        if (seen.size() == 1) {
            for (std::size_t round = 1; round <= 3; ++round) {
                Advance(minutes(5));
                Append(1);
                Advance(milliseconds(10));
                EXPECT_THAT(seen, SizeIs(1 + round));
            }
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_THAT(seen, SizeIs(4));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
    EXPECT_EQ(broker().acked_count(), 4U);
    EXPECT_THAT(log, IsEmpty());
}

// Only when as many handlers as `parallelism` ran was it told; an executor with fewer threads hung
// without a word.
TEST_F(WaitingTest, ThatAnExecutorWithFewerThreadsIsBusyIsToldToo) {
    testing::ManualExecutor one_thread(time.clock);
    SubscriptionOptions options = Consumer();
    options.executor = &one_thread;
    options.parallelism = 2;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        Advance(minutes(2));
        EXPECT_TRUE(Logged("no message was begun for 1"));
        EXPECT_TRUE(Logged("1 of 2 handlers are busy"));
        EXPECT_THAT(log, SizeIs(::testing::Le(5U)));
    });
    Append(5);
    Settle();
    EXPECT_TRUE(one_thread.RunOne());
    client.Shutdown(milliseconds(0));
}

// The watch began with the first message, before a handler had taken it, and took that for progress
// at its first look: it was told at 20 s.
TEST_F(WaitingTest, WithDefaultOptionsThatAllHandlersAreBusyIsToldAtTenSecondsToo) {
    SubscriptionOptions options = Consumer();
    options.parallelism = 2;
    const auto told = [this] {
        return std::count_if(log.begin(), log.end(), [](const std::string& line) {
            return line.find("all 2 handlers have been busy") != std::string::npos;
        });
    };
    int begun = 0;
    Subscription subscription = Subscribe(options, [&](const Message&) {
        if (++begun == 1) {
            Settle();  // The second one begins, inside of this one.
            return;
        }
        Advance(milliseconds(9'900));
        EXPECT_EQ(told(), 0);
        Advance(milliseconds(2'100));
        EXPECT_EQ(told(), 1);
        Advance(milliseconds(7'900));
        EXPECT_EQ(told(), 1);
        Advance(milliseconds(2'100));
        EXPECT_EQ(told(), 2);
    });
    Append(2);
    Settle();
    EXPECT_EQ(begun, 2);
}

// Likewise: at 30 s.
TEST_F(WaitingTest, WithDefaultOptionsWhatWaitsGoesBackAfterAThirdOfTheAckTimeout) {
    int begun = 0;
    Subscription subscription = Subscribe(OneHandler(), [&](const Message&) {
        if (++begun > 1) {
            return;
        }
        Advance(milliseconds(19'900));
        EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
        Advance(milliseconds(1'100));
        EXPECT_GE(CountOf(AckVerdict::kRelease), 9U);  // They come again until no credit is left.
    });
    Append(10);
    Settle();
}

// It was given back after 2 ms, as if handlers hung.
TEST_F(WaitingTest, AMessageThatHasJustComeHasNotWaitedSinceTheOneBefore) {
    testing::ManualExecutor handlers(time.clock);
    SubscriptionOptions options = Consumer();
    options.executor = &handlers;
    options.parallelism = 1;
    options.ack_timeout = seconds(30);  // A patience of 10 s.
    int handled = 0;
    const Subscription subscription =
        MakeSubscription(client, options, [&](const Message&) { ++handled; });
    Append(1);
    Settle();  // The watch begins: it is due in 10 s.
    Advance(milliseconds(1));
    handlers.RunAll();
    ASSERT_EQ(handled, 1);
    Advance(milliseconds(9'998));
    Append(1);  // 1 ms before the watch is due. The handlers' executor needs 3 ms to begin.
    Settle();
    Advance(milliseconds(2));
    EXPECT_FALSE(Logged("no message was begun for 10 s though some waited"));
    EXPECT_EQ(CountOf(AckVerdict::kRelease), 0U);
    handlers.RunAll();
    Settle();
    handlers.RunAll();
    EXPECT_EQ(handled, 2);
    client.Shutdown(milliseconds(0));
}

}  // namespace
}  // namespace qmq
