#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using sql::ClassOf;
using sql::ErrorClass;
using ::testing::HasSubstr;
using testing::MessageOf;

class SqliteErrorTest : public testing::SqliteTest {};

/// No file of this process can grow beyond `bytes` while it lives: writes fail as on a bad disk.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : old_handler_(signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &old_);
        const rlimit limit{bytes, old_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &old_);
        signal(SIGXFSZ, old_handler_);
    }

private:
    rlimit old_{};
    sighandler_t old_handler_;
};

TEST_F(SqliteErrorTest, EachConstraintHasItsCode) {
    const auto db = OpenConnection();
    Must(*db, "CREATE TABLE parents (id INTEGER PRIMARY KEY)");
    Must(*db,
         "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT UNIQUE, n TEXT NOT NULL,"
         " c INTEGER CHECK (c > 0), parent INTEGER REFERENCES parents (id))");
    const auto insert = [&](sql::Param id,
                            sql::Param u,
                            sql::Param n,
                            sql::Param c,
                            sql::Param parent) {
        return db->Execute("INSERT INTO t VALUES (?, ?, ?, ?, ?)", {id, u, n, c, parent}).status();
    };
    ASSERT_TRUE(insert(1, "a", "n", 1, nullptr).ok());
    EXPECT_EQ(insert(1, "b", "n", 1, nullptr).code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(insert(2, "a", "n", 1, nullptr).code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(insert(2, "b", nullptr, 1, nullptr).code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(insert(2, "b", "n", 0, nullptr).code(), StatusCode::kFailedPrecondition);
    const auto orphan = insert(2, "b", "n", 1, 77);
    EXPECT_EQ(orphan.code(), StatusCode::kFailedPrecondition);
    EXPECT_EQ(ClassOf(orphan), ErrorClass::kConstraint);
    EXPECT_FALSE(orphan.IsRetryable());
    EXPECT_THAT(MessageOf(insert(2, "a", "n", 1, nullptr)),
                HasSubstr("UNIQUE constraint failed: t.u (SQLITE_CONSTRAINT 2067)"));
    EXPECT_EQ(Count(*db, "t"), 1);
    EXPECT_FALSE(db->IsBroken());
}

TEST_F(SqliteErrorTest, AWriteLockHeldByAnotherConnectionIsBusy) {
    const auto holder = OpenWithTable();
    auto held = sql::Transaction::Begin(*holder).value();
    const auto db = OpenConnection();

    const auto begun = sql::Transaction::Begin(*db).status();
    EXPECT_EQ(begun.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(ClassOf(begun), ErrorClass::kBusy);
    EXPECT_TRUE(begun.IsRetryable());
    const auto alone = db->Execute("INSERT INTO orders VALUES (1, 'a')").status();
    EXPECT_EQ(ClassOf(alone), ErrorClass::kBusy);
    EXPECT_THAT(MessageOf(alone), HasSubstr("another connection holds the lock"));
    EXPECT_FALSE(db->IsBroken());

    ASSERT_TRUE(held.Commit().ok());
    EXPECT_TRUE(sql::Transaction::Begin(*db).ok());
}

TEST_F(SqliteErrorTest, AReadTransactionIsNotHinderedByAWriter) {
    const auto writer = OpenWithTable();
    auto writing = sql::Transaction::Begin(*writer).value();
    Must(*writer, "INSERT INTO orders VALUES (1, 'a')");
    const auto reader = OpenConnection();
    auto reading = sql::Transaction::Begin(*reader, {.access = sql::Access::kRead}).value();
    EXPECT_EQ(Count(*reader), 0);
    ASSERT_TRUE(writing.Commit().ok());
    EXPECT_EQ(Count(*reader), 0);  // One unchanging state.
    ASSERT_TRUE(reading.Commit().ok());
    EXPECT_EQ(Count(*reader), 1);
}

TEST_F(SqliteErrorTest, AFullDatabaseIsBusyAndStoresNoPartOfTheStatement) {
    const auto raw = testing::OpenRaw(options_.path);
    testing::Raw(raw.get(), "PRAGMA page_size = 4096");
    testing::Raw(raw.get(), "CREATE TABLE t (a)");
    testing::Raw(raw.get(), "PRAGMA max_page_count = 10");
    const auto db = Borrow(raw.get()).value();
    auto tx = sql::Transaction::Begin(*db).value();
    ASSERT_TRUE(tx.Execute("INSERT INTO t VALUES (1)").ok());
    const auto status = tx.Execute("INSERT INTO t VALUES (zeroblob(100000))").status();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(ClassOf(status), ErrorClass::kBusy);
    EXPECT_THAT(MessageOf(status), HasSubstr("make room on the disk"));
    ASSERT_TRUE(tx.Rollback().ok());
    EXPECT_EQ(Count(*db, "t"), 0);
    EXPECT_TRUE(db->Execute("INSERT INTO t VALUES (2)").ok());
}

TEST_F(SqliteErrorTest, AFailedWriteInACommitLeavesTheOutcomeUnknownAndEndsTheConnection) {
    const auto db = OpenWithTable();
    auto tx = sql::Transaction::Begin(*db).value();
    auto heard = sql::Outcome::kCommitted;
    ASSERT_TRUE(tx.OnEnd([&](sql::Outcome outcome) { heard = outcome; }).ok());
    ASSERT_TRUE(tx.Execute("INSERT INTO orders VALUES (1, ?)", {std::string(1 << 20, 'x')}).ok());

    const auto status = [&] {
        const FileSizeLimit limit(64 << 10);
        return tx.Commit();
    }();

    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_EQ(ClassOf(status), ErrorClass::kGone);
    EXPECT_THAT(MessageOf(status), HasSubstr("whether it was stored is unknown"));
    EXPECT_EQ(heard, sql::Outcome::kUnknown);
    EXPECT_TRUE(db->IsBroken());
    const auto again = db->Execute("DELETE FROM orders").status();
    EXPECT_EQ(ClassOf(again), ErrorClass::kGone);
    EXPECT_THAT(MessageOf(again), HasSubstr("use a new connection"));
    EXPECT_EQ(ClassOf(db->Ping()), ErrorClass::kGone);
    EXPECT_EQ(Count(*OpenConnection()), 0);
}

TEST_F(SqliteErrorTest, AFailedWriteOutsideATransactionLeavesTheOutcomeUnknown) {
    const auto db = OpenWithTable();
    const FileSizeLimit limit(64 << 10);
    const auto status =
        db->Execute("INSERT INTO orders VALUES (1, ?)", {std::string(1 << 20, 'x')}).status();
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_TRUE(db->IsBroken());
}

TEST_F(SqliteErrorTest, AClosedConnectionIsGoneWithAllThatCameFromIt) {
    const auto db = OpenWithTable();
    Must(*db, "INSERT INTO orders VALUES (1, 'a'), (2, 'b')");
    const auto statement = db->Prepare("SELECT id FROM orders").value();
    auto rows = statement->Query().value();
    ASSERT_TRUE(rows.Next().value());
    db->Close();
    db->Close();

    EXPECT_EQ(rows.Next().status().code(), StatusCode::kCancelled);
    EXPECT_EQ(statement->Query().status().code(), StatusCode::kCancelled);
    EXPECT_EQ(db->Prepare("SELECT 1").status().code(), StatusCode::kCancelled);
    EXPECT_EQ(db->Ping().code(), StatusCode::kCancelled);
    const auto begun = sql::Transaction::Begin(*db).status();
    EXPECT_EQ(begun.code(), StatusCode::kCancelled);
    EXPECT_EQ(ClassOf(begun), ErrorClass::kGone);
    EXPECT_FALSE(begun.IsRetryable());
    EXPECT_TRUE(db->IsBroken());
    EXPECT_FALSE(db->InTransaction());
}

TEST_F(SqliteErrorTest, StatementsAndRowsMayOutliveTheirConnection) {
    auto db = OpenWithTable();
    Must(*db, "INSERT INTO orders VALUES (1, 'a')");
    const auto statement = db->Prepare("SELECT id FROM orders").value();
    auto rows = statement->Query().value();
    ASSERT_TRUE(rows.Next().value());
    db.reset();
    EXPECT_EQ(rows.Get<int>(0).status().code(), StatusCode::kCancelled);
    EXPECT_EQ(rows.Next().status().code(), StatusCode::kCancelled);
    EXPECT_EQ(statement->Execute().status().code(), StatusCode::kCancelled);
}

TEST_F(SqliteErrorTest, AMovedFileIsGoneInsteadOfWrittenTo) {
    const auto db = OpenWithTable();
    EXPECT_TRUE(db->Ping().ok());
    std::filesystem::rename(options_.path, Path("elsewhere.db"));
    const auto status = sql::Transaction::Begin(*db).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_EQ(ClassOf(status), ErrorClass::kGone);
    EXPECT_THAT(MessageOf(status), HasSubstr("was moved or deleted"));
    EXPECT_TRUE(db->IsBroken());
    EXPECT_EQ(ClassOf(db->Ping()), ErrorClass::kGone);
}

TEST_F(SqliteErrorTest, AStatementOutsideATransactionNoticesADeletedFile) {
    const auto db = OpenWithTable();
    std::filesystem::remove(options_.path);
    const auto status = db->Execute("INSERT INTO orders VALUES (1, 'lost')").status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(MessageOf(status), HasSubstr("was moved or deleted"));
}

TEST_F(SqliteErrorTest, ADamagedPageIsDataLossAndEndsTheConnection) {
    {
        const auto db = OpenWithTable();
        Must(*db, "INSERT INTO orders VALUES (1, 'a')");
    }
    {
        std::fstream file(options_.path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(4096);
        file << std::string(4096, '\xee');
    }
    const auto db = OpenConnection();
    auto rows = db->Query("SELECT title FROM orders").value();
    const auto status = rows.Next().status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_EQ(ClassOf(status), ErrorClass::kOther);
    EXPECT_TRUE(db->IsBroken());
}

TEST_F(SqliteErrorTest, AValueThatIsTooLargeIsTheCallersMistake) {
    const auto raw = testing::OpenRaw(":memory:");
    testing::Raw(raw.get(), "CREATE TABLE t (a)");
    sqlite3_limit(raw.get(), SQLITE_LIMIT_LENGTH, 1000);
    const auto db = Borrow(raw.get()).value();
    const auto status = db->Execute("INSERT INTO t VALUES (?)", {std::string(1001, 'x')}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(status), HasSubstr("parameter 0"));
    EXPECT_THAT(MessageOf(status), HasSubstr("SQLITE_TOOBIG"));
    EXPECT_TRUE(db->Execute("INSERT INTO t VALUES (?)", {"short"}).ok());
}

TEST_F(SqliteErrorTest, AnInterruptedStatementMayRunAgain) {
    const auto raw = testing::OpenRaw(":memory:");
    const auto db = Borrow(raw.get()).value();
    sqlite3_progress_handler(
        raw.get(), 1000, [](void*) { return 1; }, nullptr);
    auto rows =
        db->Query(
              "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000)"
              " SELECT count(*) FROM n")
            .value();
    const auto status = rows.Next().status();
    EXPECT_EQ(ClassOf(status), ErrorClass::kBusy);
    EXPECT_THAT(MessageOf(status), HasSubstr("SQLITE_INTERRUPT"));
}

TEST_F(SqliteErrorTest, ReadingRowsOfARolledBackTransactionIsAnError) {
    const auto db = OpenWithTable();
    auto tx = sql::Transaction::Begin(*db).value();
    Must(*db, "CREATE TABLE fresh (a)");
    Must(*db, "INSERT INTO fresh VALUES (1), (2)");
    auto rows = db->Query("SELECT a FROM fresh").value();
    ASSERT_TRUE(rows.Next().value());
    ASSERT_TRUE(tx.Rollback().ok());
    const auto status = rows.Next().status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_FALSE(db->IsBroken());
}

}  // namespace
}  // namespace qmq::sqlite
