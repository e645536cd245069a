// The client's decisions, without I/O, threads or time of their own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "sdk/client/src/base/hook_list.h"
#include "sdk/client/src/base/timer_slot.h"
#include "sdk/client/src/link/circuit_breaker.h"
#include "sdk/client/src/link/reconnect_machine.h"
#include "sdk/client/src/link/route_state.h"
#include "sdk/client/src/receive/credit_window.h"
#include "sdk/client/src/send/broker_selector.h"
#include "sdk/client/src/send/send_machine.h"
#include "tests/support/manual_executor.h"

namespace qmq::internal {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr TimePoint kStart{hours(1)};

BatchReceipt Persisted() {
    return {Status::Ok(), SendOutcome::kPersisted, Durability::kFsync, 7};
}
BatchReceipt Refused(Status why) {
    return {std::move(why), SendOutcome::kRefused, Durability::kDefault, 0};
}
BatchReceipt Lost() {
    return {Status::Unavailable("cut"), SendOutcome::kUnknown, Durability::kDefault, 0};
}

TEST(BackoffTest, GrowsToItsMaximumAndIsNeverZero) {
    Random random(1);
    Backoff backoff({milliseconds(10), milliseconds(100)});
    for (int i = 0; i < 200; ++i) {
        const auto pause = backoff.Next(random);
        EXPECT_GE(pause, milliseconds(1));
        EXPECT_LT(pause, std::min(milliseconds(10) * (1 << std::min(i, 10)), milliseconds(100)));
    }
}

TEST(BackoffTest, JitterSpreadsClientsThatFailedTogether) {
    std::set<std::int64_t> pauses;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        Random random(seed);
        Backoff backoff({milliseconds(1'000), milliseconds(1'000)});
        pauses.insert(backoff.Next(random).count() / 50'000);
    }
    EXPECT_GT(pauses.size(), 10U);
}

TEST(BackoffTest, ResetBeginsAnew) {
    Random random(1);
    Backoff backoff({milliseconds(10), milliseconds(10'000)});
    for (int i = 0; i < 10; ++i) {
        (void)backoff.Next(random);
    }
    backoff.Reset();
    EXPECT_EQ(backoff.failures(), 0U);
    EXPECT_LT(backoff.Next(random), milliseconds(10));
}

class SendMachineTest : public ::testing::Test {
protected:
    SendMachine machine{kStart + seconds(30), {milliseconds(20), milliseconds(2'000)}};
    Random random{1};
};

TEST_F(SendMachineTest, PersistedEndsIt) {
    machine.OnSent();
    const SendStep step = machine.OnReply(Persisted(), 3, kStart, random);
    EXPECT_EQ(step.action, SendStep::Action::kFinish);
    EXPECT_EQ(step.outcome, SendOutcome::kPersisted);
    EXPECT_TRUE(step.status.ok());
}

TEST_F(SendMachineTest, ARetryableRefusalIsTriedAgainAfterAPause) {
    machine.OnSent();
    const SendStep step =
        machine.OnReply(Refused(Status::ResourceExhausted("full")), 3, kStart, random);
    EXPECT_EQ(step.action, SendStep::Action::kWait);
    EXPECT_GT(step.when, kStart);
    EXPECT_LT(step.when, kStart + milliseconds(20));
}

TEST_F(SendMachineTest, APermanentRefusalIsFinal) {
    machine.OnSent();
    const SendStep step =
        machine.OnReply(Refused(Status::PermissionDenied("no")), 3, kStart, random);
    EXPECT_EQ(step.action, SendStep::Action::kFinish);
    EXPECT_EQ(step.outcome, SendOutcome::kRefused);
    EXPECT_EQ(step.status.code(), StatusCode::kPermissionDenied);
}

TEST_F(SendMachineTest, ABatchRefusedForItsContentIsSplit) {
    machine.OnSent();
    EXPECT_EQ(machine.OnReply(Refused(Status::InvalidArgument("bad")), 3, kStart, random).action,
              SendStep::Action::kSplit);
}

TEST_F(SendMachineTest, ASingleMessageRefusedForItsContentIsFinal) {
    machine.OnSent();
    const SendStep step =
        machine.OnReply(Refused(Status::InvalidArgument("bad")), 1, kStart, random);
    EXPECT_EQ(step.action, SendStep::Action::kFinish);
    EXPECT_EQ(step.outcome, SendOutcome::kRefused);
}

TEST_F(SendMachineTest, ALostAnswerIsTriedAgain) {
    machine.OnSent();
    EXPECT_EQ(machine.OnReply(Lost(), 1, kStart, random).action, SendStep::Action::kWait);
}

TEST_F(SendMachineTest, ALostAnswerMakesALaterRefusalUnknown) {
    machine.OnSent();
    (void)machine.OnReply(Lost(), 1, kStart, random);
    machine.OnSent();
    const SendStep step =
        machine.OnReply(Refused(Status::PermissionDenied("no")), 1, kStart, random);
    EXPECT_EQ(step.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(step.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(step.status.message()), HasSubstr("permission"));
}

TEST_F(SendMachineTest, TheDeadlineInFlightIsUnknown) {
    machine.OnSent();
    const SendStep step = machine.OnDeadline(Status::Ok());
    EXPECT_EQ(step.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(step.status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(SendMachineTest, TheDeadlineBeforeAnyAttemptIsRefusedWithTheReason) {
    machine.OnNoRoute(Status::Unavailable("no broker group serves s"));
    const SendStep step = machine.OnDeadline(Status::Ok());
    EXPECT_EQ(step.outcome, SendOutcome::kRefused);
    EXPECT_EQ(step.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(step.status.message()), HasSubstr("no broker group serves s"));
}

TEST_F(SendMachineTest, TheDeadlineAfterCertainRefusalsIsRefusedWithTheLast) {
    machine.OnSent();
    (void)machine.OnReply(Refused(Status::ResourceExhausted("disk full")), 1, kStart, random);
    const SendStep step = machine.OnDeadline(Status::Ok());
    EXPECT_EQ(step.outcome, SendOutcome::kRefused);
    EXPECT_EQ(step.status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(step.status.message()), HasSubstr("disk full"));
}

TEST_F(SendMachineTest, ARetryThatWouldComeAfterTheDeadlineIsNotWaitedFor) {
    machine.OnSent();
    const SendStep step = machine.OnReply(
        Refused(Status::Unavailable("x")), 1, kStart + seconds(30) - milliseconds(1), random);
    EXPECT_EQ(step.action, SendStep::Action::kFinish);
}

TEST_F(SendMachineTest, ShutdownIsRefusedWhenNothingWasSentAndUnknownWhenItMayHaveArrived) {
    SendMachine sent = machine;
    sent.OnSent();
    EXPECT_EQ(machine.OnDeadline(Status::Cancelled("end")).outcome, SendOutcome::kRefused);
    EXPECT_EQ(machine.OnDeadline(Status::Cancelled("end")).status.code(), StatusCode::kCancelled);
    EXPECT_EQ(sent.OnDeadline(Status::Cancelled("end")).outcome, SendOutcome::kUnknown);
}

TEST_F(SendMachineTest, CountsItsAttempts) {
    for (int i = 0; i < 3; ++i) {
        machine.OnSent();
        (void)machine.OnReply(Lost(), 1, kStart, random);
    }
    EXPECT_EQ(machine.attempts(), 3U);
}

class CircuitBreakerTest : public ::testing::Test {
protected:
    CircuitBreaker breaker{{milliseconds(10'000), 10, 0.5, milliseconds(2'000)}};
    TimePoint now = kStart;
    void Fail(int count) {
        for (int i = 0; i < count; ++i) {
            (void)breaker.OnFailure(now);
        }
    }
    void Succeed(int count) {
        for (int i = 0; i < count; ++i) {
            breaker.OnSuccess(now);
        }
    }
};

TEST_F(CircuitBreakerTest, FewAnswersProveNothing) {
    Fail(9);
    EXPECT_TRUE(breaker.Acquire(now));
}

TEST_F(CircuitBreakerTest, OpensAtTheRatioAndStaysOpenForItsTime) {
    Succeed(5);
    Fail(5);
    EXPECT_FALSE(breaker.Acquire(now));
    EXPECT_EQ(breaker.next_probe(), now + milliseconds(2'000));
    now += milliseconds(1'999);
    EXPECT_FALSE(breaker.WouldAllow(now));
}

TEST_F(CircuitBreakerTest, BelowTheRatioItStaysClosed) {
    Succeed(100);
    Fail(99);
    EXPECT_TRUE(breaker.Acquire(now));
}

TEST_F(CircuitBreakerTest, OldAnswersDoNotCount) {
    Fail(9);
    now += milliseconds(20'000);
    Fail(1);
    EXPECT_TRUE(breaker.Acquire(now));
}

TEST_F(CircuitBreakerTest, HalfOpenLetsOneProbeThrough) {
    Fail(10);
    now += milliseconds(2'000);
    EXPECT_TRUE(breaker.Acquire(now));
    EXPECT_FALSE(breaker.Acquire(now));
}

TEST_F(CircuitBreakerTest, AProbeThatSucceedsCloses) {
    Fail(10);
    now += milliseconds(2'000);
    ASSERT_TRUE(breaker.Acquire(now));
    breaker.OnSuccess(now);
    EXPECT_TRUE(breaker.Acquire(now));
    EXPECT_TRUE(breaker.Acquire(now));
    EXPECT_FALSE(breaker.next_probe().has_value());
}

TEST_F(CircuitBreakerTest, AProbeThatFailsOpensAgain) {
    Fail(10);
    now += milliseconds(2'000);
    ASSERT_TRUE(breaker.Acquire(now));
    EXPECT_TRUE(breaker.OnFailure(now));
    EXPECT_FALSE(breaker.Acquire(now + milliseconds(1'999)));
    EXPECT_TRUE(breaker.Acquire(now + milliseconds(2'000)));
}

TEST(ReconnectMachineTest, NeverGivesUpAndStaysWithinItsMaximum) {
    Random random(1);
    ReconnectMachine machine({milliseconds(50), milliseconds(5'000)});
    TimePoint now = kStart;
    for (int i = 0; i < 10'000; ++i) {
        const TimePoint next = machine.OnDown(now, random);
        ASSERT_GT(next, now);
        ASSERT_LE(next, now + milliseconds(5'000));
        now = next;
    }
}

TEST(ReconnectMachineTest, AConnectionThatLastedResetsTheBackoff) {
    Random random(1);
    ReconnectMachine machine({milliseconds(50), milliseconds(5'000)});
    for (int i = 0; i < 20; ++i) {
        (void)machine.OnDown(kStart, random);
    }
    machine.OnUp(kStart);
    EXPECT_LT(machine.OnDown(kStart + milliseconds(5'000), random),
              kStart + milliseconds(5'000) + milliseconds(50));
    EXPECT_EQ(machine.failures(), 1U);
}

TEST(ReconnectMachineTest, APeerThatAcceptsAndDropsAtOnceIsNotHammered) {
    Random random(1);
    ReconnectMachine machine({milliseconds(50), milliseconds(5'000)});
    for (int i = 0; i < 20; ++i) {
        machine.OnUp(kStart);
        (void)machine.OnDown(kStart + milliseconds(1), random);
    }
    EXPECT_EQ(machine.failures(), 20U);
}

TEST(ReconnectMachineTest, TheFirstAndThenEverFewerFailuresAreWorthALine) {
    Random random(1);
    ReconnectMachine machine({milliseconds(50), milliseconds(5'000)});
    int lines = 0;
    for (int i = 0; i < 1'000; ++i) {
        (void)machine.OnDown(kStart, random);
        lines += machine.worth_logging() ? 1 : 0;
    }
    EXPECT_EQ(lines, 10);
}

TEST(BrokerSelectorTest, GoesRoundOverTheAvailable) {
    BrokerSelector selector;
    std::vector<std::size_t> picked;
    for (int i = 0; i < 6; ++i) {
        picked.push_back(*selector.Pick(3, std::nullopt, [](std::size_t g) { return g != 1; }));
    }
    EXPECT_THAT(picked, ::testing::ElementsAre(0, 2, 0, 2, 0, 2));
}

TEST(BrokerSelectorTest, AvoidsTheOneThatFailedWhenThereIsAnother) {
    BrokerSelector selector;
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(selector.Pick(2, 0U, [](std::size_t) { return true; }), 1U);
    }
    EXPECT_EQ(selector.Pick(1, 0U, [](std::size_t) { return true; }), 0U);
}

TEST(BrokerSelectorTest, NobodyAvailableIsNobody) {
    BrokerSelector selector;
    EXPECT_FALSE(selector.Pick(3, 1U, [](std::size_t) { return false; }).has_value());
    EXPECT_FALSE(selector.Pick(0, std::nullopt, [](std::size_t) { return true; }).has_value());
}

TEST(HookListTest, WhatEndsOrIsUnlinkedIsInNoList) {
    struct Thing {
        explicit Thing(int its_number) : number(its_number) {}
        int number;
        ListHook<Thing> hook{*this};
    };
    HookList<Thing> list;
    const auto numbers = [](const HookList<Thing>& of) {
        std::vector<int> all;
        of.ForEach([&all](const Thing& thing) {
            all.push_back(thing.number);
            return all.size() < 4;
        });
        return all;
    };
    Thing one(1);
    Thing two(2);
    Thing five(5);
    {
        Thing three(3);
        for (Thing* thing : {&one, &two, &three}) {
            list.PushBack(thing->hook);
        }
        EXPECT_EQ(numbers(list), (std::vector{1, 2, 3}));
    }
    EXPECT_EQ(numbers(list), (std::vector{1, 2}));
    HookList<Thing> other;
    other.PushBack(five.hook);
    other.TakeAll(list);
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(numbers(other), (std::vector{5, 1, 2}));
    one.hook.Unlink();
    EXPECT_FALSE(one.hook.is_linked());
    other.PopFront();
    EXPECT_EQ(&other.front(), &two);
    {
        HookList<Thing> last;
        last.TakeAll(other);
        last.TakeAll(other);  // Of one that is empty.
    }
    EXPECT_FALSE(two.hook.is_linked());
    EXPECT_TRUE(other.empty());
}

// The one that fired made the slot free, and the one that had taken its place was never cancelled.
TEST(TimerSlotTest, ATimerThatIsReplacedWhileItFiresLeavesTheNewOneArmed) {
    qmq::testing::ManualClock clock;
    qmq::testing::ManualExecutor executor(clock);
    TimerSlot slot(executor);
    std::vector<int> fired;
    const auto arm = [&](TimePoint when, int number, auto&& meanwhile) {
        slot.ArmBy(when, [&, number, meanwhile](TimerSlot::Shot shot) {
            return [&, number, meanwhile, shot] {
                meanwhile();
                slot.OnFired(shot);
                fired.push_back(number);
            };
        });
    };
    const TimePoint now = clock.Now();
    arm(now, 1, [&] { arm(now - seconds(1), 2, [] {}); });
    ASSERT_TRUE(executor.RunOne());
    EXPECT_TRUE(slot.armed());
    EXPECT_EQ(executor.timer_count(), 1U);
    executor.RunAll();
    EXPECT_FALSE(slot.armed());
    EXPECT_THAT(fired, ::testing::ElementsAre(1, 2));
}

class RouteStateTest : public ::testing::Test {
protected:
    RouteState state{seconds(60), {milliseconds(50), milliseconds(5'000)}};
    Random random{1};
    static RouteGroups Groups(std::initializer_list<const char*> names) {
        std::vector<BrokerGroup> groups;
        for (const char* name : names) {
            groups.push_back({name, std::string("at-") + name, true, true});
        }
        return SharedGroups(std::move(groups));
    }
};

TEST_F(RouteStateTest, AGoodAnswerIsRefreshedAfterTheInterval) {
    const auto step = state.OnAnswer(Groups({"b", "a"}), kStart, random);
    EXPECT_TRUE(step.news);
    EXPECT_EQ(step.ask_again, kStart + seconds(60));
    EXPECT_EQ(state.groups()->front().name, "a");
    EXPECT_TRUE(state.last_error().ok());
}

TEST_F(RouteStateTest, TheSameAnswerInAnotherOrderChangesNothing) {
    (void)state.OnAnswer(Groups({"a", "b"}), kStart, random);
    EXPECT_FALSE(state.OnAnswer(Groups({"b", "a"}), kStart, random).news);
}

TEST_F(RouteStateTest, AFailureKeepsTheKnownRouteAndAsksSoon) {
    (void)state.OnAnswer(Groups({"a"}), kStart, random);
    const auto step = state.OnAnswer(Status::Unavailable("meta is away"), kStart, random);
    EXPECT_FALSE(step.news);
    EXPECT_LT(step.ask_again, kStart + seconds(1));
    EXPECT_EQ(state.groups()->size(), 1U);
    EXPECT_EQ(state.last_error().message(), "meta is away");
}

TEST_F(RouteStateTest, AnEmptyAnswerKeepsTheKnownRoute) {
    (void)state.OnAnswer(Groups({"a"}), kStart, random);
    (void)state.OnAnswer(Groups({}), kStart, random);
    EXPECT_EQ(state.groups()->size(), 1U);
    EXPECT_EQ(state.last_error().code(), StatusCode::kUnavailable);
}

TEST(CreditWindowTest, GrantsTheWholeWindowFirst) {
    CreditWindow window({100, 100, 1'000});
    const Credit credit = window.Take();
    EXPECT_EQ(credit.messages, 100U);
    EXPECT_EQ(credit.bytes, 1'000U);
    EXPECT_EQ(window.Take().messages, 0U);
}

TEST(CreditWindowTest, GivesBackInLumpsOfHalfTheWindow) {
    CreditWindow window({100, 100, 1'000'000});
    (void)window.Take();
    window.OnDelivered(100, 5'000);
    window.OnEnded(49, 2'450);
    EXPECT_EQ(window.Take().messages, 0U);
    window.OnEnded(1, 50);
    EXPECT_EQ(window.Take().messages, 50U);
}

TEST(CreditWindowTest, NeverAllowsMoreThanTheWindowInHand) {
    CreditWindow window({10, 10, 1'000'000});
    Random random(3);
    std::int64_t granted = 0;
    std::int64_t held = 0;
    for (int i = 0; i < 10'000; ++i) {
        granted += window.Take().messages;
        ASSERT_LE(granted + held, 10);
        if (granted > 0 && random.Chance(0.6)) {
            window.OnDelivered(1, 100);
            --granted;
            ++held;
        }
        if (held > 0 && random.Chance(0.5)) {
            window.OnEnded(1, 100);
            --held;
        }
    }
}

TEST(CreditWindowTest, AMessageLargerThanTheWindowDoesNotStallTheNext) {
    CreditWindow window({10, 10, 1'000});
    std::int64_t broker_bytes = static_cast<std::int64_t>(window.Take().bytes);
    broker_bytes -= 50'000;  // Overdrawn, as a broker may.
    window.OnDelivered(1, 50'000);
    window.OnEnded(1, 50'000);
    broker_bytes += static_cast<std::int64_t>(window.Take().bytes);
    EXPECT_EQ(broker_bytes, 1'000);
}

TEST(CreditWindowTest, ANewStreamBeginsWithTheWindowLessWhatIsHeld) {
    CreditWindow window({100, 100, 1'000'000});
    (void)window.Take();
    window.OnDelivered(30, 300);
    window.OnNewStream();
    EXPECT_EQ(window.Take().messages, 70U);
}

}  // namespace
}  // namespace qmq::internal
