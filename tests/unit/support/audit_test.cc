#include "tests/support/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qmq::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AuditTest : public ::testing::Test {
protected:
    AuditTest() { audit_.AddGroup("g"); }
    void Send(const std::string& id,
              SendOutcome outcome = SendOutcome::kPersisted,
              std::uint32_t frames = 1) {
        audit_.OnSend({id, "body of " + id});
        audit_.OnTold(id, outcome, frames);
    }
    Audit::DeliveryId Handle(const std::string& id, std::uint32_t attempt = 1) {
        return audit_.OnHandled({"g", id, "body of " + id, attempt});
    }
    /// A delivery that is asked to be acked.
    Audit::DeliveryId Ask(const std::string& id, std::uint32_t attempt = 1) {
        const Audit::DeliveryId delivery = Handle(id, attempt);
        audit_.OnAsked(delivery, {AckVerdict::kAck});
        return delivery;
    }
    Audit::DeliveryId Fail(const std::string& id, std::uint32_t attempt = 1) {
        const Audit::DeliveryId delivery = Handle(id, attempt);
        audit_.OnAsked(delivery, {AckVerdict::kRetry, std::nullopt, "failed"});
        return delivery;
    }
    /// One whose ack is confirmed.
    void Confirm(const std::string& id, std::uint32_t attempt = 1) {
        audit_.OnAnswered(Ask(id, attempt), Status::Ok());
    }

    Audit audit_;
};

TEST_F(AuditTest, NothingIsWrongWhenEverythingCameOnce) {
    Send("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
    Ask("a");
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

TEST_F(AuditTest, APersistedMessageThatNeverCameIsLost) {
    Send("a");
    EXPECT_EQ(audit_.Judge().lost, 1U);
    EXPECT_FALSE(audit_.Judge().ok());
}

TEST_F(AuditTest, AnUnknownOneMayComeOrNot) {
    Send("a", SendOutcome::kUnknown);
    Send("b", SendOutcome::kUnknown);
    Ask("b");
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, ARefusedOneMustNotCome) {
    Send("a", SendOutcome::kRefused);
    Ask("a");
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("refused")));
}

TEST_F(AuditTest, WhatNobodySentIsNoticed) {
    Ask("a");
    EXPECT_EQ(audit_.Judge().never_sent, 1U);
    EXPECT_FALSE(audit_.Judge().ok());
}

TEST_F(AuditTest, AnotherBodyIsNoticed) {
    Send("a");
    audit_.OnAsked(audit_.OnHandled({"g", "a", "something else", 1}), {AckVerdict::kAck});
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("another body")));
}

TEST_F(AuditTest, ADuplicateBeforeAnyConfirmedAckIsExplained) {
    Send("a");
    Ask("a", 1);
    Confirm("a", 2);
    EXPECT_EQ(audit_.Judge().duplicates, 1U);
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, ADuplicateAfterAConfirmedAckIsNot) {
    Send("a");
    Confirm("a", 1);
    Ask("a", 2);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("after its ack was confirmed")));
}

TEST_F(AuditTest, AMessageThatTravelledTwiceMayBeStoredTwice) {
    Send("a", SendOutcome::kPersisted, 2);
    Confirm("a", 1);
    Ask("a", 1);
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, AnAttemptThatDoesNotRiseIsNoticed) {
    Send("a");
    audit_.OnAnswered(Fail("a", 1), Status::Ok());
    Ask("a", 1);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("attempt 1 after attempt 1")));
}

TEST_F(AuditTest, APowerCutMayForgetHandOutsAndAcksThatWereNotSynced) {
    Send("a");
    Confirm("a", 1);
    audit_.OnDurablePoint();
    audit_.OnPowerCut();
    Ask("a", 1);
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

TEST_F(AuditTest, APowerCutForgetsNoAckThatWasSyncedLongBefore) {
    Send("a");
    Confirm("a", 1);
    audit_.OnDurablePoint();
    audit_.OnDurablePoint();
    audit_.OnPowerCut();
    Ask("a", 2);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("after its ack was confirmed")));
}

