#include "qmq/sql/transaction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <stdexcept>

#include "tests/unit/sql/fake_connection.h"

namespace qmq::sql {
namespace {

using ::testing::ElementsAre;
using testing::FakeConnection;
using ::testing::IsEmpty;

class TransactionTest : public ::testing::Test {
protected:
    Transaction Begin() { return Transaction::Begin(connection_).value(); }

    /// Hooks that write down their name and what they were told.
    void Watch(Transaction& tx, const std::string& name) {
        ASSERT_TRUE(tx.OnEnd([this, name](Outcome outcome) {
                          std::ostringstream text;
                          text << name << ' ' << outcome;
                          heard_.push_back(text.str());
                      }).ok());
    }

    FakeConnection connection_;
    std::vector<std::string> heard_;
};

TEST_F(TransactionTest, CommitsOnce) {
    auto tx = Begin();
    EXPECT_TRUE(tx.Commit().ok());
    EXPECT_FALSE(tx.active());
    EXPECT_EQ(tx.Commit().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "commit"));
}

TEST_F(TransactionTest, RollsBackWhenDropped) {
    { const auto tx = Begin(); }
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "rollback"));
}

TEST_F(TransactionTest, MovingKeepsOneOwner) {
    {
        auto first = Begin();
        auto second = std::move(first);
        EXPECT_FALSE(first.active());  // NOLINT(bugprone-use-after-move): that is the claim.
        EXPECT_TRUE(second.active());
    }
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "rollback"));
}

TEST_F(TransactionTest, AssigningEndsTheOldOne) {
    FakeConnection other;
    auto tx = Begin();
    tx = Transaction::Begin(other).value();
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "rollback"));
    EXPECT_THAT(other.log(), ElementsAre("begin"));
}

TEST_F(TransactionTest, ReadAccessReachesTheDriver) {
    ASSERT_TRUE(Transaction::Begin(connection_, {.access = Access::kRead}).ok());
    EXPECT_EQ(connection_.log().front(), "begin read");
}

TEST_F(TransactionTest, ASecondOneOnTheConnectionIsRefused) {
    const auto tx = Begin();
    EXPECT_EQ(Transaction::Begin(connection_).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(TransactionTest, ABusyBeginPassesTheErrorOn) {
    connection_.FailOnce("begin", Status::ResourceExhausted("locked"));
    EXPECT_EQ(ClassOf(Transaction::Begin(connection_).status()), ErrorClass::kBusy);
    EXPECT_THAT(connection_.log(), ElementsAre("begin"));
}

TEST_F(TransactionTest, StatementsAreRefusedOnceItHasEnded) {
    auto tx = Begin();
    EXPECT_EQ(tx.Execute("a").status().code(), StatusCode::kUnimplemented);  // Reached the driver.
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(tx.Execute("b").status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(tx.Query("c").status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "prepare a", "commit"));
}

TEST_F(TransactionTest, HooksRunInTheirOrderAfterTheCommit) {
    auto tx = Begin();
    Watch(tx, "first");
    ASSERT_TRUE(tx.OnCommit([this] {
                      EXPECT_EQ(connection_.log().back(), "commit");
                      heard_.emplace_back("second");
                  }).ok());
    ASSERT_TRUE(tx.OnRollback([this] { heard_.emplace_back("never"); }).ok());
    EXPECT_THAT(heard_, IsEmpty());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_, ElementsAre("first committed", "second"));
}

TEST_F(TransactionTest, DroppingRunsTheRollbackHooks) {
    {
        auto tx = Begin();
        ASSERT_TRUE(tx.OnCommit([this] { heard_.emplace_back("never"); }).ok());
        ASSERT_TRUE(tx.OnRollback([this] { heard_.emplace_back("rolled back"); }).ok());
    }
    EXPECT_THAT(heard_, ElementsAre("rolled back"));
}

TEST_F(TransactionTest, AHookMayBeginTheNextTransaction) {
    auto tx = Begin();
    ASSERT_TRUE(tx.OnCommit([this] { EXPECT_TRUE(Begin().Commit().ok()); }).ok());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "commit", "begin", "commit"));
}

