#include "sdk/client/src/receive/ack_window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>

#include "qmq/random.h"

#include "sdk/client/src/base/range_set.h"

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
    window.OnDelivered({0, 9});
    for (const std::uint64_t sequence : {7U, 1U, 0U, 8U, 2U}) {
        window.Ack({sequence, sequence});
    }
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 2), std::pair(7, 8)));
    EXPECT_EQ(window.undecided_count(), 5U);
    EXPECT_EQ(window.unconfirmed_count(), 5U);
}

TEST_F(AckWindowTest, EveryRandomOrderAcksEachExactlyOnce) {
    Random random(11);
    window.OnDelivered({0, 999});
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
    window.OnDelivered({5, 6});
    EXPECT_EQ(window.Ack({0, 4}), 0U);
    EXPECT_FALSE(window.Take().has_value());
}

TEST_F(AckWindowTest, TheSecondDecisionIsToldThatItIsNotHeld) {
    window.OnDelivered({0, 0});
    window.Decide(Item(AckVerdict::kAck, 0), Note("first"), &answers);
    window.Decide(Item(AckVerdict::kRetry, 0), Note("second"), &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("second:not found"));
}

TEST_F(AckWindowTest, TheBrokersAnswerReachesTheCallback) {
    window.OnDelivered({0, 1});
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    const auto request = window.Take();
    EXPECT_FALSE(window.OnReply(request->token, AckReply{}, &answers));
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:ok"));
    EXPECT_EQ(window.unconfirmed_count(), 0U);
}

// One lost lease made every ack of its request say "not recorded".
TEST_F(AckWindowTest, EachIsToldWhetherHisWasHeld) {
    window.OnDelivered({0, 1});
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    window.Decide(Item(AckVerdict::kAck, 1), Note("b"), &answers);
    const auto request = window.Take();
    (void)window.OnReply(request->token, AckReply{{PullRange{1, 1}}}, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:ok", "b:not found"));
}

TEST_F(AckWindowTest, ARetryableErrorMakesItPendingAgain) {
    window.OnDelivered({0, 3});
    window.Ack({0, 3});
    const auto request = window.Take();
    EXPECT_TRUE(window.OnReply(request->token, Status::Unavailable("x"), &answers));
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 3)));
}

TEST_F(AckWindowTest, AnErrorThatNoRepeatCuresEndsIt) {
    window.OnDelivered({0, 0});
    window.Decide(Item(AckVerdict::kAck, 0), Note("a"), &answers);
    const auto request = window.Take();
    EXPECT_FALSE(window.OnReply(request->token, Status::InvalidArgument("x"), &answers));
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:invalid argument"));
    EXPECT_EQ(window.unconfirmed_count(), 0U);
}

TEST_F(AckWindowTest, AfterALossWhatIsStillOursIsSentAgain) {
    window.OnDelivered({0, 9});
    window.Ack({0, 4});
    (void)window.Take();
    window.OnLost();
    window.OnResumed(10, &answers);
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(0, 4)));
}

TEST_F(AckWindowTest, AfterALossWhatIsNotOursIsNeverSent) {
    window.OnDelivered({0, 9});
    window.Ack({2, 6});
    window.OnLost();
    window.OnResumed(4, &answers);
    EXPECT_THAT(Ranges(*window.Take()), ElementsAre(std::pair(2, 3)));
    EXPECT_EQ(window.undecided_count(), 2U);
    EXPECT_EQ(window.Ack({4, 9}), 0U);
}

TEST_F(AckWindowTest, WhatHasBegunAndIsDecidedIsNotTold) {
    window.OnDelivered({0, 9});
    window.OnDelivered({10, 12});
    window.OnBegun({2, 11}, kNow);
    window.Ack({2, 4});
    window.Decide({AckVerdict::kRetry, 7, 7, std::nullopt, "no"}, nullptr, &answers);
    const auto request = window.Take();
    ASSERT_TRUE(request.has_value());
    std::vector<std::pair<AckVerdict, SequenceRange>> items;
    for (const AckItem& item : request->items) {
        items.emplace_back(item.verdict, SequenceRange{item.first, item.last});
    }
    EXPECT_THAT(items,
                ElementsAre(std::pair(AckVerdict::kBegin, SequenceRange{5, 6}),
                            std::pair(AckVerdict::kBegin, SequenceRange{8, 11}),
                            std::pair(AckVerdict::kAck, SequenceRange{2, 4}),
                            std::pair(AckVerdict::kRetry, SequenceRange{7, 7})));
    // Of these nobody waits for the broker's word.
    EXPECT_EQ(window.unconfirmed_count(), 4U);
    EXPECT_FALSE(window.Take().has_value());
}

TEST_F(AckWindowTest, ABeginThatWasLostIsNotToldOfWhatIsDecidedSince) {
    window.OnDelivered({0, 3});
    window.OnBegun({0, 3}, kNow);
    const auto first = window.Take();
    window.Ack({0, 1});
    EXPECT_TRUE(window.OnReply(first->token, Status::Unavailable("later"), &answers));
    const auto second = window.Take();
    ASSERT_EQ(second->items.size(), 2U);
    EXPECT_EQ(second->items[0].verdict, AckVerdict::kBegin);
    EXPECT_EQ(second->items[0].first, 2U);
    EXPECT_EQ(second->items[1].verdict, AckVerdict::kAck);
}

