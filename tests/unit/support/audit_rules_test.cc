// Each rule of the audit: a story that breaks it is noticed, and a legal one is not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/audit.h"

namespace qmq::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class HandClock final : public Clock {
public:
    TimePoint Now() const override { return now; }
    WallTime WallNow() const override { return WallTime(1h); }
    TimePoint now{1h};
};

class AuditRulesTest : public ::testing::Test {
protected:
    AuditRulesTest() { audit_.AddGroup(Audit::GroupRules{.name = "g", .max_attempts = 3}); }

    void Send(const std::string& id, std::uint32_t frames = 1, std::uint64_t sequence = 7) {
        audit_.OnSend({.id = id, .body = "body", .subject = "s"});
        audit_.OnTold(id, SendOutcome::kPersisted, frames, Durability::kFsync, sequence);
    }
    Audit::DeliveryId Handle(const std::string& id,
                             std::uint32_t attempt = 1,
                             std::optional<Copy> copy = Copy{false, 7}) {
        if (copy.has_value()) {
            audit_.OnHandedOut("g", id, *copy);
        }
        return audit_.OnHandled({.group = "g",
                                 .id = id,
                                 .body = "body",
                                 .attempt = attempt,
                                 .consumer = "c" + std::to_string(next_consumer_),
                                 .copy = copy});
    }
    void Ask(Audit::DeliveryId delivery, AckVerdict verdict, std::chrono::nanoseconds due = 0s) {
        audit_.OnAsked(delivery, {verdict, clock_.now + due, "because"});
    }
    void Decide(Audit::DeliveryId delivery, AckVerdict verdict, std::chrono::nanoseconds due = 0s) {
        Ask(delivery, verdict, due);
        audit_.OnAnswered(delivery, Status::Ok());
    }
    void Bury(const std::string& id, std::uint32_t attempt, const std::string& error = "because") {
        audit_.OnDeadLetter(
            {.group = "g", .id = id, .body = "body", .attempt = attempt, .error = error});
    }
    std::vector<std::string> Problems() { return audit_.Judge().problems; }

    HandClock clock_;
    Audit audit_{clock_};
    int next_consumer_ = 1;
};

// Redelivery.

TEST_F(AuditRulesTest, WhatAHandlerFailedMustComeAgainAndBeAcked) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(Problems(),
                ElementsAre(HasSubstr("never came again to group g: attempt 1 failed")));
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WhatAConsumerHeldWhenItDiedMustComeAgain) {
    Send("a");
    Handle("a");
    audit_.OnConsumerGone("c1", clock_.now + 2s);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("was with a consumer that died")));
    clock_.now += 2s;
    Decide(Handle("a", 1), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WhatIsUndecidedIsMissing) {
    Send("a");
    Handle("a");
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("attempt 1 is undecided")));
}

TEST_F(AuditRulesTest, ALateVerdictOfWhoHoldsItNoMoreDecidesNothing) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    const Audit::DeliveryId slow = Handle("a");
    Decide(Handle("a", 2), AckVerdict::kAck);
    Ask(slow, AckVerdict::kRetry);
    audit_.OnAnswered(slow, Status::NotFound("not held"));
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WhatALostLeaseHasLedToIsForgottenByAPowerCutAfterThat) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    audit_.OnPowerCut();
    const Audit::DeliveryId slow = Handle("a", 2, Copy{true, 1});
    for (int i = 0; i < 3; ++i) {
        audit_.OnDurablePoint();
    }
    Decide(Handle("a", 3, Copy{true, 2}), AckVerdict::kAck);
    audit_.OnPowerCut();
    Ask(slow, AckVerdict::kAck);
    audit_.OnAnswered(slow, Status::NotFound("not held"));
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, OfTwoCopiesWhoseConsumersDiedOneMayHaveBeenBegunAndTheOtherNot) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a", 2);
    Handle("a");
    audit_.OnConsumerGone("c1");
    next_consumer_ = 2;
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kRetry);
    Handle("a", 2, Copy{true, 1});
    audit_.OnConsumerGone("c2");
    next_consumer_ = 3;
    // The broker has moved both: it knew of neither that a handler had begun.
    Decide(Handle("a", 2, Copy{true, 5}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 1, Copy{true, 4}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 1, Copy{true, 6}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), Not(IsEmpty()));
}

TEST_F(AuditRulesTest, ACopyThatNoHandlerSawMayComeAsWhatTheBrokerMadeOfItOnce) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a", 3, 8);
    audit_.OnHandedOut("g", "a", Copy{false, 7});
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 1, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("after its ack was confirmed")));
}

