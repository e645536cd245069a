#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using sql::Outcome;
using sql::Transaction;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MessageOf;
using testing::Raw;

class SqliteBorrowTest : public testing::SqliteTest {
protected:
    void SetUp() override {
        Raw(raw_.get(), "CREATE TABLE orders (id INTEGER PRIMARY KEY, title TEXT)");
        Raw(raw_.get(), "CREATE TABLE outbox (id INTEGER PRIMARY KEY, content TEXT)");
    }

    void WatchEnd(Transaction& tx) {
        ASSERT_TRUE(tx.OnEnd([this](Outcome outcome) { outcomes_.push_back(outcome); }).ok());
    }

    testing::RawHandle raw_ = testing::OpenRaw(Path("app.db"));
    std::unique_ptr<sql::Connection> db_ = Borrow(raw_.get()).value();
    std::vector<Outcome> outcomes_;
};

TEST_F(SqliteBorrowTest, TheHandleStaysOpenAndUsable) {
    Must(*db_, "INSERT INTO outbox (content) VALUES ('m')");
    db_->Close();
    EXPECT_EQ(db_->Ping().code(), StatusCode::kCancelled);
    Raw(raw_.get(), "INSERT INTO outbox (content) VALUES ('n')");
    db_ = Borrow(raw_.get()).value();
    EXPECT_EQ(Count(*db_, "outbox"), 2);
}

TEST_F(SqliteBorrowTest, NoStatementOfOursIsLeftOnTheHandleAfterClosing) {
    const auto statement = db_->Prepare("SELECT 1").value();
    auto rows = db_->Query("SELECT 2").value();
    ASSERT_TRUE(rows.Next().value());
    EXPECT_NE(sqlite3_next_stmt(raw_.get(), nullptr), nullptr);
    db_->Close();
    EXPECT_EQ(sqlite3_next_stmt(raw_.get(), nullptr), nullptr);
}

TEST_F(SqliteBorrowTest, ClosingLeavesTheOwnersTransactionOpen) {
    Raw(raw_.get(), "BEGIN");
    Must(*db_, "INSERT INTO outbox (content) VALUES ('m')");
    db_->Close();
    EXPECT_EQ(sqlite3_get_autocommit(raw_.get()), 0);
    Raw(raw_.get(), "COMMIT");
}

TEST_F(SqliteBorrowTest, TheOwnersSettingsStay) {
    sqlite3_stmt* statement = nullptr;
    ASSERT_EQ(sqlite3_prepare_v2(raw_.get(), "PRAGMA journal_mode", -1, &statement, nullptr),
              SQLITE_OK);
    ASSERT_EQ(sqlite3_step(statement), SQLITE_ROW);
    EXPECT_STREQ(reinterpret_cast<const char*>(sqlite3_column_text(statement, 0)), "delete");
    sqlite3_finalize(statement);
    int double_quotes_allowed = 0;
    sqlite3_db_config(raw_.get(), SQLITE_DBCONFIG_DQS_DML, -1, &double_quotes_allowed);
    EXPECT_EQ(double_quotes_allowed, 1);
}

TEST_F(SqliteBorrowTest, TheOwnersLastInsertIdStays) {
    Raw(raw_.get(), "INSERT INTO orders VALUES (4711, 'payment')");
    EXPECT_EQ(Must(*db_, "INSERT INTO outbox (content) VALUES ('m')").last_insert_id, 1);
    EXPECT_EQ(sqlite3_last_insert_rowid(raw_.get()), 4711);
}

TEST_F(SqliteBorrowTest, JoinedWorkIsCommittedWithTheOwners) {
    Raw(raw_.get(), "BEGIN");
    Raw(raw_.get(), "INSERT INTO orders VALUES (1, 'payment')");
    auto tx = Transaction::Join(*db_).value();
    WatchEnd(tx);
    ASSERT_TRUE(tx.Execute("INSERT INTO outbox (content) VALUES (?)", {"m"}).ok());
    EXPECT_THAT(outcomes_, ElementsAre());
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_THAT(outcomes_, ElementsAre(Outcome::kCommitted));
    const auto other = Open({.path = Path("app.db")}).value();
    EXPECT_EQ(Count(*other, "orders"), 1);
    EXPECT_EQ(Count(*other, "outbox"), 1);
}

