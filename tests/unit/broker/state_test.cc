#include "server/broker/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// What a log with damage comes to: nothing is lost, and nothing breaks.
namespace qmq::broker {
namespace {

using ::testing::ElementsAre;

class StateTest : public ::testing::Test {
protected:
    const ConsumerName consumer_{{"orders", "billing"}, "c1", ConsumeSource::kBoth};

    HandedOut HandOut(std::uint64_t pull, std::uint64_t first, std::uint32_t count) {
        return HandedOut{consumer_,
                         pull,
                         1'000,
                         first + count,
                         {HandOutRun{Origin::kSubject, TakenFrom::kNew, first, count, 1, 0}},
                         first};
    }
    std::vector<std::uint64_t> Loose() {
        std::vector<std::uint64_t> all;
        for (const auto& [sequence, loose] : state_.FindGroup(consumer_.group)->redelivery[0]) {
            all.push_back(sequence);
        }
        return all;
    }
    std::vector<std::uint64_t> HeldPulls() {
        std::vector<std::uint64_t> all;
        state_.FindConsumer(consumer_)->held.ForEach(
            [&all](std::uint64_t pull, const Held&) { all.push_back(pull); });
        return all;
    }

    BrokerOptions options_;
    State state_{options_};
};

TEST_F(StateTest, WhatADamagedHandOutGaveAwayGoesOutAgain) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, 0, 2));
    // HandOut(2, 2, 3) is damaged.
    state_.Apply(HandOut(5, 5, 1));
    state_.EnterGaps();
    EXPECT_THAT(Loose(), ElementsAre(2, 3, 4));
    EXPECT_THAT(HeldPulls(), ElementsAre(0, 1, 5));
    EXPECT_EQ(state_.FindGroup(consumer_.group)->next_sequence, 6U);
    // Its acks find nothing, and harm nothing.
    state_.Apply(Acked{consumer_, {{0, 4}}});
    EXPECT_THAT(HeldPulls(), ElementsAre(5));
}

TEST_F(StateTest, WhatADamagedSkipPassedOverIsLookedAtAgain) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(Skipped{consumer_.group, 9, 7});
    state_.EnterGaps();
    EXPECT_EQ(state_.FindGroup(consumer_.group)->redelivery[0].size(), 7U);
    EXPECT_TRUE(state_.FindGroup(consumer_.group)->redelivery[0].begin()->second.unseen);
}

// What retention takes unread is in no record. A replay made an entry for each such message, only
// to drop them in the end: a group that had missed 10^8 of them needed 10 GB to start.
TEST_F(StateTest, WhatTheLogDoesNotSayHasNoEntriesWhileItIsReplayed) {
    constexpr std::uint64_t kFar = 1'000'000;
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, kFar, 1));
    EXPECT_THAT(Loose(), ElementsAre());
    state_.Apply(Skipped{consumer_.group, kFar + 5, kFar + 4});
    // But for what a record names: it finds it in the queue, as in the process that wrote it.
    HandedOut again = HandOut(1, 0, 0);
    again.from_sequence = again.next_sequence = kFar + 5;
    again.runs = {{Origin::kSubject, TakenFrom::kRedelivery, kFar + 2, 1, 1, 0, 0}};
    state_.Apply(again);
    EXPECT_THAT(HeldPulls(), ElementsAre(0, 1));
    state_.Apply(Moved{{consumer_.group, {}}, 0, {{kFar + 3, kFar + 3}}});
    state_.Apply(Skipped{consumer_.group, kFar + 5, kFar + 5, {}, {{7, 2}}});
    EXPECT_THAT(Loose(), ElementsAre());
    state_.Apply(GroupPlaced{consumer_.group, kFar, true});
    state_.EnterGaps();
    EXPECT_THAT(Loose(), ElementsAre()) << "a reset forgets it";
}

