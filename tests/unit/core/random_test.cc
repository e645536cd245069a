#include "qmq/random.h"

#include <gtest/gtest.h>

#include <array>

namespace qmq {
namespace {

TEST(RandomTest, OneSeedGivesOneSequenceAndAnotherSeedAnother) {
    Random one(7);
    Random same(7);
    Random other(8);
    const std::uint64_t first = one.Next();
    EXPECT_EQ(first, same.Next());
    EXPECT_NE(first, other.Next());
}

TEST(RandomTest, BelowCoversItsRangeEvenly) {
    Random random(1);
    std::array<int, 7> counts{};
    for (int i = 0; i < 70'000; ++i) {
        ++counts.at(random.Below(counts.size()));
    }
    for (const int count : counts) {
        EXPECT_NEAR(count, 10'000, 500);
    }
}

TEST(RandomTest, UnitLiesInItsRange) {
    Random random(1);
    double sum = 0;
    for (int i = 0; i < 10'000; ++i) {
        const double value = random.Unit();
        ASSERT_GE(value, 0.0);
        ASSERT_LT(value, 1.0);
        sum += value;
    }
    EXPECT_NEAR(sum / 10'000, 0.5, 0.02);
}

TEST(RandomTest, ChanceKnowsNeverAndAlways) {
    Random random(1);
    for (int i = 0; i < 1'000; ++i) {
        EXPECT_FALSE(random.Chance(0));
        EXPECT_TRUE(random.Chance(1));
    }
}

TEST(RandomTest, TheSystemsSeedsDiffer) {
    EXPECT_NE(Random::FromSystem().Next(), Random::FromSystem().Next());
}

}  // namespace
}  // namespace qmq
