// What is told again after a kill counts once.

#include "tests/support/told_losses.h"

#include <gtest/gtest.h>

#include <string>

namespace qmq::testing {
namespace {

class ToldLossesTest : public ::testing::Test {
protected:
    void TellUnread(std::uint64_t count, std::uint64_t end, const std::string& subject = "s") {
        told_.OnLoss("g",
                     "shard 0, subject " + subject + ", group g",
                     "retention took unread messages below sequence " + std::to_string(end) +
                         ": the group is too slow, or away",
                     count,
                     false);
    }
    ToldLosses told_;
};

TEST_F(ToldLossesTest, WhatTheNextProcessTellsAgainCountsOnce) {
    TellUnread(16, 38);
    TellUnread(26, 64);
    TellUnread(26, 64);
    TellUnread(32, 96);
    EXPECT_EQ(told_.DistinctCountOf("g"), 74U);
    EXPECT_EQ(told_.CountOf("g"), 100U);
    EXPECT_EQ(told_.SeenCountOf("g"), 0U);
}

TEST_F(ToldLossesTest, WhatIsToldAgainTogetherWithMoreCountsOnce) {
    TellUnread(16, 38);
    TellUnread(42, 64);
    EXPECT_EQ(told_.DistinctCountOf("g"), 42U);
}

TEST_F(ToldLossesTest, WhatTheGroupHasReadBetweenTwoLossesIsNone) {
    TellUnread(16, 38);
    TellUnread(5, 64);
    EXPECT_EQ(told_.DistinctCountOf("g"), 21U);
}

TEST_F(ToldLossesTest, EachSubjectHasSequencesOfItsOwn) {
    TellUnread(16, 38);
    TellUnread(16, 38, "t");
    EXPECT_EQ(told_.DistinctCountOf("g"), 32U);
}

TEST_F(ToldLossesTest, OfWhatWasHeldNobodyKnowsWhetherItIsTheSame) {
    for (int i = 0; i < 2; ++i) {
        told_.OnLoss("g",
                     "shard 0, subject s, group g",
                     "a full disk took messages: 2 held, 0 waiting, below sequence 86",
                     2,
                     true);
    }
    EXPECT_EQ(told_.DistinctCountOf("g"), 4U);
    EXPECT_EQ(told_.SeenCountOf("g"), 4U);
    EXPECT_EQ(told_.CountOf("h"), 0U);
}

}  // namespace
}  // namespace qmq::testing