TEST_F(StateTest, OfWhatTheLogDoesNotSayOnlyTheRestGoesOutAgain) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, 9, 1));
    HandedOut again = HandOut(1, 0, 0);
    again.from_sequence = again.next_sequence = 10;
    again.runs = {{Origin::kSubject, TakenFrom::kRedelivery, 2, 2, 1, 0, 0}};
    state_.Apply(again);
    state_.Apply(Moved{{consumer_.group, {}}, 0, {{5, 5}}});
    state_.Apply(Skipped{consumer_.group, 10, 10, {}, {{7, 1}}});
    state_.EnterGaps();
    EXPECT_THAT(Loose(), ElementsAre(0, 1, 4, 6, 8));
}

TEST_F(StateTest, AGroupWhosePlaceIsDamagedGoesOnWhereItWas) {
    state_.Apply(HandOut(0, 40, 2));
    EXPECT_TRUE(state_.FindGroup(consumer_.group)->placed);
    EXPECT_EQ(state_.FindGroup(consumer_.group)->next_sequence, 42U);
    EXPECT_THAT(Loose(), ElementsAre());
}

// A power cut took the record by which a lease had ended, and left the hand-out after it: the ack
// of the second consumer was undone by the lease of the first one, and the message came again.
TEST_F(StateTest, WhatCameFromTheQueueIsNoLongerWithWhoeverHeldItBefore) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, 0, 3));
    // Released{consumer_, kLost, {{1, 1}}} is damaged.
    const ConsumerName other{consumer_.group, "other", ConsumeSource::kBoth};
    HandedOut again = HandOut(0, 0, 0);
    again.consumer = other;
    again.from_sequence = again.next_sequence = 3;
    again.runs = {{Origin::kSubject, TakenFrom::kRedelivery, 1, 1, 1, 1, 0}};
    state_.Apply(again);
    state_.Apply(Acked{other, {{0, 0}}});
    EXPECT_THAT(HeldPulls(), ElementsAre(0, 2));
}

/// Dead letters, which wait in place; the hand-out of one is damaged, and the next one is there.
class StaleTest : public StateTest {
protected:
    StaleTest() {
        state_.Apply(GroupPlaced{first_.group, 0, false});
        HandedOut hand_out = HandOut(0, 0, 1);
        hand_out.consumer = first_;
        state_.Apply(hand_out);
    }
    void HandOutAgain(TakenFrom from) {
        HandedOut again = HandOut(0, 0, 0);
        again.consumer = second_;
        again.time_ms = 2'000;
        again.from_sequence = again.next_sequence = 1;
        again.runs = {{Origin::kSubject, from, 0, 1, 2, 0, 5}};
        state_.Apply(again);
    }
    void ExpectOnlyTheSecondHoldsIt() {
        const Group& group = *state_.FindGroup(first_.group);
        EXPECT_TRUE(group.waiting.empty());
        EXPECT_TRUE(group.redelivery[0].empty());
        EXPECT_EQ(state_.FindConsumer(first_)->held.count(), 0U);
        Held* held = state_.FindConsumer(second_)->held.Find(0);
        ASSERT_NE(held, nullptr);
        EXPECT_EQ(held->attempt(), 2U);
        EXPECT_EQ(held->since_ms(), 1'000) << "when it was handed out first";
    }

    const GroupName group_{"%DEAD_RETRY%orders%billing", "auditors"};
    const ConsumerName first_{group_, "c1", ConsumeSource::kBoth};
    const ConsumerName second_{group_, "c2", ConsumeSource::kBoth};
};

// A power cut took the record of a retry's hand-out, and left that it was given back and handed to
// another one: it seemed to wait still, and came again after its ack.
TEST_F(StaleTest, WhatCameFromTheQueueWaitsNoMore) {
    state_.Apply(Deferred{first_, 5, {{0, 0}}});
    // HandedOut{first_, kWaiting} is damaged.
    state_.Apply(Released{first_, ReleaseCause::kReturned, {{1, 1}}});
    HandOutAgain(TakenFrom::kRedelivery);
    ExpectOnlyTheSecondHoldsIt();
}

TEST_F(StaleTest, WhatHasWaitedIsInTheQueueNoMore) {
    state_.Apply(Released{first_, ReleaseCause::kReturned, {{0, 0}}});
    // HandedOut{first_, kRedelivery} is damaged.
    state_.Apply(Deferred{first_, 5, {{1, 1}}});
    HandOutAgain(TakenFrom::kWaiting);
    ExpectOnlyTheSecondHoldsIt();
}

TEST_F(StateTest, PullSequencesThatGoBackBeginAnew) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(10, 0, 2));
    // The record of the consumer's end is damaged; another one of its name began below.
    state_.Apply(HandOut(3, 2, 1));
    EXPECT_THAT(HeldPulls(), ElementsAre(3));
    EXPECT_THAT(Loose(), ElementsAre(0, 1));
}

