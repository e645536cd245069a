#include <chrono>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

class SqliteDialectTest : public testing::SqliteTest {
protected:
    const sql::Dialect& dialect_ = GetDialect();
    std::unique_ptr<sql::Connection> db_ = OpenConnection();
};

TEST_F(SqliteDialectTest, TheConnectionAndTheDatabaseHaveIt) {
    EXPECT_EQ(&db_->dialect(), &dialect_);
    EXPECT_EQ(&MakeDatabase(options_).value()->dialect(), &dialect_);
    EXPECT_EQ(dialect_.name(), "sqlite");
}

TEST_F(SqliteDialectTest, ItsTypesMakeATableThatKeepsThem) {
    Must(*db_,
         "CREATE TABLE t (i " + std::string(dialect_.TypeOf(sql::ColumnType::kInt64)) + ", d " +
             std::string(dialect_.TypeOf(sql::ColumnType::kDouble)) + ", s " +
             std::string(dialect_.TypeOf(sql::ColumnType::kText)) + ", b " +
             std::string(dialect_.TypeOf(sql::ColumnType::kBlob)) + ", k " + dialect_.KeyText(100) +
             " UNIQUE)");
    Must(*db_, "INSERT INTO t VALUES (?, ?, ?, ?, ?)", {1, 2.0, "12", sql::BlobOf("b"), "007"});
    auto rows = db_->Query("SELECT * FROM t").value();
    ASSERT_TRUE(rows.Next().value());
    const auto row =
        rows.As<std::int64_t, double, std::string, std::vector<std::byte>, std::string>();
    ASSERT_TRUE(row.ok()) << row.status();
    EXPECT_EQ(std::get<2>(*row), "12");
    EXPECT_EQ(std::get<4>(*row), "007");
}

TEST_F(SqliteDialectTest, CountedKeysAreNeverUsedTwice) {
    Must(*db_, "CREATE TABLE t (id " + std::string(dialect_.AutoIncrementKey()) + ", a INTEGER)");
    EXPECT_EQ(Must(*db_, "INSERT INTO t (a) VALUES (1)").last_insert_id, 1);
    Must(*db_, "DELETE FROM t");
    EXPECT_EQ(Must(*db_, "INSERT INTO t (a) VALUES (1)").last_insert_id, 2);
}

TEST_F(SqliteDialectTest, AnUpsertInsertsThenOverwrites) {
    Must(*db_,
         "CREATE TABLE routes (subject TEXT, kind INTEGER, target TEXT, UNIQUE (subject, kind))");
    const auto upsert = dialect_.Upsert({.table = "main.routes",
                                         .columns = {"subject", "kind", "target"},
                                         .keys = {"subject", "kind"}});
    ASSERT_TRUE(upsert.ok()) << upsert.status();
    EXPECT_EQ(Must(*db_, *upsert, {"order.paid", 1, "a"}).changes, 1);
    EXPECT_EQ(Must(*db_, *upsert, {"order.paid", 1, "b"}).changes, 1);
    EXPECT_EQ(Must(*db_, *upsert, {"order.paid", 2, "c"}).changes, 1);
    const auto row = db_->QueryOne<std::string>("SELECT target FROM routes WHERE kind = 1");
    EXPECT_EQ(std::get<0>(**row), "b");
    EXPECT_EQ(Count(*db_, "routes"), 2);
}

TEST_F(SqliteDialectTest, AnUpsertOfOnlyKeysStillCounts) {
    Must(*db_, "CREATE TABLE seen (id TEXT PRIMARY KEY)");
    const auto upsert = dialect_.Upsert({.table = "seen", .columns = {"id"}, .keys = {"id"}});
    EXPECT_EQ(Must(*db_, *upsert, {"m"}).changes, 1);
    EXPECT_EQ(Must(*db_, *upsert, {"m"}).changes, 1);
    EXPECT_EQ(Count(*db_, "seen"), 1);
}

TEST_F(SqliteDialectTest, BadNamesAreRefused) {
    EXPECT_FALSE(dialect_.Quote("t; DROP TABLE t").ok());
    EXPECT_FALSE(dialect_.Upsert({.table = "t", .columns = {"a\""}, .keys = {"a\""}}).ok());
}

TEST_F(SqliteDialectTest, LockClausesAreValidInASelect) {
    Must(*db_, "CREATE TABLE t (a)");
    EXPECT_FALSE(dialect_.SupportsSkipLocked());
    for (const auto lock : {sql::RowLock::kWait, sql::RowLock::kSkip}) {
        const auto sql = "SELECT a FROM t" + std::string(dialect_.LockClause(lock));
        EXPECT_TRUE(db_->QueryOne<int>(sql).ok());
    }
}

TEST_F(SqliteDialectTest, ItsClockIsInMillisecondsOfUtc) {
    const auto now = [] {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
                   std::chrono::system_clock::now().time_since_epoch())
            .count();
    };
    const auto before = now();
    const auto row = db_->QueryOne<std::int64_t>("SELECT " + std::string(dialect_.NowMillis()));
    const auto after = now();
    EXPECT_GE(std::get<0>(**row), before);
    EXPECT_LE(std::get<0>(**row), after);
}

TEST_F(SqliteDialectTest, AsManyParametersAsItSaysAreTaken) {
    std::string sql = "SELECT 1 WHERE 0 IN (?";
    for (std::size_t i = 1; i < dialect_.max_parameters(); ++i) {
        sql += ", ?";
    }
    const std::vector<sql::Param> params(dialect_.max_parameters(), sql::Param(1));
    EXPECT_TRUE(db_->Query(sql + ")", params).ok());
}

}  // namespace
}  // namespace qmq::sqlite
