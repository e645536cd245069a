#include "server/broker/held_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "qmq/random.h"

namespace qmq::broker {
namespace {

Held At(std::uint64_t sequence) {
    return Held(Origin::kSubject, sequence, 1, 0);
}

std::set<std::uint64_t> All(HeldTable& table) {
    std::set<std::uint64_t> all;
    table.ForEach([&all](std::uint64_t pull, const Held& held) {
        EXPECT_EQ(held.sequence(), pull + 1000);
        all.insert(pull);
    });
    return all;
}

TEST(HeldTableTest, AnEntryKeepsWhatItWasGiven) {
    Held held(Origin::kRetry, (1ULL << 61U) + 5, 65'536, -7);
    held.set_deadline_ms(1LL << 39U);
    EXPECT_EQ(held.origin(), Origin::kRetry);
    EXPECT_EQ(held.sequence(), (1ULL << 61U) + 5);
    EXPECT_EQ(held.attempt(), 65'536U);
    EXPECT_EQ(held.since_ms(), -7);
    EXPECT_EQ(held.deadline_ms(), 1LL << 39U);
    EXPECT_TRUE(held.held());
}

TEST(HeldTableTest, AMessageHeldForLongDoesNotKeepWhatIsDoneBehindItInMemory) {
    HeldTable table;
    table.Push(At(1000));
    for (std::uint64_t pull = 1; pull < 100'000; ++pull) {
        table.Push(At(pull + 1000));
        table.MarkDone(pull);
        table.Trim();
    }
    EXPECT_EQ(table.count(), 1U);
    EXPECT_EQ(table.first(), 0U);
    EXPECT_EQ(table.next(), 100'000U);
    EXPECT_LT(table.ring_size(), 2'048U);
    ASSERT_NE(table.Find(0), nullptr);
    table.MarkDone(0);
    table.Trim();
    EXPECT_EQ(table.Find(0), nullptr);
    EXPECT_EQ(table.first(), 100'000U);
}

TEST(HeldTableTest, WhatIsHeldIsFoundWhereverItIsKept) {
    Random random(7);
    HeldTable table;
    std::set<std::uint64_t> model;
    for (int step = 0; step < 60'000; ++step) {
        if (random.Chance(0.6)) {
            model.insert(table.next());
            table.Push(At(table.next() + 1000));
        } else if (!model.empty()) {
            // Mostly new ones are done, so old ones become stragglers.
            auto at = model.end();
            for (std::uint64_t back = random.Below(20) + 1; back > 0 && at != model.begin();
                 --back) {
                --at;
            }
            table.MarkDone(*at);
            if (random.Chance(0.1)) {
                table.MarkHeld(*at);
            } else {
                model.erase(at);
            }
        }
        if (random.Chance(0.1)) {
            table.Trim();
        }
    }
    EXPECT_EQ(All(table), model);
    EXPECT_EQ(table.count(), model.size());
    for (std::uint64_t pull = 0; pull < table.next(); pull += 97) {
        const auto next = model.lower_bound(pull);
        EXPECT_EQ(table.NextHeld(pull, table.next()),
                  next == model.end() ? std::nullopt : std::optional(*next));
        EXPECT_EQ(table.Find(pull) != nullptr, model.count(pull) == 1);
    }
}

TEST(HeldTableTest, ALongGapCostsNoMemory) {
    HeldTable table;
    table.Begin(5);
    table.Push(At(1005));
    table.SkipTo(10);
    table.Push(At(1010));
    table.SkipTo(1ULL << 40U);
    table.Push(At((1ULL << 40U) + 1000));
    EXPECT_THAT(All(table), ::testing::ElementsAre(5, 10, 1ULL << 40U));
}

TEST(HeldTableTest, SkippingIsTakenBackWithWhatWasDoneBefore) {
    for (const std::uint64_t far : {20ULL, 1ULL << 40U}) {
        HeldTable table;
        table.Begin(5);
        table.Push(At(1005));
        table.Push(At(1006));
        table.Trim();
        table.MarkDone(5);
        table.SkipTo(far);
        table.Push(At(far + 1000));
        table.Pop();
        table.SkipBack(7);
        table.MarkHeld(5);
        EXPECT_EQ(table.next(), 7U);
        table.Push(At(1007));
        EXPECT_THAT(All(table), ::testing::ElementsAre(5, 6, 7));
        EXPECT_EQ(table.count(), 3U);
    }
}

}  // namespace
}  // namespace qmq::broker