// It was taken for the retry of the other copy, which it may be as well.
TEST_F(AuditRulesTest, WhatMayBeTheRetryOfACopyOrAnotherOneIsTheOneThatWouldBeMissing) {
    audit_.OnTrouble(clock_.now + 1h);
    for (const bool is_handed_out : {true, false}) {
        const std::string id = is_handed_out ? "a" : "b";
        const std::uint64_t sequence = is_handed_out ? 7 : 17;
        Send(id, 2, sequence);
        if (is_handed_out) {
            audit_.OnHandedOut("g", id, Copy{false, sequence});
        }
        Decide(Handle(id, 1, Copy{false, sequence + 1}), AckVerdict::kAck);
        audit_.OnPowerCut();  // It may have taken the ack.
        Decide(Handle(id, 1, Copy{true, sequence}), AckVerdict::kAck);
    }
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(Problems(),
                ElementsAre(HasSubstr("message b: its copy with sequence 17 never reached")));
}

TEST_F(AuditRulesTest, ACopyThatCameAsWhatTheBrokerMadeOfItLeavesTheLaterRetryToTheOther) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a", 2, 8);
    Ask(Handle("a"), AckVerdict::kRetry);
    audit_.OnConsumerGone("c1");
    audit_.OnHandedOut("g", "a", Copy{false, 8});
    next_consumer_ = 2;
    Ask(Handle("a", 1, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 2, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

// Time.

TEST_F(AuditRulesTest, ARetryComesWithinASecondOfItsTime) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry, 3s);
    clock_.now += 3900ms;
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());

    Send("b", 1, 8);
    Decide(Handle("b", 1, Copy{false, 8}), AckVerdict::kRetry, 3s);
    clock_.now += 4100ms;
    Decide(Handle("b", 2, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("came again 1100 ms after it was due")));
}

TEST_F(AuditRulesTest, NothingIsLateWhileSomethingIsBroken) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    audit_.OnTrouble(clock_.now + 10s);
    clock_.now += 10s;
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WhatWasBrokenIsKnownFromThenOnAlsoWhenItIsNoticedLater) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry, 1s);
    clock_.now += 4s;
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("after it was due")));
    clock_.now += 1ms;
    audit_.OnTrouble(clock_.now + 1s);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("after it was due")));
    audit_.OnTrouble(clock_.now - 3s, clock_.now);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, AMessageComesWithinASecondOfItsReceipt) {
    Send("a");
    clock_.now += 1100ms;
    Decide(Handle("a"), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("came 1100 ms after it was due")));
}

// Copies.

TEST_F(AuditRulesTest, AMessageHasNoMoreCopiesThanFrames) {
    Send("a", 1);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ::testing::Contains(HasSubstr("has 2 copies, and travelled in 1")));
}

TEST_F(AuditRulesTest, EachOfTwoCopiesIsJudgedByItself) {
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kRetry);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 2, Copy{false, 7}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("after its ack was confirmed")));
}

// A test that knew no sequences took what came again with the same attempt for a second copy, and
// missed the first one for ever.
TEST_F(AuditRulesTest, WhatComesAgainAfterADeathWithTheSameAttemptIsNotTakenForASecondCopy) {
    Send("a", 2);
    Handle("a", 1, std::nullopt);
    audit_.OnConsumerGone("c1", clock_.now);
    EXPECT_EQ(audit_.missing_count(), 1U);
    ++next_consumer_;
    Decide(Handle("a", 1, std::nullopt), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, OfTwoCopiesWhoseSequencesNobodyKnowsOneMayComeAgainAfterTheOtherIsAcked) {
    Send("a", 2);
    Handle("a", 1, std::nullopt);
    audit_.OnConsumerGone("c1", clock_.now);
    ++next_consumer_;
    Decide(Handle("a", 1, std::nullopt), AckVerdict::kAck);
    Decide(Handle("a", 2, std::nullopt), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 3, std::nullopt), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ::testing::Not(IsEmpty()));
}

TEST_F(AuditRulesTest, ACopyThatAGroupHasNotSeenIsWaitedFor) {
    audit_.AddGroup("h");
    Send("a", 2, 8);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    const auto of_h = audit_.OnHandled(
        {.group = "h", .id = "a", .body = "body", .consumer = "c1", .copy = Copy{false, 7}});
    Decide(of_h, AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 1U);
}

// Both failed, and the newer one's consumer died before the broker heard: it is the older one that
// has the retry.
TEST_F(AuditRulesTest, TheRetryOfOneOfTwoCopiesIsNotThatOfTheOneThatComesAgainItself) {
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kRetry);
    ++next_consumer_;
    Ask(Handle("a", 1, Copy{false, 8}), AckVerdict::kRetry);
    audit_.OnConsumerGone("c2", clock_.now);
    ++next_consumer_;
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, OfTwoCopiesThatFailedTheRetryThatComesFirstIsOfTheOneThatIsDue) {
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kRetry, 100ms);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kRetry, 5s);
    clock_.now += 100ms;
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    clock_.now += 4900ms;
    Decide(Handle("a", 2, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

// Nothing says which of two copies a retry is of: it is the one with which all fits.
TEST_F(AuditRulesTest, OfTwoCopiesThatFailedTheOlderRetryMayBeThatOfTheOlderOne) {
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kRetry, 5s);
    audit_.OnHandedOut("g", "a", Copy{true, 1});  // On its way for long.
    clock_.now += 20ms;
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kRetry, 30ms);
    clock_.now += 20ms;
    Ask(Handle("a", 2, Copy{true, 2}), AckVerdict::kRetry);
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    Decide(Handle("a", 3, Copy{true, 3}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, TheCopyOfTheReceiptMustComeToEveryGroup) {
    Send("a", 2, 8);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("its copy with sequence 8 never reached")));
}

