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
    void Handle(const std::string& id, std::uint32_t attempt = 1) {
        audit_.OnHandled("g", id, "body of " + id, attempt);
    }

    Audit audit_;
};

TEST_F(AuditTest, NothingIsWrongWhenEverythingCameOnce) {
    Send("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
    Handle("a");
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
    Handle("b");
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, ARefusedOneMustNotCome) {
    Send("a", SendOutcome::kRefused);
    Handle("a");
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("refused")));
}

TEST_F(AuditTest, WhatNobodySentIsNoticed) {
    Handle("a");
    EXPECT_EQ(audit_.Judge().never_sent, 1U);
    EXPECT_FALSE(audit_.Judge().ok());
}

TEST_F(AuditTest, AnotherBodyIsNoticed) {
    Send("a");
    audit_.OnHandled("g", "a", "something else", 1);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("another body")));
}

TEST_F(AuditTest, ADuplicateBeforeAnyConfirmedAckIsExplained) {
    Send("a");
    Handle("a", 1);
    Handle("a", 2);
    audit_.OnAckConfirmed("g", "a");
    EXPECT_EQ(audit_.Judge().duplicates, 1U);
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, ADuplicateAfterAConfirmedAckIsNot) {
    Send("a");
    Handle("a", 1);
    audit_.OnAckConfirmed("g", "a");
    Handle("a", 2);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("after its ack was confirmed")));
}

TEST_F(AuditTest, AMessageThatTravelledTwiceMayBeStoredTwice) {
    Send("a", SendOutcome::kPersisted, 2);
    Handle("a", 1);
    audit_.OnAckConfirmed("g", "a");
    Handle("a", 1);
    EXPECT_TRUE(audit_.Judge().ok());
}

TEST_F(AuditTest, AnAttemptThatDoesNotRiseIsNoticed) {
    Send("a");
    Handle("a", 1);
    Handle("a", 1);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("attempt 1 after attempt 1")));
}

TEST_F(AuditTest, APowerCutMayForgetHandOutsAndAcksThatWereNotSynced) {
    Send("a");
    Handle("a", 1);
    audit_.OnAckConfirmed("g", "a");
    audit_.OnDurablePoint();
    audit_.OnPowerCut();
    Handle("a", 1);
    EXPECT_TRUE(audit_.Judge().ok()) << audit_.Judge().ToString();
}

TEST_F(AuditTest, APowerCutForgetsNoAckThatWasSyncedLongBefore) {
    Send("a");
    Handle("a", 1);
    audit_.OnAckConfirmed("g", "a");
    audit_.OnDurablePoint();
    audit_.OnDurablePoint();
    audit_.OnPowerCut();
    Handle("a", 2);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("after its ack was confirmed")));
}

TEST_F(AuditTest, WhatOneGroupHasSeenReachesTheOthersWhateverTheSenderWasTold) {
    audit_.AddGroup("h");
    audit_.OnSend({"a", "body of a"});
    Handle("a");
    EXPECT_EQ(audit_.missing_count(), 1U);
    EXPECT_THAT(audit_.Judge().problems,
                ElementsAre(HasSubstr("was seen by another group and never reached group h")));
}

TEST_F(AuditTest, WhatWasSeenOfASubjectThatPromisesLessMayBeGoneAfterAPowerCut) {
    audit_.AddGroup("h");
    audit_.OnSend({"a", "body of a", "", Durability::kPageCache});
    Handle("a");
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
    audit_.OnHandled("g", "a", "", 1);
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("filter")));
}

TEST_F(AuditTest, AnAnswerThatComesTwiceIsNoticed) {
    Send("a");
    audit_.OnTold("a", SendOutcome::kPersisted, 1);
    Handle("a");
    EXPECT_THAT(audit_.Judge().problems, ElementsAre(HasSubstr("answered twice")));
}

}  // namespace
}  // namespace qmq::testing
