#include "server/env/event_reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/support/manual_executor.h"

namespace qmq::env {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class EventReporterTest : public ::testing::Test {
protected:
    void Tell(EventKind kind, int times = 1) {
        for (int i = 0; i < times; ++i) {
            reporter->OnEvent({kind, "shard 0", "something", 3, 4'096});
        }
    }

    testing::ManualTime time;
    std::vector<std::string> lines;
    std::unique_ptr<EventReporter> reporter = std::make_unique<EventReporter>(
        time.clock, time.executor, [this](std::string_view line) { lines.emplace_back(line); });
};

TEST_F(EventReporterTest, AnEventIsALineOfKindPlaceAndText) {
    reporter->OnEvent({EventKind::kLoss,
                       "shard 0, subject orders, group billing",
                       "12 messages are gone",
                       12,
                       0});
    reporter->OnEvent({EventKind::kStopped, "", "no more", 0, 0});
    EXPECT_THAT(lines,
                ElementsAre("loss: shard 0, subject orders, group billing: 12 messages are gone",
                            "stopped: no more"));
}

TEST_F(EventReporterTest, ALineStaysOneLine) {
    reporter->OnEvent({EventKind::kLimit, "group a\nb", "x\x1b[2J", 0, 0});
    EXPECT_THAT(lines, ElementsAre("limit: group a?b: x?[2J"));
}

// U+009B does to some terminals what escape and a bracket do, and was let through.
TEST_F(EventReporterTest, ControlCharactersAboveAsciiAreNotPrinted) {
    reporter->OnEvent({EventKind::kLimit,
                       "a\xc2\x9b"
                       "2J",
                       "\xc2\x80\xc2\xa0 \xe2\x80\x9b",
                       0,
                       0});
    EXPECT_THAT(lines, ElementsAre("limit: a?2J: ?\xc2\xa0 \xe2\x80\x9b"));
}

TEST_F(EventReporterTest, OfAFloodTheFirstAreLinesAndTheRestIsCounted) {
    Tell(EventKind::kLoss, 1'244);
    ASSERT_THAT(lines, SizeIs(10));
    time.Advance(seconds(59));
    EXPECT_THAT(lines, SizeIs(10));
    time.Advance(seconds(1));  // By itself: nothing more need happen.
    ASSERT_THAT(lines, SizeIs(11));
    EXPECT_EQ(lines.back(), "loss: … and 1,234 more of this kind, 3,702 messages in all");
    time.Advance(minutes(10));
    EXPECT_THAT(lines, SizeIs(11));
}

TEST_F(EventReporterTest, AFloodOfOneKindDoesNotHideAnother) {
    Tell(EventKind::kLoss, 500);
    Tell(EventKind::kDamage);
    ASSERT_THAT(lines, SizeIs(11));
    EXPECT_EQ(lines.back(), "damage: shard 0: something");
}

TEST_F(EventReporterTest, AfterThePeriodLinesComeAgain) {
    Tell(EventKind::kLimit, 10);
    time.Advance(minutes(1));
    EXPECT_THAT(lines, SizeIs(10));  // None was left out: nothing is said of that.
    Tell(EventKind::kLimit, 12);
    EXPECT_THAT(lines, SizeIs(20));
    time.Advance(minutes(1));
    EXPECT_EQ(lines.back(), "limit: … and 2 more of this kind");
}

TEST_F(EventReporterTest, WhatWasLeftOutIsSaidAtTheEnd) {
    Tell(EventKind::kDamage, 11);
    lines.clear();
    reporter.reset();
    EXPECT_THAT(lines, ElementsAre("damage: … and 1 more of this kind, 4,096 bytes in all"));
}

TEST_F(EventReporterTest, WithoutATimerTheNextEventOfAnyKindSaysTheRest) {
    class NoTimers final : public Executor {
    public:
        bool Post(Task) override { return false; }
        TimerId PostAt(TimePoint, Task) override { return 0; }
        bool Cancel(TimerId) override { return false; }
    };
    NoTimers none;
    EventReporter without(
        time.clock, none, [this](std::string_view line) { lines.emplace_back(line); });
    for (int i = 0; i < 12; ++i) {
        without.OnEvent({EventKind::kLimit, "", "x", 0, 0});
    }
    lines.clear();
    time.Advance(minutes(1));
    EXPECT_THAT(lines, IsEmpty());
    without.OnEvent({EventKind::kLoss, "", "y", 0, 0});
    EXPECT_THAT(lines, ElementsAre("limit: … and 2 more of this kind", "loss: y"));
}

}  // namespace
}  // namespace qmq::env