TEST_F(AuditRulesTest, AnotherSequenceThanThatOfTheReceiptIsNoticed) {
    Send("a", 1, 8);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ::testing::Contains(HasSubstr("its receipt says 8")));
}

TEST_F(AuditRulesTest, OneCopyIsAckedOnce) {
    Send("a");
    const Audit::DeliveryId first = Handle("a");
    const Audit::DeliveryId second = Handle("a", 2);
    clock_.now += 1ms;
    Decide(second, AckVerdict::kAck);
    clock_.now += 1ms;
    Decide(first, AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("both acks were confirmed")));
}

TEST_F(AuditRulesTest, TwoReceiptsShareNoSequence) {
    Send("a");
    Send("b");
    EXPECT_THAT(Problems(), ::testing::Contains(HasSubstr("both told sequence 7 of subject s")));
}

// Power cuts.

TEST_F(AuditRulesTest, APowerCutExcusesOneFurtherDeliveryAndNotTheNext) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kAck);
    audit_.OnPowerCut();
    Decide(Handle("a"), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 2), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("after its ack was confirmed")));
}

TEST_F(AuditRulesTest, AfterAPowerCutACopyAndItsRetryMayBothGoOnAndBothMustBeDone) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    audit_.OnPowerCut();
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    Decide(Handle("a", 1), AckVerdict::kRetry);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 2, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WithoutAPowerCutACopyDoesNotComeBesideItsRetry) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck);
    Decide(Handle("a", 2), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("as what it was before its retry")));
}

TEST_F(AuditRulesTest, WhatAPowerCutMadeOneHoldAgainMayBeMovedBesideTheRetryThatItTook) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    const Audit::DeliveryId slow = Handle("a");
    Ask(slow, AckVerdict::kAck);
    audit_.OnAnswered(slow, Status::NotFound("not held"));
    Ask(Handle("a", 2), AckVerdict::kRetry);
    Ask(Handle("a", 3, Copy{true, 2}), AckVerdict::kRetry);
    audit_.OnPowerCut();
    clock_.now += 1ms;
    Decide(Handle("a", 2, Copy{true, 3}), AckVerdict::kRetry);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide(Handle("a", 3, Copy{true, 9}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

/// A retry that a power cut takes before its handler has heard that it was asked for.
class ForgottenRetryTest : public AuditRulesTest {
protected:
    void FailTwice(int points) {
        Send("a");
        const Audit::DeliveryId failed = Handle("a");
        Ask(failed, AckVerdict::kRetry);
        const Audit::DeliveryId retried = Handle("a", 2, Copy{true, 1});
        Ask(retried, AckVerdict::kAck);
        for (int i = 0; i < points; ++i) {
            audit_.OnDurablePoint();
        }
        audit_.OnPowerCut();
        clock_.now += 1ms;
        audit_.OnAnswered(failed, Status::Ok());
        audit_.OnAnswered(retried, Status::Ok());
        Decide(Handle("a", 2, Copy{true, 2}), AckVerdict::kAck);
    }
};

TEST_F(ForgottenRetryTest, ItIsMadeAgainWhenItIsAskedForAgain) {
    FailTwice(0);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(ForgottenRetryTest, ItIsMadeAgainOnce) {
    FailTwice(0);
    Decide(Handle("a", 2, Copy{true, 3}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("as what it was before its retry")));
}

TEST_F(ForgottenRetryTest, WhatWasSyncedLongBeforeIsNotForgotten) {
    FailTwice(3);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("as what it was before its retry")));
}

/// A copy of the same sequence as one before: a power cut may have taken that one.
class UsedAgainTest : public AuditRulesTest {
protected:
    void Fail(std::uint64_t sequence) {
        Decide(Handle("a", 1, Copy{false, sequence}), AckVerdict::kRetry);
    }
    void AckRetry() { Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kAck); }
    void CutPower(int points) {
        for (int i = 0; i < points; ++i) {
            audit_.OnDurablePoint();
        }
        audit_.OnPowerCut();
    }
};