TEST_F(SqliteBorrowTest, TheOwnerMayCommitByItselfAndSaySo) {
    Raw(raw_.get(), "BEGIN");
    auto tx = Transaction::Join(*db_).value();
    WatchEnd(tx);
    ASSERT_TRUE(tx.Execute("INSERT INTO outbox (content) VALUES (?)", {"m"}).ok());
    Raw(raw_.get(), "COMMIT");

    // Not part of it any more: this must not be stored on its own.
    const auto late = tx.Execute("INSERT INTO outbox (content) VALUES (?)", {"n"}).status();
    EXPECT_EQ(late.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(late), HasSubstr("has ended the transaction"));
    ASSERT_TRUE(tx.Ended(Outcome::kCommitted).ok());
    EXPECT_THAT(outcomes_, ElementsAre(Outcome::kCommitted));
    EXPECT_EQ(Count(*db_, "outbox"), 1);
}

TEST_F(SqliteBorrowTest, CommittingWhatTheOwnerEndedLeavesTheOutcomeUnknown) {
    Raw(raw_.get(), "BEGIN");
    auto tx = Transaction::Join(*db_).value();
    WatchEnd(tx);
    Raw(raw_.get(), "COMMIT");
    const auto status = tx.Commit();
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(MessageOf(status), HasSubstr("call Ended()"));
    EXPECT_THAT(outcomes_, ElementsAre(Outcome::kUnknown));
    EXPECT_FALSE(db_->IsBroken());
    EXPECT_TRUE(Transaction::Begin(*db_).ok());
}

TEST_F(SqliteBorrowTest, DroppingAJoinedOneLeavesItOpen) {
    Raw(raw_.get(), "BEGIN");
    {
        auto tx = Transaction::Join(*db_).value();
        WatchEnd(tx);
    }
    EXPECT_EQ(sqlite3_get_autocommit(raw_.get()), 0);
    EXPECT_THAT(outcomes_, ElementsAre(Outcome::kUnknown));
    Raw(raw_.get(), "ROLLBACK");
}

TEST_F(SqliteBorrowTest, ANestedOneInAJoinedOneIsUndoneAlone) {
    Raw(raw_.get(), "BEGIN");
    auto tx = Transaction::Join(*db_).value();
    Raw(raw_.get(), "INSERT INTO orders VALUES (1, 'payment')");
    {
        const auto nested = tx.Nested().value();
        Must(*db_, "INSERT INTO outbox (content) VALUES ('m')");
    }
    ASSERT_TRUE(tx.Commit().ok());
    EXPECT_EQ(Count(*db_, "orders"), 1);
    EXPECT_EQ(Count(*db_, "outbox"), 0);
}

TEST_F(SqliteBorrowTest, ThereMustBeSomethingToJoin) {
    EXPECT_EQ(Transaction::Join(*db_).status().code(), StatusCode::kInvalidArgument);
    const auto tx = Transaction::Begin(*db_).value();
    EXPECT_THAT(MessageOf(Transaction::Join(*db_).status()), HasSubstr("use that"));
}

TEST_F(SqliteBorrowTest, BeginningInsideTheOwnersTransactionIsRefusedWithAdvice) {
    Raw(raw_.get(), "BEGIN");
    EXPECT_THAT(MessageOf(Transaction::Begin(*db_).status()), HasSubstr("Join()"));
    Raw(raw_.get(), "ROLLBACK");
}

TEST_F(SqliteBorrowTest, ErrorsOfABorrowedConnectionAreJustAsExact) {
    Must(*db_, "INSERT INTO orders VALUES (1, 'a')");
    const auto status = db_->Execute("INSERT INTO orders VALUES (1, 'b')").status();
    EXPECT_EQ(status.code(), StatusCode::kAlreadyExists);  // Without extended result codes on.
}

TEST_F(SqliteBorrowTest, NothingCannotBeBorrowed) {
    EXPECT_EQ(Borrow(nullptr).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(Borrow(raw_.get(), 10'001).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qmq::sqlite
