#include "sdk/client/src/ack_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "qmq/random.h"

#include "sdk/client/src/range_set.h"

namespace qmq::internal {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr TimePoint kNow{hours(1)};

TEST(RangeSetTest, JoinsRangesThatTouch) {
    RangeSet set;
    set.Add({1, 2});
    set.Add({5, 6});
    EXPECT_EQ(set.Add({3, 4}), 2U);
    EXPECT_THAT(set.All(), ElementsAre(SequenceRange{1, 6}));
}

TEST(RangeSetTest, CutsAHoleAndSaysWhatWasThere) {
    RangeSet set;
    set.Add({1, 10});
    std::vector<SequenceRange> removed;
    EXPECT_EQ(set.Remove({4, 6}, &removed), 3U);
    EXPECT_THAT(removed, ElementsAre(SequenceRange{4, 6}));
    EXPECT_THAT(set.All(), ElementsAre(SequenceRange{1, 3}, SequenceRange{7, 10}));
}

TEST(RangeSetTest, AgreesWithASetOfNumbers) {
    RangeSet set;
    std::set<std::uint64_t> model;
    Random random(5);
    for (int i = 0; i < 3'000; ++i) {
        const std::uint64_t first = random.Below(200);
        const SequenceRange range{first, first + random.Below(20)};
        const std::size_t before = model.size();
        std::uint64_t changed = 0;
        if (random.Chance(0.5)) {
            changed = set.Add(range);
            for (auto n = range.first; n <= range.last; ++n) {
                model.insert(n);
            }
            ASSERT_EQ(changed, model.size() - before);
        } else {
            changed = set.Remove(range);
            for (auto n = range.first; n <= range.last; ++n) {
                model.erase(n);
            }
            ASSERT_EQ(changed, before - model.size());
        }
        ASSERT_EQ(set.count(), model.size());
        for (std::uint64_t n = 0; n < 220; ++n) {
            ASSERT_EQ(set.Contains(n), model.contains(n));
        }
    }
}

TEST(RangeSetTest, ReachesTheLastNumberThereIs) {
    RangeSet set;
    set.Add({UINT64_MAX - 1, UINT64_MAX});
    EXPECT_TRUE(set.Contains(UINT64_MAX));
    EXPECT_EQ(set.Remove({UINT64_MAX, UINT64_MAX}), 1U);
}

class AckWindowTest : public ::testing::Test {
protected:
    AckCallback Note(std::string name) {
        return [this, name = std::move(name)](const Status& status) {
            told.push_back(name + ":" + std::string(ToString(status.code())));
        };
    }
    void CallAll() {
        for (auto& answer : answers) {
            answer.done(answer.status);
        }
        answers.clear();
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> Ranges(const AckWindow::Request& request) {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
        for (const AckItem& item : request.items) {
            ranges.emplace_back(item.first, item.last);
        }
        return ranges;
    }
    static AckItem Item(AckVerdict verdict, std::uint64_t sequence, std::string error = {}) {
        return {verdict, sequence, sequence, std::nullopt, std::move(error)};
    }

    AckWindow window;
    std::vector<AckWindow::Answer> answers;
    std::vector<std::string> told;
};

TEST_F(AckWindowTest, AcksInAnyOrderLeaveAsRanges) {
    window.OnDelivered({0, 9}, kNow);
    for (const std::uint64_t sequence : {7U, 1U, 0U, 8U, 2U}) {
        window.Ack({sequence, sequence});
    }
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 2), std::pair(7, 8)));
    EXPECT_EQ(window.undecided_count(), 5U);
    EXPECT_EQ(window.unconfirmed_count(), 5U);
}

TEST_F(AckWindowTest, EveryRandomOrderAcksEachExactlyOnce) {
    Random random(11);
    window.OnDelivered({0, 999}, kNow);
    std::vector<std::uint64_t> order(1'000);
    for (std::size_t i = 0; i < order.size(); ++i) {
        order[i] = i;
        std::swap(order[i], order[random.Below(i + 1)]);
    }
    std::set<std::uint64_t> acked;
    for (const std::uint64_t sequence : order) {
        window.Ack({sequence, sequence});
        if (random.Chance(0.05)) {
            const auto request = window.Take();
            for (const AckItem& item : request->items) {
                for (auto n = item.first; n <= item.last; ++n) {
                    ASSERT_TRUE(acked.insert(n).second);
                }
            }
        }
    }
    if (const auto request = window.Take()) {
        for (const AckItem& item : request->items) {
            for (auto n = item.first; n <= item.last; ++n) {
                ASSERT_TRUE(acked.insert(n).second);
            }
        }
    }
    EXPECT_EQ(acked.size(), 1'000U);
    EXPECT_EQ(window.undecided_count(), 0U);
}

TEST_F(AckWindowTest, WhatWasNotDeliveredCannotBeAcked) {
    window.OnDelivered({5, 6}, kNow);
    EXPECT_EQ(window.Ack({0, 4}), 0U);
    EXPECT_FALSE(window.has_pending());
}

TEST_F(AckWindowTest, TheSecondDecisionIsToldThatItIsNotHeld) {
    window.OnDelivered({0, 0}, kNow);
    window.Decide(Item(AckVerdict::kAck, 0), Note("first"), &answers);
    window.Decide(Item(AckVerdict::kRetry, 0), Note("second"), &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("second:not found"));
}

TEST_F(AckWindowTest, TheBrokersAnswerReachesTheCallback) {
    window.OnDelivered({0, 1}, kNow);
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    const auto request = window.Take();
    EXPECT_FALSE(window.OnReply(request->token, AckReply{0}, &answers));
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:ok"));
    EXPECT_EQ(window.unconfirmed_count(), 0U);
}

TEST_F(AckWindowTest, NobodyIsToldOkWhenSomeWereNotHeld) {
    window.OnDelivered({0, 1}, kNow);
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    window.Decide(Item(AckVerdict::kAck, 1), Note("b"), &answers);
    const auto request = window.Take();
    (void)window.OnReply(request->token, AckReply{1}, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:not found", "b:not found"));
}

TEST_F(AckWindowTest, ARetryableErrorMakesItPendingAgain) {
    window.OnDelivered({0, 3}, kNow);
    window.Ack({0, 3});
    const auto request = window.Take();
    EXPECT_TRUE(window.OnReply(request->token, Status::Unavailable("x"), &answers));
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 3)));
}

