#include "server/store/log_clock.h"

#include <gtest/gtest.h>

#include <utility>

namespace qmq::store {
namespace {

using namespace std::chrono_literals;

class LogClockTest : public testing::Test {
protected:
    LogClockTest() {
        clock_.Start(now_, Wall(), {});
        Read();
    }

    WallTime Wall() const {
        return kEpoch + std::chrono::duration_cast<std::chrono::milliseconds>(
                            now_.time_since_epoch() + jump_);
    }
    void Read() { told_ += clock_.Read(now_, Wall(), end_) ? 1 : 0; }
    void Pass(std::chrono::seconds time, std::chrono::seconds step = 1s) {
        for (std::chrono::seconds passed{}; passed < time; passed += step) {
            const WallTime before = clock_.date();
            now_ += step;
            Read();
            ASSERT_GE(clock_.date(), before) << "it never goes back";
        }
    }
    /// The process ends, and after `time` there is another.
    void Restart(std::chrono::seconds time) {
        const ClockState state = clock_.state();
        now_ += time;
        clock_.Start(now_, Wall(), state);
        Read();
    }
    /// By how much what was written by now is made older than its running time says.
    std::chrono::microseconds CreditBelow(LogOffset end) const {
        return clock_.AgeOf(clock_.running(), end);
    }