TEST_F(AckWindowTest, ABeginOfAnOldNumberCannotTouchANewMessage) {
    window.OnDelivered({0, 3});
    window.OnBegun({0, 3}, kNow);
    (void)window.Take();
    window.OnLost();
    window.OnResumed(0, &answers);
    window.OnDelivered({0, 3});
    EXPECT_FALSE(window.Take().has_value());
}

TEST_F(AckWindowTest, AnAckOfAnOldNumberCannotTouchANewMessage) {
    window.OnDelivered({0, 3});
    window.Ack({0, 3});
    const auto old = window.Take();
    window.OnLost();
    window.OnResumed(0, &answers);
    window.OnDelivered({0, 3});
    EXPECT_FALSE(window.Take().has_value());
    (void)window.OnReply(old->token, AckReply{}, &answers);
    EXPECT_EQ(window.undecided_count(), 4U);
}

TEST_F(AckWindowTest, AWaiterWhoseMessageWasTakenAwayIsTold) {
    window.OnDelivered({0, 9});
    window.Decide(Item(AckVerdict::kAck, 2), Note("kept"), &answers);
    window.Decide(Item(AckVerdict::kAck, 8), Note("gone"), &answers);
    window.OnLost();
    window.OnResumed(5, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("gone:not found"));
}

TEST_F(AckWindowTest, ASentAckWhoseAnswerWasLostIsNotCalledLost) {
    window.OnDelivered({0, 9});
    window.Decide(Item(AckVerdict::kAck, 8), Note("a"), &answers);
    (void)window.Take();
    window.OnLost();
    window.OnResumed(0, &answers);
    CallAll();
    EXPECT_THAT(told, ElementsAre("a:unavailable"));
}

TEST_F(AckWindowTest, AbandonTellsEverybodyWhoWaits) {
    window.OnDelivered({0, 9});
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
    window.OnDelivered({0, 9});
    window.OnDelivered({10, 19});
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

// What merely waited was given up like what a handler worked on: it lost an attempt.
TEST_F(AckWindowTest, GivesUpWhatAHandlerBeganTooLongAgoAndAsksForItsRedelivery) {
    window.OnDelivered({0, 19});
    window.OnBegun({0, 4}, kNow);
    window.OnBegun({5, 9}, kNow + seconds(10));
    std::vector<SequenceRange> given_up;
    const auto items = window.Renewals(kNow + seconds(5), "late", &given_up);
    ASSERT_EQ(items.size(), 1U);
    EXPECT_EQ(items[0].first, 5U);
    EXPECT_EQ(items[0].last, 19U);
    EXPECT_THAT(given_up, ElementsAre(SequenceRange{0, 4}));
    EXPECT_EQ(window.undecided_count(), 15U);
    const auto request = window.Take();
    ASSERT_TRUE(request.has_value());
    const AckItem& retry = request->items.back();
    EXPECT_EQ(retry.verdict, AckVerdict::kRetry);
    EXPECT_EQ(retry.error, "late");
    EXPECT_EQ(retry.last, 4U);
}

TEST_F(AckWindowTest, TheTimeRunsFromTheFirstBeginAlsoWhenItIsToldAgain) {
    window.OnDelivered({0, 9});
    window.OnBegun({2, 3}, kNow);
    window.OnLost();
    window.OnResumed(10, &answers);
    window.OnBegun({0, 9}, kNow + seconds(10));  // All that was claimed is told once more.
    std::vector<SequenceRange> given_up;
    (void)window.Renewals(kNow + seconds(5), "late", &given_up);
    EXPECT_THAT(given_up, ElementsAre(SequenceRange{2, 3}));
}

TEST_F(AckWindowTest, BeginsAgreeWithANumberEach) {
    std::map<std::uint64_t, std::optional<TimePoint>> model;
    Random random(11);
    std::uint64_t next = 0;
    TimePoint now = kNow;
    for (int i = 0; i < 2'000; ++i) {
        now += seconds(1);
        const std::uint64_t first = next < 60 ? 0 : next - 60 + random.Below(60);
        const SequenceRange range{first, first + random.Below(8)};
        if (random.Chance(0.4)) {
            const std::uint64_t count = 1 + random.Below(6);
            window.OnDelivered({next, next + count - 1});
            for (std::uint64_t end = next + count; next < end; ++next) {
                model[next] = std::nullopt;
            }
        } else if (random.Chance(0.5)) {
            bool any = false;
            for (auto& [number, begun] : model) {
                if (range.first <= number && number <= range.last) {
                    any = true;
                    begun = begun.has_value() ? begun : now;
                }
            }
            ASSERT_EQ(window.AnyUndecided(range), any);
            window.OnBegun(range, now);
        } else {
            std::uint64_t count = 0;
            for (auto number = range.first; number <= range.last; ++number) {
                count += model.erase(number);
            }
            ASSERT_EQ(window.Ack(range), count);
        }
        ASSERT_EQ(window.undecided_count(), model.size());
        if (i % 50 == 0) {
            std::vector<SequenceRange> given_up;
            (void)window.Renewals(now - seconds(40), "late", &given_up);
            std::set<std::uint64_t> late;
            for (const SequenceRange& one : given_up) {
                for (auto number = one.first; number <= one.last; ++number) {
                    late.insert(number);
                }
            }
            std::set<std::uint64_t> expected;
            for (auto it = model.begin(); it != model.end();) {
                if (it->second.has_value() && *it->second < now - seconds(40)) {
                    expected.insert(it->first);
                    it = model.erase(it);
                } else {
                    ++it;
                }
            }
            ASSERT_EQ(late, expected);
        }
    }
}

}  // namespace
}  // namespace qmq::internal