TEST_F(AuditTest, WhatOneGroupHasSeenReachesTheOthersWhateverTheSenderWasTold) {
    audit_.AddGroup("h");
    audit_.OnSend({"a", "body of a"});
    Ask("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(audit_.Judge().problems,
                ElementsAre(HasSubstr("was seen by another group and never reached group h")));
}

TEST_F(AuditTest, WhatWasSeenOfASubjectThatPromisesLessMayBeGoneAfterAPowerCut) {
    audit_.AddGroup("h");
    audit_.OnSend({"a", "body of a", "", Durability::kPageCache});
    Ask("a");
    audit_.OnPowerCut();
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

TEST_F(AuditTest, APowerCutMayTakeWhatWasToldPageCacheButNotWhatWasToldFsync) {
    audit_.OnSend({"a", ""});
    audit_.OnTold("a", SendOutcome::kPersisted, 1, Durability::kPageCache);
    audit_.OnSend({"b", ""});
    audit_.OnTold("b", SendOutcome::kPersisted, 1, Durability::kFsync);
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("message b")));
}

TEST_F(AuditTest, AFilteredMessageIsNotMissedButMustNotCome) {
    audit_.OnSend({"a", "", "g"});
    audit_.OnTold("a", SendOutcome::kPersisted, 1);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_TRUE(audit_.Judge().ok());
    audit_.OnAsked(audit_.OnHandled({"g", "a", "", 1}), {AckVerdict::kAck});
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("filter")));
}

TEST_F(AuditTest, AnAnswerThatComesTwiceIsNoticed) {
    Send("a");
    audit_.OnTold("a", SendOutcome::kPersisted, 1);
    Ask("a");
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("answered twice")));
}

TEST_F(AuditTest, WhatAGroupHasSeenIsNotLostToRetentionAlone) {
    Send("a");
    Fail("a");
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 0});
    EXPECT_THAT(audit_.Judge().problems,
                ElementsAre(HasSubstr("lost 1 messages that it had been handed; it counts 0"),
                            HasSubstr("never came again")));
    audit_.OnLossCounted("g", {.count = 1, .is_exact = true, .seen_count = 1});
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, AGroupThatIsAckedOnReceiptSeesNoCopyTwiceAndMayMissSome) {
    audit_.AddGroup(Audit::GroupRules{.name = "once", .is_at_most_once = true});
    const auto handle = [this] {
        audit_.OnHandled({.group = "once", .id = "a", .body = "body of a", .copy = Copy{false, 7}});
    };
    Send("a");
    Confirm("a");
    EXPECT_TRUE(audit_.Judge().ok());
    handle();
    EXPECT_TRUE(audit_.Judge().ok());
    audit_.OnPowerCut();
    handle();
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("was given message a again")));
}

class ForkTest : public AuditTest {
protected:
    void Decide(Copy copy, std::uint32_t attempt, AckVerdict verdict) {
        const Audit::DeliveryId delivery = audit_.OnHandled(
            {.group = "g", .id = "a", .body = "body of a", .attempt = attempt, .copy = copy});
        audit_.OnAsked(delivery, {verdict, std::nullopt, "failed"});
        audit_.OnAnswered(delivery, Status::Ok());
    }
};

TEST_F(ForkTest, OfCopiesThatFailAlikeEitherMayBeTheOneThatComesAgain) {
    Send("a", SendOutcome::kPersisted, 2);
    Decide({false, 1}, 1, AckVerdict::kRetry);
    Decide({false, 2}, 1, AckVerdict::kRetry);
    Decide({true, 1}, 2, AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 1U);
    audit_.OnPowerCut();
    // So the one that was acked came of the first.
    Decide({false, 2}, 1, AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

TEST_F(ForkTest, WhatAPowerCutMadeUndoneIsDoneWhenItsOriginalIs) {
    Send("a");
    Decide({false, 1}, 1, AckVerdict::kRetry);
    Decide({true, 1}, 2, AckVerdict::kRetry);
    audit_.OnPowerCut();
    EXPECT_EQ(audit_.missing_count(), 1U);
    Decide({false, 1}, 1, AckVerdict::kAck);
    EXPECT_EQ(audit_.missing_count(), 0U);
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

}  // namespace
}  // namespace qmq::testing
