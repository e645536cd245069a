#include <map>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// A borrowed handle shows which statements exist and how often each has run.
class SqliteCacheTest : public testing::SqliteTest {
protected:
    std::unique_ptr<sql::Connection> BorrowWithCache(std::size_t count) {
        return Borrow(raw_.get(), count).value();
    }

    std::map<std::string, int> RunsByText() {
        std::map<std::string, int> runs;
        for (auto* statement = sqlite3_next_stmt(raw_.get(), nullptr); statement != nullptr;
             statement = sqlite3_next_stmt(raw_.get(), statement)) {
            runs[sqlite3_sql(statement)] +=
                sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_RUN, 0);
        }
        return runs;
    }

    testing::RawHandle raw_ = testing::OpenRaw(":memory:");
};

TEST_F(SqliteCacheTest, OneTextIsCompiledOnce) {
    const auto db = BorrowWithCache(8);
    Must(*db, "CREATE TABLE t (a)");
    for (int i = 0; i < 100; ++i) {
        Must(*db, "INSERT INTO t VALUES (?)", {i});
    }
    EXPECT_EQ(RunsByText()["INSERT INTO t VALUES (?)"], 100);
}

TEST_F(SqliteCacheTest, ACachedStatementKeepsNoValues) {
    const auto db = BorrowWithCache(8);
    Must(*db, "CREATE TABLE t (a)");
    Must(*db, "INSERT INTO t VALUES (?)", {"secret"});
    for (auto* statement = sqlite3_next_stmt(raw_.get(), nullptr); statement != nullptr;
         statement = sqlite3_next_stmt(raw_.get(), statement)) {
        char* expanded = sqlite3_expanded_sql(statement);
        EXPECT_THAT(expanded, Not(::testing::HasSubstr("secret")));
        sqlite3_free(expanded);
    }
}

TEST_F(SqliteCacheTest, TheLeastRecentlyUsedOneGoes) {
    const auto db = BorrowWithCache(2);
    for (const auto* sql : {"SELECT 1", "SELECT 2", "SELECT 1", "SELECT 3"}) {
        ASSERT_TRUE(db->QueryOne<int>(sql).ok());
    }
    EXPECT_THAT(RunsByText(), UnorderedElementsAre(Pair("SELECT 1", 2), Pair("SELECT 3", 1)));
}

TEST_F(SqliteCacheTest, StatementsInUseAreNotShared) {
    const auto db = BorrowWithCache(8);
    {
        auto first = db->Query("SELECT 1").value();
        auto second = db->Query("SELECT 1").value();
        EXPECT_TRUE(first.Next().value());
        EXPECT_TRUE(second.Next().value());
        EXPECT_NE(sqlite3_next_stmt(raw_.get(), sqlite3_next_stmt(raw_.get(), nullptr)), nullptr);
    }
    auto* only = sqlite3_next_stmt(raw_.get(), nullptr);
    ASSERT_NE(only, nullptr);
    EXPECT_EQ(sqlite3_next_stmt(raw_.get(), only), nullptr);
}

TEST_F(SqliteCacheTest, WithoutACacheNothingIsKept) {
    const auto db = BorrowWithCache(0);
    ASSERT_TRUE(db->QueryOne<int>("SELECT 1").ok());
    EXPECT_THAT(RunsByText(), IsEmpty());
}

TEST_F(SqliteCacheTest, RowsLetGoHalfReadHoldNoLock) {
    const auto db = BorrowWithCache(8);
    Must(*db, "CREATE TABLE t (a)");
    Must(*db, "INSERT INTO t VALUES (1), (2)");
    {
        auto rows = db->Query("SELECT a FROM t").value();
        ASSERT_TRUE(rows.Next().value());
    }
    Must(*db, "DROP TABLE t");
}

}  // namespace
}  // namespace qmq::sqlite