TEST_F(TransactionTest, AHookIsRefusedOnceItHasEnded) {
    auto tx = Begin();
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(tx.OnCommit([] {}).code(), StatusCode::kInvalidArgument);
}

TEST_F(TransactionTest, AThrowingHookStopsNeitherTheOthersNorTheCommit) {
    auto tx = Begin();
    ASSERT_TRUE(tx.OnCommit([] { throw std::runtime_error("no memory for the message"); }).ok());
    ASSERT_TRUE(tx.OnCommit([] { throw 7; }).ok());
    Watch(tx, "after");
    EXPECT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_, ElementsAre("after committed"));
    EXPECT_EQ(tx.hook_status(),
              Status::Internal("a transaction hook threw: no memory for the message"));
}

TEST_F(TransactionTest, ACommitThatIsBusyMayBeTriedAgain) {
    auto tx = Begin();
    Watch(tx, "hook");
    connection_.FailOnce("commit", Status::ResourceExhausted("locked"));
    EXPECT_EQ(ClassOf(tx.Commit()), ErrorClass::kBusy);
    EXPECT_TRUE(tx.active());
    EXPECT_THAT(heard_, IsEmpty());
    EXPECT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_, ElementsAre("hook committed"));
}

TEST_F(TransactionTest, ACommitThatTheDatabaseRolledBackSaysSo) {
    auto tx = Begin();
    Watch(tx, "hook");
    connection_.FailOnce("commit", Status::ResourceExhausted("disk full"), /*ends=*/true);
    EXPECT_EQ(ClassOf(tx.Commit()), ErrorClass::kBusy);
    EXPECT_FALSE(tx.active());
    EXPECT_THAT(heard_, ElementsAre("hook rolled back"));
}

TEST_F(TransactionTest, AConnectionLostInTheCommitLeavesTheOutcomeUnknown) {
    auto tx = Begin();
    Watch(tx, "hook");
    ASSERT_TRUE(tx.OnRollback([this] { heard_.emplace_back("never"); }).ok());
    connection_.FailOnce("commit", Status::DeadlineExceeded("lost"), /*ends=*/true);
    EXPECT_EQ(ClassOf(tx.Commit()), ErrorClass::kGone);
    EXPECT_THAT(heard_, ElementsAre("hook unknown"));
}

TEST_F(TransactionTest, NestedOnesAreSavepoints) {
    auto tx = Begin();
    auto inner = tx.Nested().value();
    auto innermost = inner.Nested().value();
    ASSERT_TRUE(innermost.Commit().ok());
    ASSERT_TRUE(inner.Rollback().ok());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(
        connection_.log(),
        ElementsAre("begin", "savepoint 1", "savepoint 2", "release 2", "rollback to 1", "commit"));
}

TEST_F(TransactionTest, TheOuterOneCannotCommitOrNestAroundAnOpenNestedOne) {
    auto tx = Begin();
    auto inner = tx.Nested().value();
    EXPECT_EQ(tx.Commit().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(tx.Nested().status().code(), StatusCode::kInvalidArgument);
    ASSERT_TRUE(inner.Commit().ok());
    EXPECT_TRUE(tx.Commit().ok());
}

TEST_F(TransactionTest, NestedHooksWaitForTheOutermostCommitInTheOrderOfAll) {
    auto tx = Begin();
    Watch(tx, "a");
    auto inner = tx.Nested().value();
    Watch(inner, "b");
    Watch(tx, "c");
    ASSERT_TRUE(inner.Commit().ok());
    Watch(tx, "d");
    EXPECT_THAT(heard_, IsEmpty());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_, ElementsAre("a committed", "b committed", "c committed", "d committed"));
}