TEST_F(AckWindowTest, AnErrorThatNoRepeatCuresEndsIt) {
    window.OnDelivered({0, 0}, kNow);
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    const auto request = window.Take();
    EXPECT_FALSE(window.OnReply(request->token, Status::InvalidArgument("x"), &answers));
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:invalid argument"));
    EXPECT_EQ(window.unconfirmed_count(), 0U);
}

TEST_F(AckWindowTest, AfterALossWhatIsStillOursIsSentAgain) {
    window.OnDelivered({0, 9}, kNow);
    window.Ack({0, 4});
    (void)window.Take();
    window.OnLost();
    window.OnResumed(10, &answers);
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 4)));
}

TEST_F(AckWindowTest, AfterALossWhatIsNotOursIsNeverSent) {
    window.OnDelivered({0, 9}, kNow);
    window.Ack({2, 6});
    window.OnLost();
    window.OnResumed(4, &answers);
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(2, 3)));
    EXPECT_EQ(window.undecided_count(), 2U);
    EXPECT_EQ(window.Ack({4, 9}), 0U);
}

TEST_F(AckWindowTest, AnAckOfAnOldNumberCannotTouchANewMessage) {
    window.OnDelivered({0, 3}, kNow);
    window.Ack({0, 3});
    const auto old = window.Take();
    window.OnLost();
    window.OnResumed(0, &answers);
    window.OnDelivered({0, 3}, kNow);
    EXPECT_FALSE(window.has_pending());
    (void)window.OnReply(old->token, AckReply{0}, &answers);
    EXPECT_EQ(window.undecided_count(), 4U);
}

TEST_F(AckWindowTest, AWaiterWhoseMessageWasTakenAwayIsTold) {
    window.OnDelivered({0, 9}, kNow);
    window.Decide(Item(AckVerdict::kAck, 2), Note("kept"), &answers);
    window.Decide(Item(AckVerdict::kAck, 8), Note("gone"), &answers);
    window.OnLost();
    window.OnResumed(5, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("gone:not found"));
}

TEST_F(AckWindowTest, ASentAckWhoseAnswerWasLostIsNotCalledLost) {
    window.OnDelivered({0, 9}, kNow);
    window.Decide(Item(AckVerdict::kAck, 8), Note("a"), &answers);
    (void)window.Take();
    window.OnLost();
    window.OnResumed(0, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:unavailable"));
}

TEST_F(AckWindowTest, AbandonTellsEverybodyWhoWaits) {
    window.OnDelivered({0, 9}, kNow);
    window.Decide(Item(AckVerdict::kAck, 1), Note("sent"), &answers);
    (void)window.Take();
    window.Decide(Item(AckVerdict::kRetry, 2, "e"), Note("pending"), &answers);
    window.Abandon(Status::Cancelled("end"), &answers);
    CallAll();
    EXPECT_THAT(told, ::testing::UnorderedElementsAre("sent:cancelled", "pending:cancelled"));
    EXPECT_EQ(window.undecided_count(), 0U);
    EXPECT_EQ(window.unconfirmed_count(), 0U);
}

TEST_F(AckWindowTest, RenewsWhatIsUndecidedAsRanges) {
    window.OnDelivered({0, 9}, kNow);
    window.OnDelivered({10, 19}, kNow + seconds(1));
    window.Ack({5, 5});
    std::vector<SequenceRange> given_up;
    const auto items = window.Renewals(kNow - seconds(1), "late", &given_up);
    ASSERT_EQ(items.size(), 2U);
    EXPECT_EQ(items[0].verdict, AckVerdict::kRenew);
    EXPECT_EQ(items[0].last, 4U);
    EXPECT_EQ(items[1].first, 6U);
    EXPECT_EQ(items[1].last, 19U);
    EXPECT_THAT(given_up, IsEmpty());
}

TEST_F(AckWindowTest, GivesUpWhatTookTooLongAndAsksForItsRedelivery) {
    window.OnDelivered({0, 9}, kNow);
    window.OnDelivered({10, 19}, kNow + seconds(10));
    std::vector<SequenceRange> given_up;
    const auto items = window.Renewals(kNow + seconds(5), "late", &given_up);
    ASSERT_EQ(items.size(), 1U);
    EXPECT_EQ(items[0].first, 10U);
    EXPECT_THAT(given_up, ElementsAre(SequenceRange{0, 9}));
    const auto request = window.Take();
    ASSERT_EQ(request->items.size(), 1U);
    EXPECT_EQ(request->items[0].verdict, AckVerdict::kRetry);
    EXPECT_EQ(request->items[0].error, "late");
}

}  // namespace
}  // namespace qmq::internal