// Where the record of its filter is damaged the consumer seems to have another one, and members of
// that one were never given what was set aside: 1 of 50,000 sequences of any calls.
TEST_F(StateTest, AReplayKnowsOfNobodyWhoRefusesWhatWasSetAside) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(Subscribed{consumer_, {}, {}, {}});
    // Subscribed with tags is damaged.
    HandedOut hand_out = HandOut(0, 3, 1);
    hand_out.from_sequence = 0;
    hand_out.aside = {{0, 3}};
    state_.Apply(hand_out);
    EXPECT_THAT(Loose(), ElementsAre(0, 1, 2));
    for (const auto& [sequence, loose] : state_.FindGroup(consumer_.group)->redelivery[0]) {
        EXPECT_EQ(loose.refused, 0U) << sequence;
    }
}

TEST_F(StateTest, EveryActionOfAnUnknownGroupIsTakenWithoutHarm) {
    state_.Apply(GroupGone{consumer_.group});
    state_.Apply(Acked{consumer_, {{0, UINT64_MAX}}});
    state_.Apply(Released{consumer_, ReleaseCause::kLost, {{0, UINT64_MAX}}, {{0, UINT64_MAX}}});
    state_.Apply(Deferred{consumer_, 5, {{0, UINT64_MAX}}});
    state_.Apply(Moved{consumer_, 5, {{0, UINT64_MAX}}, Origin::kSubject});
    state_.Apply(ConsumerGone{consumer_});
    EXPECT_EQ(state_.FindGroup(consumer_.group), nullptr);
}

TEST_F(StateTest, ASnapshotHasTheSameStateAndTheUnappliedActions) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, 0, 5));
    state_.Apply(Acked{consumer_, {{1, 2}}});
    std::string unapplied;
    Encode(Acked{consumer_, {{4, 4}}}, unapplied);
    const std::string bytes = state_.Save(std::span(&unapplied, 1));

    State loaded(options_);
    const Status status = loaded.Load(bytes);
    ASSERT_TRUE(status.ok()) << status;
    state_.Apply(Acked{consumer_, {{4, 4}}});
    EXPECT_EQ(loaded.Save({}), state_.Save({}));
}

TEST_F(StateTest, EveryTruncationOfASnapshotIsAnError) {
    state_.Apply(GroupPlaced{consumer_.group, 0, false});
    state_.Apply(HandOut(0, 0, 5));
    state_.Apply(Released{consumer_, ReleaseCause::kLost, {{2, 2}}, {{2, 2}}});
    const std::string bytes = state_.Save({});
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        State loaded(options_);
        EXPECT_FALSE(loaded.Load(std::string_view(bytes).substr(0, size)).ok()) << size;
    }
}

TEST_F(StateTest, AnIdleGroupIsSmall) {
    // Two strings of names and two nodes of maps come to it; a consumer is there while it is there.
    EXPECT_LE(sizeof(Group), 640U);
    EXPECT_LE(sizeof(Consumer), 640U);
}

}  // namespace
}  // namespace qmq::broker