TEST_F(TransactionTest, ARolledBackNestedOneTakesOnlyItsOwnHooksAlong) {
    auto tx = Begin();
    Watch(tx, "outer");
    auto inner = tx.Nested().value();
    Watch(inner, "inner");
    auto innermost = inner.Nested().value();
    Watch(innermost, "innermost");
    ASSERT_TRUE(innermost.Commit().ok());
    ASSERT_TRUE(inner.Rollback().ok());
    EXPECT_THAT(heard_, ElementsAre("inner rolled back", "innermost rolled back"));
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_,
                ElementsAre("inner rolled back", "innermost rolled back", "outer committed"));
}

TEST_F(TransactionTest, RollingBackTheOuterOneEndsTheNestedOnes) {
    auto tx = Begin();
    Watch(tx, "outer");
    auto inner = tx.Nested().value();
    Watch(inner, "inner");
    auto innermost = inner.Nested().value();
    Watch(innermost, "innermost");
    Watch(tx, "last");
    ASSERT_TRUE(tx.Rollback().ok());
    EXPECT_FALSE(inner.active());
    EXPECT_FALSE(innermost.active());
    EXPECT_THAT(
        heard_,
        ElementsAre(
            "outer rolled back", "inner rolled back", "innermost rolled back", "last rolled back"));
    EXPECT_EQ(connection_.log().back(), "rollback");
}

TEST_F(TransactionTest, ANestedOneMayOutliveTheObjectOfItsParent) {
    auto tx = std::make_unique<Transaction>(Begin());
    auto inner = tx->Nested().value();
    tx.reset();
    EXPECT_FALSE(inner.active());
    EXPECT_EQ(inner.Commit().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(connection_.log(), ElementsAre("begin", "savepoint 1", "rollback"));
}

TEST_F(TransactionTest, WhatCannotBeUndoneAloneIsUndoneWithAll) {
    auto tx = Begin();
    Watch(tx, "outer");
    auto inner = tx.Nested().value();
    Watch(inner, "inner");
    connection_.FailOnce("rollback to 1", Status::Unavailable("lost"));
    EXPECT_EQ(inner.Rollback().code(), StatusCode::kUnavailable);
    EXPECT_FALSE(tx.active());
    EXPECT_THAT(heard_, ElementsAre("outer rolled back", "inner rolled back"));
    EXPECT_EQ(connection_.log().back(), "rollback");
}

TEST_F(TransactionTest, AJoinedOneIsLeftAsItIsWhenDropped) {
    connection_.set_in_transaction(true);
    {
        auto tx = Transaction::Join(connection_).value();
        Watch(tx, "hook");
    }
    EXPECT_THAT(connection_.log(), ElementsAre("join", "leave"));
    EXPECT_THAT(heard_, ElementsAre("hook unknown"));
}

TEST_F(TransactionTest, TheOwnerOfAJoinedOneSaysHowItEnded) {
    connection_.set_in_transaction(true);
    auto tx = Transaction::Join(connection_).value();
    Watch(tx, "hook");
    EXPECT_EQ(tx.Ended(Outcome::kCommitted).code(), StatusCode::kInvalidArgument);  // Still open.
    connection_.set_in_transaction(false);
    EXPECT_TRUE(tx.Ended(Outcome::kCommitted).ok());
    EXPECT_EQ(tx.Ended(Outcome::kCommitted).code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(heard_, ElementsAre("hook committed"));
    EXPECT_THAT(connection_.log(), ElementsAre("join", "leave"));
}

TEST_F(TransactionTest, OnlyJoinedOnesAreEndedByOthers) {
    auto tx = Begin();
    EXPECT_EQ(tx.Ended(Outcome::kCommitted).code(), StatusCode::kInvalidArgument);
}

TEST_F(TransactionTest, AJoinedOneCanBeCommittedHere) {
    connection_.set_in_transaction(true);
    auto tx = Transaction::Join(connection_).value();
    Watch(tx, "hook");
    EXPECT_TRUE(tx.Commit().ok());
    EXPECT_THAT(heard_, ElementsAre("hook committed"));
    EXPECT_THAT(connection_.log(), ElementsAre("join", "commit", "leave"));
}

}  // namespace
}  // namespace qmq::sql