TEST_F(UsedAgainTest, WhatFailsAgainAfterAPowerCutHasARetryOfItsOwn) {
    Send("a");
    Fail(7);
    AckRetry();
    CutPower(0);
    Fail(7);
    AckRetry();
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(UsedAgainTest, SoHasAnotherCopyThatFailsAfterIt) {
    Send("a", 2);
    Fail(7);
    AckRetry();
    Fail(8);
    CutPower(0);
    Fail(8);
    AckRetry();
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(UsedAgainTest, WhatFailedBeforeThePowerCutMustHaveOne) {
    Send("a", 2);
    Fail(7);
    AckRetry();
    Fail(8);
    CutPower(0);
    AckRetry();
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again to group g: attempt 1")));
}

TEST_F(UsedAgainTest, ARetryThatWasSyncedIsNotThatOfAnotherCopy) {
    Send("a", 2);
    Fail(7);
    CutPower(3);
    AckRetry();
    CutPower(0);
    Fail(8);
    AckRetry();
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again to group g: attempt 1")));
}

/// A lease ends, the next consumer acks, the power goes, and then the first one is heard.
class TwiceAckedTest : public AuditRulesTest {
protected:
    void AckTwice(int points, bool is_before_cut) {
        audit_.OnTrouble(clock_.now + 1h);
        Send("a");
        const Audit::DeliveryId slow = Handle("a");
        Ask(slow, AckVerdict::kAck);
        const Audit::DeliveryId next = Handle("a", 2);
        for (int i = 0; i < points; ++i) {
            audit_.OnDurablePoint();
        }
        Ask(next, AckVerdict::kAck);
        if (is_before_cut) {
            audit_.OnAnswered(next, Status::Ok());
        }
        audit_.OnPowerCut();
        clock_.now += 1ms;
        audit_.OnAnswered(slow, Status::Ok());
        if (!is_before_cut) {
            clock_.now += 1ms;
            audit_.OnAnswered(next, Status::Ok());
        }
    }
};

TEST_F(TwiceAckedTest, APowerCutThatTakesTheNextDeliveryLeavesItToTheFirstConsumer) {
    AckTwice(0, true);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(TwiceAckedTest, ADeliveryThatWasSyncedLongBeforeStaysWithTheNextConsumer) {
    AckTwice(3, true);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("both acks were confirmed")));
}

TEST_F(TwiceAckedTest, AfterThePowerCutOnlyOneOfThemHoldsIt) {
    AckTwice(0, false);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("both acks were confirmed")));
}

/// A lease ends, the next consumer fails, the power goes, and then the first one is heard.
class FailedMeanwhileTest : public AuditRulesTest {
protected:
    void FailMeanwhile(int points, AckVerdict verdict = AckVerdict::kAck) {
        audit_.OnTrouble(clock_.now + 1h);
        Send("a");
        const Audit::DeliveryId slow = Handle("a");
        Ask(slow, verdict);
        const Audit::DeliveryId next = Handle("a", 2);
        for (int i = 0; i < points; ++i) {
            audit_.OnDurablePoint();
        }
        Decide(next, AckVerdict::kRetry);
        audit_.OnPowerCut();
        clock_.now += 1ms;
        audit_.OnAnswered(slow, Status::Ok());
    }
};

TEST_F(FailedMeanwhileTest, WhatAPowerCutGaveBackToTheFirstConsumerIsDoneWithItsAck) {
    FailMeanwhile(0);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(FailedMeanwhileTest, WhatThePowerCutCannotHaveGivenBackMustComeAgain) {
    FailMeanwhile(3);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again")));
}

TEST_F(FailedMeanwhileTest, WhatTheFirstConsumerFailsMustComeAgain) {
    FailMeanwhile(0, AckVerdict::kRetry);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again")));
}

TEST_F(AuditRulesTest, WhatWasToldPageCacheLongBeforeIsNotExcused) {
    audit_.OnSend({.id = "a", .body = "body", .promised = Durability::kPageCache});
    audit_.OnTold("a", SendOutcome::kPersisted, 1, Durability::kPageCache);
    audit_.OnDurablePoint();
    audit_.OnDurablePoint();
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 1U);
}

// Attempts.

TEST_F(AuditRulesTest, AnAttemptThatAHandlerFailedCounts) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    Decide(Handle("a", 1, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(),
                ElementsAre(HasSubstr("attempt 1 after attempt 1, which its handler had failed")));
}

TEST_F(AuditRulesTest, AnAttemptNeverFallsAndNeverJumps) {
    Send("a");
    Handle("a");
    Decide(Handle("a", 3), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("attempt 3 after attempt 1")));

    Send("b", 1, 8);
    Handle("b", 1, Copy{false, 8});
    Handle("b", 2, Copy{false, 8});
    Decide(Handle("b", 1, Copy{false, 8}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ::testing::Contains(HasSubstr("attempt 1 after attempt 2")));
}

TEST_F(AuditRulesTest, TheFirstTwoDeathsOfWhoMerelyHeldItCostNoAttemptAndTheThirdDoes) {
    Send("a");
    for (int i = 0; i < 2; ++i) {
        audit_.OnHandedOut("g", "a", {false, 7});
    }
    Decide(Handle("a", 2), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("for the first time with attempt 2")));

    Send("b", 1, 8);
    for (int i = 0; i < 3; ++i) {
        audit_.OnHandedOut("g", "b", {false, 8});
    }
    Decide(Handle("b", 2, Copy{false, 8}), AckVerdict::kAck);
    EXPECT_EQ(Problems().size(), 1U);  // That of "a" only.
}