    static constexpr WallTime kEpoch{std::chrono::milliseconds(1'700'000'000'000)};
    TimePoint now_{};
    std::chrono::milliseconds jump_{};
    LogOffset end_ = 1'000;
    int told_ = 0;
    LogClock clock_{72h};
};

TEST_F(LogClockTest, ItAdvancesAsTheClocksDo) {
    Pass(1h);
    EXPECT_EQ(clock_.date(), Wall());
    EXPECT_EQ(clock_.running(), 1h);
    EXPECT_EQ(told_, 0);
}

TEST_F(LogClockTest, NoWallClockMovesTheRunningTime) {
    for (const auto jump : {96h, -96h, 0h}) {
        jump_ = jump;
        Pass(20min);
    }
    EXPECT_EQ(clock_.running(), 1h);
}

TEST_F(LogClockTest, ASmallDifferenceIsFollowedByBeingALittleFaster) {
    jump_ = 800ms;
    now_ += 1s;
    Read();
    EXPECT_EQ(clock_.date(), Wall() - 675ms);
    Pass(10s);
    EXPECT_EQ(clock_.date(), Wall());
    EXPECT_EQ(told_, 0);
}

TEST_F(LogClockTest, AJumpAheadIsToldOnceAndMovesNothingForTenMinutes) {
    jump_ = 96h;
    Pass(10min - 1s);
    EXPECT_EQ(clock_.date(), Wall() - 96h);
    EXPECT_EQ(CreditBelow(0), 0s);
    EXPECT_EQ(told_, 1);
    Pass(2s);
    EXPECT_EQ(clock_.date(), Wall());
    EXPECT_GT(CreditBelow(0), 0s);
}

TEST_F(LogClockTest, AJumpThatIsTakenBackInTimeNeverCounts) {
    for (int i = 0; i < 5; ++i) {
        jump_ = 96h;
        Pass(9min);
        jump_ = 0ms;
        Pass(9min);
    }
    EXPECT_EQ(clock_.date(), Wall());
    EXPECT_EQ(CreditBelow(0), 0s);
    EXPECT_EQ(told_, 5);
}

TEST_F(LogClockTest, AJumpThatIsNeverTwiceTheSameNeverCounts) {
    for (int i = 0; i < 60; ++i) {
        jump_ += 1h;
        Pass(1min);
    }
    EXPECT_EQ(clock_.date(), Wall() - 60h);
    EXPECT_EQ(CreditBelow(0), 0s);
}

TEST_F(LogClockTest, AProcessThatWasStoppedHasSeenNothingMeanwhile) {
    jump_ = 96h;
    Pass(2h, 20min);
    EXPECT_EQ(clock_.date(), Wall() - 96h) << "six readings are six minutes";
}

TEST_F(LogClockTest, WhatWasWrittenBeforeAJumpGrowsOlderAtABoundedRateOnly) {
    jump_ = 96h;
    Pass(10min + 1s);
    const auto before = CreditBelow(1'000);
    Pass(10min);
    EXPECT_EQ(CreditBelow(1'000), before + 590min);
    EXPECT_EQ(CreditBelow(1'001), 0s) << "what was written since is not made older";
    jump_ = 0ms;  // It was wrong after all.
    Pass(10min);
    EXPECT_EQ(CreditBelow(1'000), before + 590min);
}

TEST_F(LogClockTest, NoTimeIsCreditedTwice) {
    for (int i = 0; i < 5; ++i) {
        jump_ = 96h;
        Pass(3h);
        jump_ = 0ms;
        Pass(1h);
        Restart(1s);
    }
    EXPECT_LE(CreditBelow(1'000), 96h + 5s);
    EXPECT_GT(CreditBelow(1'000), 95h);
}

TEST_F(LogClockTest, ADowntimeIsBelievedOverShortLivesToo) {
    Restart(100h);
    for (int i = 0; i < 10; ++i) {
        end_ += 1'000;
        Pass(5min);
        Restart(1s);
    }
    EXPECT_EQ(CreditBelow(0), 0s);
    Pass(3h);
    EXPECT_GE(CreditBelow(1'000), 100h);
    EXPECT_EQ(CreditBelow(1'001), 0s) << "but for what was there before it";
    EXPECT_TRUE(clock_.TakeSettled());
}

TEST_F(LogClockTest, AnAbsenceOfSomeMinutesIsNotTold) {
    for (const auto& [absence, told] : {std::pair(59min, 0), std::pair(61min, 1)}) {
        Restart(absence);
        Pass(20min);
        EXPECT_EQ(clock_.date(), Wall());
        EXPECT_EQ(told_, told);
        EXPECT_EQ(clock_.pending_from(), 0U) << "all is believed";
    }
}

TEST_F(LogClockTest, TheDateOfAStartIsThatOfTheWall) {
    Restart(10h);
    EXPECT_EQ(clock_.date(), Wall());
    jump_ = -20h;
    Restart(1h);
    EXPECT_EQ(clock_.date(), Wall() + 19h) << "unless the log has a newer one";
}

TEST_F(LogClockTest, AWallClockBehindMakesTheDateALittleSlower) {
    jump_ = -1h;
    Pass(80min);
    EXPECT_EQ(clock_.date(), Wall() + 50min);
    Pass(7h);
    EXPECT_EQ(clock_.date(), Wall());
    EXPECT_EQ(told_, 1);
    jump_ = 0ms;
    Pass(2h);
    EXPECT_EQ(CreditBelow(0), 0s) << "it only came back to where it was";
}

TEST_F(LogClockTest, ManyDowntimesAreKeptAsFewThatMakeNothingOlder) {
    for (int i = 0; i < 100; ++i) {
        end_ += 1'000;
        Restart(10min);
        Pass(11min);
    }
    EXPECT_LE(clock_.state().credits.size(), LogClock::kMostCredits);
    EXPECT_GE(CreditBelow(1'000), 990min);
    EXPECT_LE(CreditBelow(1'000), 1'000min);
    EXPECT_LE(CreditBelow(90'001), 110min);
    clock_.Forget(90'001);
    EXPECT_LE(clock_.state().credits.size(), 11U) << "nothing lies below the others";
    EXPECT_GE(CreditBelow(90'001), 109min);
}

TEST_F(LogClockTest, ReadingsFromTheEndsOfTimeDoNoHarm) {
    for (const std::int64_t wall : {std::int64_t{1} << 62, -(std::int64_t{1} << 62)}) {
        clock_.Read(now_, WallTime(std::chrono::milliseconds(wall)), end_);
        now_ += 1s;
    }
    Read();
    EXPECT_LE(clock_.date(), Wall());
    EXPECT_GT(clock_.date(), Wall() - 2s);
    EXPECT_EQ(CreditBelow(0), 0s);
}

}  // namespace
}  // namespace qmq::store
