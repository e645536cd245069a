#include "server/broker/loose_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/broker/waiting_set.h"

namespace qmq::broker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(LooseQueueTest, WhatIsSpentOrSuspectedIsFoundWithoutAWalk) {
    LooseQueue queue;
    queue.SetMostAttempts(3);
    queue.emplace(1, Loose{0, 3, 0});
    queue.emplace(2, Loose{0, 4, 2});
    queue.emplace(3, Loose{0, 1, 2});
    EXPECT_THAT(queue.spent(), ElementsAre(2));
    EXPECT_THAT(queue.suspects(), ElementsAre(3));
    queue.SetMostAttempts(2);
    EXPECT_THAT(queue.spent(), ElementsAre(1, 2));
    queue.SetMostAttempts(9);
    EXPECT_THAT(queue.spent(), IsEmpty());
    EXPECT_THAT(queue.suspects(), ElementsAre(2, 3));
    queue.erase(2);
    queue.erase(3);
    EXPECT_THAT(queue.suspects(), IsEmpty());
}

TEST(LooseQueueTest, AFilterLooksAgainOnlyAtWhatCameSinceAndItHasNotRefused) {
    LooseQueue queue;
    queue.emplace(5, Loose{});
    queue.SetLookFrom(1, 6);
    EXPECT_EQ(queue.look_from(1), 6U);
    EXPECT_EQ(queue.look_from(0), 0U);
    queue.emplace(3, Loose{0, 1, 0, true, MaskOf(1)});
    EXPECT_EQ(queue.look_from(1), 6U) << "its own filter set it aside";
    queue.emplace(2, Loose{0, 1, 0, true, MaskOf(0)});
    EXPECT_EQ(queue.look_from(1), 2U);
    queue.SetLookFrom(1, 9);
    queue.ForgetRefusals(MaskOf(1));
    EXPECT_EQ(queue.look_from(1), 0U);
    EXPECT_EQ(queue.find(3)->second.refused, 0U);
}

TEST(LooseQueueTest, WhatWasNeverHandedOutIsCounted) {
    LooseQueue queue;
    queue.emplace(1, Loose{0, 1, 0, true});
    queue.emplace(1, Loose{0, 1, 0, true});
    queue.emplace(2, Loose{});
    EXPECT_EQ(queue.unseen_count(), 1U);
    queue.erase(queue.begin(), queue.end());
    EXPECT_EQ(queue.unseen_count(), 0U);
}

TEST(FilterSlotsTest, EveryMemberRefusesOnlyWhenNoneIsLeftThatMayWantIt) {
    FilterSlots slots;
    const TagFilter a{TagMode::kAny, {"a"}};
    const TagFilter b{TagMode::kAny, {"b"}};
    const FilterSlot first = slots.Add(a, ConsumeSource::kSubject);
    EXPECT_EQ(slots.Add(a, ConsumeSource::kBoth), first);
    EXPECT_FALSE(slots.mixed(Origin::kSubject));
    const FilterSlot second = slots.Add(b, ConsumeSource::kRetry);
    EXPECT_FALSE(slots.mixed(Origin::kSubject)) << "who takes retries only does not matter there";
    EXPECT_TRUE(slots.mixed(Origin::kRetry));
    EXPECT_TRUE(slots.AllRefuse(MaskOf(first), Origin::kSubject));
    EXPECT_FALSE(slots.AllRefuse(MaskOf(first), Origin::kRetry));
    EXPECT_TRUE(slots.AllRefuse(MaskOf(first) | MaskOf(second), Origin::kRetry));
    EXPECT_EQ(slots.Remove(first, ConsumeSource::kBoth), 0U);
    EXPECT_EQ(slots.Remove(first, ConsumeSource::kSubject), MaskOf(first));
    EXPECT_FALSE(slots.AllRefuse(MaskOf(first), Origin::kSubject)) << "nobody is there to refuse";
}

// Each visit walked over all suspects and all retries that its member had refused.
TEST(LooseQueueTest, SuspectsThatAFilterHasRefusedAreNotWalkedAgain) {
    LooseQueue queue;
    for (std::uint64_t sequence = 10; sequence < 20; ++sequence) {
        queue.emplace(sequence, Loose{0, 1, 2});
    }
    EXPECT_EQ(*queue.FirstSuspectFor(0), 10U);
    for (std::uint64_t sequence = 10; sequence < 15; ++sequence) {
        queue.Refuse(queue.find(sequence), MaskOf(0));
    }
    EXPECT_EQ(*queue.FirstSuspectFor(0), 15U);
    EXPECT_EQ(*queue.FirstSuspectFor(1), 10U);
    queue.emplace(5, Loose{0, 1, 2});
    EXPECT_EQ(*queue.FirstSuspectFor(0), 5U) << "it came back";
    queue.ForgetRefusals(MaskOf(0));
    queue.erase(5);
    EXPECT_EQ(*queue.FirstSuspectFor(0), 10U) << "another filter has the slot";
}

TEST(WaitingSetTest, RetriesThatAFilterHasRefusedAreNotWalkedAgain) {
    WaitingSet waiting;
    for (std::uint64_t sequence = 10; sequence < 20; ++sequence) {
        waiting.Insert(Waiting{sequence, 0, 0, 1, static_cast<ShardMs>(sequence)});
        waiting.Refuse(sequence, MaskOf(0));
    }
    EXPECT_EQ((*waiting.FirstFor(0))->sequence, 10U);
    waiting.SetLookFrom(0, waiting.PlaceOf(waiting.by_due().end()));
    EXPECT_EQ(waiting.FirstFor(0), waiting.by_due().end());
    EXPECT_EQ((*waiting.FirstFor(1))->sequence, 10U);
    waiting.Insert(Waiting{5, 0, 0, 1, 15});
    EXPECT_EQ((*waiting.FirstFor(0))->sequence, 5U) << "it is due before those";
    waiting.ForgetRefusals(MaskOf(0));
    EXPECT_EQ((*waiting.FirstFor(0))->sequence, 10U) << "another filter has the slot";
}

}  // namespace
}  // namespace qmq::broker