// Deaths of handlers that were not told of were counted apart from those of consumers that merely
// held it, though the broker does not know one from the other.
TEST_F(AuditRulesTest, WhoHandledItAndDiedSilentlyMayHaveDiedForNothing) {
    Send("a");
    Handle("a");
    Handle("a");
    for (int i = 0; i < 2; ++i) {
        audit_.OnHandedOut("g", "a", {false, 7});  // Deaths three and four.
    }
    Decide(Handle("a", 3), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());

    Send("b", 1, 8);
    Handle("b", 1, Copy{false, 8});
    audit_.OnHandedOut("g", "b", {false, 8});
    Decide(Handle("b", 3, Copy{false, 8}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("attempt 3 after attempt 1")));
}

// Each of these was a false alarm of the simulation once.

TEST_F(AuditRulesTest, AnAttemptThatAnEarlierPowerCutTookIsNotAskedForByALaterOne) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    Handle("a");
    audit_.OnConsumerGone("c1", clock_.now);
    Handle("a", 2);
    audit_.OnPowerCut();  // It takes the second hand-out.
    for (int i = 0; i < 3; ++i) {
        audit_.OnDurablePoint();
    }
    Handle("a", 1);
    audit_.OnPowerCut();
    Decide(Handle("a", 1), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, AnAckCountsForNothingWhereItsHandOutIsDamaged) {
    Send("a");
    const Audit::DeliveryId first = Handle("a");
    audit_.OnRecordsDamaged();
    Decide(first, AckVerdict::kAck);
    clock_.now += 10ms;
    Decide(Handle("a"), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, ARetryThatAPowerCutTookLeavesItsSequenceToTheNextOne) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    clock_.now += 10ms;
    Ask(Handle("a", 2, Copy{true, 2}), AckVerdict::kRetry);
    clock_.now += 10ms;
    audit_.OnHandedOut("g", "a", Copy{true, 12});
    audit_.OnPowerCut();
    clock_.now += 10ms;
    Ask(Handle("a", 2, Copy{true, 2}), AckVerdict::kRetry);
    clock_.now += 10ms;
    Decide(Handle("a", 3, Copy{true, 12}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, AHandOutThatAPowerCutTookIsGoneWithItsVerdict) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a");
    Handle("a");
    audit_.OnConsumerGone("c1", clock_.now);
    for (int i = 0; i < 3; ++i) {
        audit_.OnDurablePoint();
    }
    clock_.now += 10ms;
    Decide(Handle("a", 2), AckVerdict::kRetry);
    audit_.OnPowerCut();
    clock_.now += 10ms;
    Decide(Handle("a", 1, Copy{true, 1}), AckVerdict::kAck);  // What was kept of the first copy.
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, ACopyMayBeMovedWhoseHandOutWasRecordedAndNeverLeft) {
    audit_.OnTrouble(clock_.now + 1h);
    Send("a", 2, 8);
    Decide(Handle("a", 1, Copy{false, 9}), AckVerdict::kAck);
    audit_.OnBrokerDied();
    clock_.now += 10ms;
    Decide(Handle("a", 1, Copy{true, 1}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
    Decide(Handle("a", 1, Copy{true, 2}), AckVerdict::kAck);
    EXPECT_THAT(Problems(), Not(IsEmpty()));  // There are two copies, and not three.
}

// Dead letters.

TEST_F(AuditRulesTest, WhatHasUsedUpItsAttemptsIsADeadLetterWithItsLastError) {
    Send("a");
    Decide(Handle("a", 1), AckVerdict::kRetry);
    Decide(Handle("a", 2, Copy{true, 1}), AckVerdict::kRetry);
    Decide(Handle("a", 3, Copy{true, 2}), AckVerdict::kRetry);
    EXPECT_EQ(audit_.missing_count(), 1U);
    Bury("a", 3);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, ADeadLetterThatCameTooEarlyIsNoticed) {
    Send("a");
    Decide(Handle("a", 1), AckVerdict::kRetry);
    Bury("a", 1);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("is a dead letter after attempt 1 of 3")));
}

TEST_F(AuditRulesTest, TheLastAttemptMayHaveBeenOfAConsumerThatDiedBeforeItSaidSo) {
    Send("a");
    Decide(Handle("a", 1, std::nullopt), AckVerdict::kRetry);
    Decide(Handle("a", 2, std::nullopt), AckVerdict::kRetry);
    clock_.now += 10ms;
    audit_.OnConsumerGone("other", clock_.now);
    Bury("a", 3, "");
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, WithoutADeathTheLastAttemptIsSeen) {
    Send("a");
    Decide(Handle("a", 1, std::nullopt), AckVerdict::kRetry);
    Decide(Handle("a", 2, std::nullopt), AckVerdict::kRetry);
    Bury("a", 3, "");
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("is a dead letter after attempt 2 of 3")));
}

