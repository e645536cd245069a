#include "qmq/deadline.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>

namespace qmq {
namespace {

using std::chrono::duration;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr TimePoint kNow{hours(1)};

TEST(DeadlineTest, LiesTheTimeoutAfterNow) {
    EXPECT_EQ(DeadlineAfter(kNow, milliseconds(5)), kNow + milliseconds(5));
    EXPECT_EQ(DeadlineAfter(kNow, nanoseconds(1)), kNow + nanoseconds(1));
    EXPECT_EQ(DeadlineAfter(kNow, hours(24)), kNow + hours(24));
    EXPECT_EQ(DeadlineAfter(kNow, duration<double>(0.5)), kNow + milliseconds(500));
    EXPECT_EQ(DeadlineAfter(kNow, duration<std::uint32_t>(2)), kNow + std::chrono::seconds(2));
}

TEST(DeadlineTest, NothingAndLessMeanNow) {
    EXPECT_EQ(DeadlineAfter(kNow, milliseconds(0)), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, milliseconds(-1)), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, milliseconds::min()), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, nanoseconds::min()), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, hours::min()), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, duration<double>(-1e300)), kNow);
    EXPECT_EQ(DeadlineAfter(kNow, duration<double>(std::numeric_limits<double>::quiet_NaN())),
              kNow);
}

// `milliseconds::max()` to Flush, WaitFor, Close and Shutdown meant "now": the sum overflowed.
TEST(DeadlineTest, WhatNoTimeCanHoldMeansForEver) {
    EXPECT_EQ(DeadlineAfter(kNow, milliseconds::max()), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, nanoseconds::max()), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, microseconds::max()), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, hours::max()), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, duration<std::uint64_t, std::milli>::max()), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, duration<double>(1e300)), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, duration<double>(std::numeric_limits<double>::infinity())),
              TimePoint::max());
    EXPECT_EQ(DeadlineAfter(TimePoint::max(), nanoseconds(1)), TimePoint::max());
}

TEST(DeadlineTest, IsExactAtTheEdge) {
    const nanoseconds left = TimePoint::max() - kNow;
    EXPECT_EQ(DeadlineAfter(kNow, left), TimePoint::max());
    EXPECT_EQ(DeadlineAfter(kNow, left - nanoseconds(1)), TimePoint::max() - nanoseconds(1));
    const auto whole = std::chrono::floor<milliseconds>(left);
    EXPECT_EQ(DeadlineAfter(kNow, whole), kNow + whole);
    EXPECT_EQ(DeadlineAfter(kNow, whole + milliseconds(1)), TimePoint::max());
}

TEST(DeadlineTest, TakesAClockThatHasNotBegun) {
    constexpr TimePoint kBefore{-hours(1)};
    EXPECT_EQ(DeadlineAfter(kBefore, hours(2)), kNow);
    EXPECT_EQ(DeadlineAfter(TimePoint::min(), nanoseconds::max()), TimePoint(nanoseconds(-1)));
}

TEST(DeadlineTest, UnitsOfAnyWidthAreReadRight) {
    EXPECT_EQ(DeadlineAfter(kNow, duration<std::int8_t, std::ratio<60>>(127)),
              kNow + std::chrono::minutes(127));
    EXPECT_EQ(DeadlineAfter(kNow, duration<std::int64_t, std::pico>(1)), kNow + nanoseconds(1));
    EXPECT_EQ(DeadlineAfter(kNow, duration<std::int64_t, std::pico>(1'000)), kNow + nanoseconds(1));
}

}  // namespace
}  // namespace qmq