TEST_F(AuditRulesTest, ADeadLetterWithAnotherErrorIsNoticed) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kDeadLetter);
    Bury("a", 1, "something else");
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("instead of \"because\"")));
}

TEST_F(AuditRulesTest, WhatWasRejectedIsMissingUntilItIsADeadLetterAndNeverComesAgain) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kDeadLetter);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("was rejected")));
    Decide(Handle("a", 2), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("came again after it was rejected")));
}

TEST_F(AuditRulesTest, ADeadLetterWasRightAlsoWhenItsCopyComesAgainAsThatWasForgotten) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kDeadLetter);
    Bury("a", 1);
    clock_.now += 10ms;
    audit_.OnRecordsDamaged();
    Decide(Handle("a"), AckVerdict::kAck);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, ADeadLetterOfWhatCameAgainBeforeItIsNoticed) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kRetry);
    audit_.OnRecordsDamaged();
    Decide(Handle("a"), AckVerdict::kAck);
    clock_.now += 10ms;
    Bury("a", 1);
    EXPECT_THAT(Problems(), Contains(HasSubstr("is a dead letter after attempt 1 of 3")));
}

TEST_F(AuditRulesTest, WhatNoHandlerSawIsNoDeadLetter) {
    Send("a");
    Bury("a", 3);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never saw, is its dead letter")));
}

TEST_F(AuditRulesTest, OneLetterMayBeFoundTwiceButOneCopyIsNotTwoLetters) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kDeadLetter);
    for (const std::uint64_t place : {1U, 1U, 2U}) {
        audit_.OnDeadLetter({.group = "g",
                             .id = "a",
                             .body = "body",
                             .attempt = 1,
                             .error = "because",
                             .copy = Copy{false, place}});
        EXPECT_EQ(Problems().size(), place - 1);
    }
}

// Answers, order, filters, losses.

TEST_F(AuditRulesTest, WhoHoldsAMessageIsNotToldThatItDoesNot) {
    Send("a");
    const Audit::DeliveryId delivery = Handle("a");
    Ask(delivery, AckVerdict::kAck);
    audit_.OnAnswered(delivery, Status::NotFound("not held"));
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("told that it held it no more")));
}

TEST_F(AuditRulesTest, AGroupOfOneThatNeverFailsSeesTheOrderOfSequences) {
    audit_.AddGroup(Audit::GroupRules{.name = "one", .is_ordered = true});
    Send("a", 1, 1);
    Send("b", 1, 2);
    const auto handle = [&](const std::string& id, std::uint64_t sequence) {
        const Copy copy{false, sequence};
        for (const char* group : {"g", "one"}) {
            Decide(audit_.OnHandled(
                       {.group = group, .id = id, .body = "body", .attempt = 1, .copy = copy}),
                   AckVerdict::kAck);
        }
    };
    handle("b", 2);
    EXPECT_THAT(Problems(), Not(Contains(HasSubstr("after sequence"))));
    handle("a", 1);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("sequence 1 after sequence 2")));
}

class MixedGroupTest : public AuditRulesTest {
protected:
    MixedGroupTest() { audit_.AddGroup(Audit::GroupRules{.name = "mixed", .is_mixed = true}); }
    void Join(const std::string& consumer, const std::string& tag) {
        audit_.OnMember({"mixed", "s", consumer, {TagMode::kAny, {tag}}});
    }
    void SendTagged(const std::string& id, const std::string& tag) {
        audit_.OnSend({.id = id, .body = "body", .not_for = "g", .subject = "s", .tags = {tag}});
        audit_.OnTold(id, SendOutcome::kPersisted, 1);
    }
    /// To c1, which dies with it.
    void HandOutAndLeave(const std::string& id) {
        audit_.OnHandedOut("mixed", id, Copy{false, 1});
        audit_.OnHandled(
            {.group = "mixed", .id = id, .body = "body", .consumer = "c1", .copy = Copy{false, 1}});
        audit_.OnConsumerGone("c1");
        audit_.OnMemberGone("c1", clock_.now);
    }
};

TEST_F(MixedGroupTest, WhatAMemberThatIsThereWantsMustCome) {
    Join("c1", "x");
    SendTagged("a", "x");
    SendTagged("b", "y");
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("message a was told persisted and never")));
}

TEST_F(MixedGroupTest, WhatNoMemberWantedForAMomentMayBePassedOver) {
    Join("c1", "x");
    SendTagged("a", "x");
    audit_.OnMemberGone("c1", clock_.now + 1s);
    clock_.now += 2s;
    Join("c2", "x");
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(MixedGroupTest, AMemberIsHandedNothingThatItDidNotAskFor) {
    Join("c1", "x");
    SendTagged("a", "y");
    audit_.OnAsked(
        audit_.OnHandled(
            {.group = "mixed", .id = "a", .body = "body", .attempt = 1, .consumer = "c1"}),
        {AckVerdict::kAck});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("its own filter does not let through")));
}

TEST_F(MixedGroupTest, WhatWasHandedOutComesAgainAlsoWhenNobodyWantedItForAMoment) {
    Join("c1", "x");
    SendTagged("a", "x");
    HandOutAndLeave("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again to group mixed")));
}

TEST_F(MixedGroupTest, WhatAPowerCutForgotToHaveBeenHandedOutMayBePassedOver) {
    Join("c1", "x");
    SendTagged("a", "x");
    HandOutAndLeave("a");
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(MixedGroupTest, APowerCutDoesNotForgetWhatWasHandedOutLongBefore) {
    Join("c1", "x");
    SendTagged("a", "x");
    HandOutAndLeave("a");
    for (int i = 0; i < 3; ++i) {
        audit_.OnDurablePoint();
    }
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never came again to group mixed")));
}

TEST_F(MixedGroupTest, WhatAMemberWantsAllTheTimeComesAgainAfterAPowerCut) {
    Join("c1", "x");
    Join("c2", "x");
    SendTagged("a", "x");
    HandOutAndLeave("a");
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 1U);
}

TEST_F(MixedGroupTest, WhatNoMemberHadLookedAtMayBeCountedAsLost) {
    Join("c1", "x");
    SendTagged("a", "x");
    audit_.OnMemberGone("c1", clock_.now);
    audit_.OnLossCounted("mixed", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("mixed", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, AGroupThatIsAckedOnReceiptCountsWhatItNeverSaw) {
    audit_.AddGroup(Audit::GroupRules{.name = "once", .is_at_most_once = true});
    Send("a");
    Send("b", 1, 8);
    Decide(Handle("a"), AckVerdict::kAck);
    Decide(Handle("b", 1, Copy{false, 8}), AckVerdict::kAck);
    audit_.OnHandled({.group = "once", .id = "b", .body = "body", .copy = Copy{false, 8}});
    audit_.OnLossCounted("once", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("once", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, AGroupThatIsAckedOnReceiptCountsTheCopyThatItNeverSaw) {
    audit_.AddGroup(Audit::GroupRules{.name = "once", .is_at_most_once = true});
    Send("a", 2, 8);
    Decide(Handle("a"), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    audit_.OnHandled({.group = "once", .id = "a", .body = "body", .copy = Copy{false, 8}});
    audit_.OnLossCounted("once", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("once", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, WhatAGroupCountsAsLostIsWhatIsMissing) {
    Send("a");
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    EXPECT_EQ(audit_.Judge().counted_lost, 1U);
    audit_.OnLossCounted("g", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 1 are missing")));
    audit_.OnLossCounted("g", {.count = 0, .is_exact = true});
    EXPECT_EQ(audit_.Judge().lost, 1U);
}

TEST_F(AuditRulesTest, EachCopyOfAMessageThatAGroupNeverSawIsOneThatItLost) {
    audit_.AddGroup(Audit::GroupRules{.name = "away"});
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    audit_.OnLossCounted("away", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("away", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), Not(IsEmpty()));
}

TEST_F(AuditRulesTest, ACopyThatWasMovedBeforeAnyHandlerSawItIsOneOfThose) {
    audit_.AddGroup(Audit::GroupRules{.name = "away"});
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    audit_.OnHandedOut("away", "a", Copy{false, 7});
    Decide(audit_.OnHandled({.group = "away", .id = "a", .body = "body", .copy = Copy{true, 1}}),
           AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("never reached group away")));
    audit_.OnLossCounted("away", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("away", {.count = 2, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 1 are missing")));
}

TEST_F(AuditRulesTest, ACopyThatNobodyHeardOfMayBeCountedAsLost) {
    audit_.OnSend({.id = "a", .body = "body", .subject = "s"});
    audit_.OnArrived("a");
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kPersisted, 7);
    audit_.OnTold("a", SendOutcome::kPersisted, 2, Durability::kFsync, 7);
    Decide(Handle("a"), AckVerdict::kAck);
    const auto count = [&](std::uint64_t lost) {
        audit_.OnLossCounted("g", {.count = lost, .is_exact = true, .seen_count = 0});
    };
    count(1);  // Of the frame that was never answered.
    EXPECT_THAT(Problems(), IsEmpty());
    count(2);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 0 are missing")));
    audit_.OnStored("a", SendOutcome::kPersisted, 8);  // The answer does not come to the sender.
    count(1);
    EXPECT_THAT(Problems(), IsEmpty());
    count(2);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 2 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, AGroupThatLostNothingHasSeenAllCopies) {
    audit_.AddGroup(Audit::GroupRules{.name = "other"});
    audit_.OnSend({.id = "a", .body = "body", .subject = "s"});
    audit_.OnArrived("a");  // And the broker was killed.
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kPersisted, 8);
    audit_.OnTold("a", SendOutcome::kPersisted, 2, Durability::kFsync, 8);
    const auto see = [&](const Copy& copy) {
        Decide(audit_.OnHandled({.group = "other", .id = "a", .body = "body", .copy = copy}),
               AckVerdict::kAck);
    };
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    see({false, 8});
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 1 lost messages; 0 are missing")));
    // It may have been handed the copy, and saw only what the broker moved.
    audit_.OnHandedOut("other", "a", Copy{false, 7});
    see({true, 1});
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, AFrameThatWasRefusedHasLeftNoCopyToLose) {
    audit_.OnSend({.id = "a", .body = "body", .subject = "s"});
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kRefused, 0);
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kPersisted, 7);
    audit_.OnTold("a", SendOutcome::kPersisted, 2, Durability::kFsync, 7);
    Decide(Handle("a"), AckVerdict::kAck);
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 1 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, AGroupThatSawNoneMayCountTheCopyThatNobodyHeardOfToo) {
    audit_.OnSend({.id = "a", .body = "body", .subject = "s"});
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kUnknown, 0);
    audit_.OnArrived("a");
    audit_.OnStored("a", SendOutcome::kPersisted, 7);
    audit_.OnTold("a", SendOutcome::kPersisted, 2, Durability::kFsync, 7);
    for (const std::uint64_t lost : {1U, 2U}) {
        audit_.OnLossCounted("g", {.count = lost, .is_exact = true, .seen_count = 0});
        EXPECT_THAT(Problems(), IsEmpty());
    }
    audit_.OnLossCounted("g", {.count = 3, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 3 lost messages; 1 are missing")));
}

TEST_F(AuditRulesTest, WhatWasHeldWhenItWasLostMayHaveBeenHandled) {
    Send("a");
    Decide(Handle("a"), AckVerdict::kAck);
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 1});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("counts 1 lost messages; 0 are missing")));
}

TEST_F(AuditRulesTest, WhatAMemberHeldIsNotLostToRetentionThoughNoHandlerSawIt) {
    Send("a");
    audit_.OnHandedOut("g", "a", {false, 7});
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(),
                ElementsAre(HasSubstr("lost 1 messages that it had been handed; it counts 0"),
                            HasSubstr("never reached group g")));
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 1});
    EXPECT_THAT(Problems(), IsEmpty());
    // A power cut makes it unread again.
    audit_.OnPowerCut();
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(AuditRulesTest, NorIsACopyThatAMemberHeldBesideOneThatWasHandled) {
    audit_.AddGroup(Audit::GroupRules{.name = "away"});
    Send("a", 2);
    Decide(Handle("a", 1, Copy{false, 7}), AckVerdict::kAck);
    Decide(Handle("a", 1, Copy{false, 8}), AckVerdict::kAck);
    Decide(audit_.OnHandled({.group = "away", .id = "a", .body = "body", .copy = Copy{false, 7}}),
           AckVerdict::kAck);
    audit_.OnLossCounted("away", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(Problems(), IsEmpty());
    audit_.OnHandedOut("away", "a", {false, 8});
    EXPECT_THAT(Problems(), Contains(HasSubstr("that it had been handed; it counts 0")));
}

TEST_F(AuditRulesTest, DamageExcusesTheMessageThatItHits) {
    Send("a");
    Send("b", 1, 8);
    audit_.OnDamaged("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
}

/// The sequence of a message that damage took from the end of the log, used again.
class TailTest : public AuditRulesTest {
protected:
    std::vector<std::string> ProblemsOf(Durability reached, TimePoint last_refusal) {
        audit_.OnSend({.id = "a", .body = "body", .subject = "s"});
        audit_.OnTold("a", SendOutcome::kPersisted, 1, reached, 7);
        audit_.OnTailDamaged("a", last_refusal);
        Send("b");
        Decide(Handle("b"), AckVerdict::kAck);
        return Problems();
    }
};

TEST_F(TailTest, WhatWasSyncedIsMarkedSoItsSequenceStaysItsOwn) {
    EXPECT_THAT(ProblemsOf(Durability::kFsync, clock_.now - 1ms),
                ElementsAre(HasSubstr("both told sequence 7 of subject s")));
}

TEST_F(TailTest, WhereTheDiskRefusedTheMarkItIsUsedAgain) {
    EXPECT_THAT(ProblemsOf(Durability::kFsync, clock_.now), IsEmpty());
}

TEST_F(TailTest, WhatWasNotSyncedIsATornTail) {
    EXPECT_THAT(ProblemsOf(Durability::kPageCache, clock_.now - 1ms), IsEmpty());
}

TEST_F(TailTest, WhatHasSomethingBehindItKeepsItsSequence) {
    Send("a");
    audit_.OnDamaged("a");
    Send("b");
    Decide(Handle("b"), AckVerdict::kAck);
    EXPECT_THAT(Problems(), ElementsAre(HasSubstr("both told sequence 7 of subject s")));
}

}  // namespace
}  // namespace qmq::testing
