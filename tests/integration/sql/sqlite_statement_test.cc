#include <cstdint>
#include <limits>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using std::string_literals::operator""s;
using ::testing::HasSubstr;
using testing::MessageOf;
using testing::OpenRaw;
using testing::Raw;

class SqliteStatementTest : public testing::SqliteTest {
protected:
    void SetUp() override { Must(*db_, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)"); }

    template <typename T>
    T RoundTrip(const sql::Param& param) {
        Must(*db_, "DELETE FROM t");
        Must(*db_, "INSERT INTO t (a) VALUES (?)", {param});
        const auto row = db_->QueryOne<T>("SELECT a FROM t");
        EXPECT_TRUE(row.ok()) << row.status();
        return row.ok() && row->has_value() ? std::get<0>(**row) : T();
    }

    Status ExecuteStatus(std::string_view sql, std::initializer_list<sql::Param> params = {}) {
        return db_->Execute(sql, params).status();
    }

    std::unique_ptr<sql::Connection> db_ = OpenConnection();
};

TEST_F(SqliteStatementTest, EachTypeSurvivesARoundTrip) {
    constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
    constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
    EXPECT_EQ(RoundTrip<std::int64_t>(kMin), kMin);
    EXPECT_EQ(RoundTrip<std::int64_t>(kMax), kMax);
    EXPECT_EQ(RoundTrip<double>(0.1), 0.1);
    EXPECT_EQ(RoundTrip<double>(std::numeric_limits<double>::denorm_min()),
              std::numeric_limits<double>::denorm_min());
    EXPECT_EQ(RoundTrip<bool>(true), true);
    EXPECT_EQ(RoundTrip<std::string>("Grüße, 世界"), "Grüße, 世界");
    EXPECT_EQ(RoundTrip<std::optional<std::string>>(nullptr), std::nullopt);
}

TEST_F(SqliteStatementTest, TextAndBlobsKeepTheirNuls) {
    const auto bytes = "\0a\0\xff\0"s;
    const sql::Blob blob = sql::BlobOf(bytes);
    EXPECT_EQ(RoundTrip<std::vector<std::byte>>(blob),
              std::vector<std::byte>(blob.begin(), blob.end()));
    EXPECT_EQ(RoundTrip<std::string>("a\0b"s), "a\0b"s);
}

TEST_F(SqliteStatementTest, EmptyIsNotNull) {
    EXPECT_EQ(RoundTrip<std::string>(std::string_view()), "");
    EXPECT_EQ(RoundTrip<std::vector<std::byte>>(sql::Blob()), std::vector<std::byte>());
}

TEST_F(SqliteStatementTest, LargeValuesAreStoredWhole) {
    std::string large(20 << 20, 'x');
    large[large.size() / 2] = '\0';
    large.back() = 'y';
    EXPECT_EQ(RoundTrip<std::string>(large), large);
    const sql::Blob blob = sql::BlobOf(large);
    EXPECT_EQ(RoundTrip<std::vector<std::byte>>(blob),
              std::vector<std::byte>(blob.begin(), blob.end()));
}

TEST_F(SqliteStatementTest, AnInjectionStaysData) {
    const auto evil = "'); DROP TABLE t; --\"`\\"s;
    EXPECT_EQ(RoundTrip<std::string>(evil), evil);
    EXPECT_EQ(Count(*db_, "t"), 1);
    const auto found = db_->QueryOne<int>("SELECT 1 FROM t WHERE a = ?", {"x' OR '1'='1"});
    EXPECT_FALSE(found->has_value());
}

TEST_F(SqliteStatementTest, ChangesAreThoseOfThisStatement) {
    EXPECT_EQ(Must(*db_, "INSERT INTO t (a) VALUES (1), (2), (3)").changes, 3);
    EXPECT_EQ(Must(*db_, "CREATE TABLE u (a)").changes, 0);
    EXPECT_EQ(Must(*db_, "UPDATE t SET a = a WHERE a < 3").changes, 2);
    EXPECT_EQ(Must(*db_, "UPDATE t SET a = 0 WHERE a > 9").changes, 0);
    EXPECT_EQ(Must(*db_, "DELETE FROM t").changes, 3);
}

TEST_F(SqliteStatementTest, ChangesLeaveOutThoseOfTriggers) {
    Must(*db_, "CREATE TABLE log (a INTEGER PRIMARY KEY)");
    Must(*db_,
         "CREATE TRIGGER copy AFTER INSERT ON t BEGIN INSERT INTO log VALUES (100), (200); END");
    const auto result = Must(*db_, "INSERT INTO t (id) VALUES (7)");
    EXPECT_EQ(result.changes, 1);
    EXPECT_EQ(result.last_insert_id, 7);
}

TEST_F(SqliteStatementTest, TheLastInsertIdIsOnlyThatOfAnInsert) {
    EXPECT_EQ(Must(*db_, "INSERT INTO t (a) VALUES (1)").last_insert_id, 1);
    EXPECT_EQ(Must(*db_, "INSERT INTO t (a) VALUES (1)").last_insert_id, 2);
    EXPECT_EQ(Must(*db_, "UPDATE t SET a = 2").last_insert_id, 0);
}

TEST_F(SqliteStatementTest, APreparedStatementRunsManyTimes) {
    const auto insert = db_->Prepare("INSERT INTO t (a, b) VALUES (?, ?)").value();
    EXPECT_EQ(insert->parameter_count(), 2U);
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(insert->Execute({i, i * i}).ok());
    }
    const auto select = db_->Prepare("SELECT b FROM t WHERE a = ?").value();
    for (int i = 0; i < 10; ++i) {
        auto rows = select->Query({i}).value();
        ASSERT_TRUE(rows.Next().value());
        EXPECT_EQ(rows.Get<int>(0).value(), i * i);
    }
}

TEST_F(SqliteStatementTest, AStatementWorksAgainAfterItFailed) {
    const auto insert = db_->Prepare("INSERT INTO t (id) VALUES (?)").value();
    ASSERT_TRUE(insert->Execute({1}).ok());
    EXPECT_EQ(insert->Execute({1}).status().code(), StatusCode::kAlreadyExists);
    EXPECT_TRUE(insert->Execute({2}).ok());
}

TEST_F(SqliteStatementTest, TwoQueriesOfOneStatementAreReadSideBySide) {
    Must(*db_, "INSERT INTO t (a) VALUES (1), (2)");
    const auto select = db_->Prepare("SELECT a FROM t ORDER BY a").value();
    auto first = select->Query().value();
    auto second = select->Query().value();
    ASSERT_TRUE(first.Next().value());
    ASSERT_TRUE(first.Next().value());
    ASSERT_TRUE(second.Next().value());
    EXPECT_EQ(first.Get<int>(0).value(), 2);
    EXPECT_EQ(second.Get<int>(0).value(), 1);
}

TEST_F(SqliteStatementTest, TheParametersOfAQueryNeedNotOutliveTheCall) {
    Must(*db_, "INSERT INTO t (a) VALUES (?), (?)", {"key", "key"});
    auto key = std::make_unique<std::string>("key");
    auto rows = db_->Query("SELECT id FROM t WHERE a = ?", {*key}).value();
    ASSERT_TRUE(rows.Next().value());
    key->assign("xxx");
    key.reset();
    EXPECT_TRUE(rows.Next().value());
    EXPECT_FALSE(rows.Next().value());
}

TEST_F(SqliteStatementTest, ColumnsHaveNamesAlsoBehindTheLastRow) {
    auto rows = db_->Query("SELECT 1 AS one, 2 AS two").value();
    EXPECT_EQ(rows.column_count(), 2U);
    EXPECT_EQ(rows.column_name(1), "two");
    while (rows.Next().value()) {
    }
    EXPECT_EQ(rows.column_name(1), "two");
}

TEST_F(SqliteStatementTest, ReadingToTheEndLetsTheReadLockGo) {
    auto rows = db_->Query("SELECT 1 FROM t").value();
    EXPECT_FALSE(rows.Next().value());
    EXPECT_TRUE(ExecuteStatus("DROP TABLE t").ok());  // LOCKED while a statement reads it.
}

TEST_F(SqliteStatementTest, TextInANumberColumnIsNoNumber) {
    Must(*db_, "CREATE TABLE n (v INTEGER)");
    Must(*db_, "INSERT INTO n VALUES (?)", {"many"});
    const auto row = db_->QueryOne<std::int64_t>("SELECT v FROM n");
    EXPECT_EQ(MessageOf(row.status()), "column 0 (v) holds text; int64 was asked for");
}

TEST_F(SqliteStatementTest, OneRowMustBeOneRow) {
    Must(*db_, "INSERT INTO t (a) VALUES (1), (2)");
    EXPECT_FALSE(db_->QueryOne<int>("SELECT a FROM t WHERE a = 3")->has_value());
    EXPECT_EQ(db_->QueryOne<int>("SELECT a FROM t").status().code(), StatusCode::kInvalidArgument);
    EXPECT_TRUE(db_->QueryOne<int>("SELECT a FROM t LIMIT 1")->has_value());
}

TEST_F(SqliteStatementTest, WrongParametersAreNamed) {
    EXPECT_THAT(MessageOf(ExecuteStatus("INSERT INTO t (a) VALUES (?)")),
                HasSubstr("takes 1 parameters; 0 were given"));
    EXPECT_EQ(ExecuteStatus("INSERT INTO t (a) VALUES (?)", {1, 2}).code(),
              StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(ExecuteStatus("INSERT INTO t (a) VALUES (?)",
                                        {std::numeric_limits<double>::quiet_NaN()})),
                HasSubstr("parameter 0"));
    EXPECT_EQ(Count(*db_, "t"), 0);
}

TEST_F(SqliteStatementTest, ASyntaxErrorSaysWhereAndIsNotRetryable) {
    const auto status = ExecuteStatus("SELEKT 1");
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(sql::ClassOf(status), sql::ErrorClass::kOther);
    EXPECT_FALSE(status.IsRetryable());
    EXPECT_EQ(MessageOf(status), "SELEKT 1: near \"SELEKT\": syntax error (SQLITE_ERROR 1)");
    EXPECT_THAT(MessageOf(ExecuteStatus("DELETE FROM missing")),
                HasSubstr("no such table: missing"));
}

TEST_F(SqliteStatementTest, ADoubleQuotedNameIsNeverText) {
    EXPECT_THAT(MessageOf(ExecuteStatus("INSERT INTO t (a) VALUES (\"b2\")")), HasSubstr("b2"));
}

TEST_F(SqliteStatementTest, ExactlyOneStatementIsTaken) {
    EXPECT_THAT(MessageOf(ExecuteStatus("DELETE FROM t; DELETE FROM t")),
                HasSubstr("more than one"));
    EXPECT_THAT(MessageOf(ExecuteStatus("DELETE FROM t; gibberish")), HasSubstr("more than one"));
    EXPECT_THAT(MessageOf(ExecuteStatus("")), HasSubstr("no statement"));
    EXPECT_THAT(MessageOf(ExecuteStatus("-- nothing")), HasSubstr("no statement"));
    EXPECT_TRUE(ExecuteStatus("DELETE FROM t; -- all\n ;").ok());
}

TEST_F(SqliteStatementTest, OnlyPortablePlaceholdersAreTaken) {
    for (const auto* sql : {"DELETE FROM t WHERE a = :a",
                            "DELETE FROM t WHERE a = ?1",
                            "DELETE FROM t WHERE a = @a",
                            "DELETE FROM t WHERE a = $a"}) {
        EXPECT_THAT(MessageOf(ExecuteStatus(sql, {1})), HasSubstr("only ? is portable")) << sql;
    }
}

TEST_F(SqliteStatementTest, TransactionsAreNotBegunByStatement) {
    EXPECT_THAT(MessageOf(ExecuteStatus("BEGIN")), HasSubstr("use qmq::sql::Transaction"));
    EXPECT_FALSE(db_->InTransaction());
}

TEST_F(SqliteStatementTest, ReadingAndWritingAreKeptApart) {
    EXPECT_THAT(MessageOf(ExecuteStatus("SELECT 1")), HasSubstr("use Query"));
    EXPECT_THAT(MessageOf(db_->Query("DELETE FROM t").status()), HasSubstr("use Execute"));
    const auto returning = db_->Query("INSERT INTO t (a) VALUES (1) RETURNING id");
    EXPECT_THAT(MessageOf(returning.status()), HasSubstr("writes and returns rows"));
    EXPECT_EQ(Count(*db_, "t"), 0);
}

TEST_F(SqliteStatementTest, AStatementNoticesThatTheTableChanged) {
    const auto insert = db_->Prepare("INSERT INTO t (a) VALUES (?)").value();
    ASSERT_TRUE(insert->Execute({1}).ok());
    Must(*db_, "ALTER TABLE t ADD COLUMN c");
    EXPECT_TRUE(insert->Execute({2}).ok());
    Must(*db_, "DROP TABLE t");
    EXPECT_EQ(insert->Execute({3}).status().code(), StatusCode::kInvalidArgument);
}

// The columns were counted before the first step, and only that sees that the table has changed.
TEST_F(SqliteStatementTest, ARowHasTheColumnsThatItsTableHasNow) {
    auto connection = OpenWithTable();
    Must(*connection, "INSERT INTO orders VALUES (1, 'one')");
    auto statement = connection->Prepare("SELECT * FROM orders");
    ASSERT_TRUE(statement.ok()) << statement.status();
    const auto other = OpenRaw(options_.path);
    Raw(other.get(), "ALTER TABLE orders ADD COLUMN price INTEGER DEFAULT 7");
    {
        auto rows = (*statement)->Query({});
        ASSERT_TRUE(rows.ok() && rows->Next().value());
        EXPECT_EQ(rows->column_count(), 3U);
        EXPECT_EQ(rows->Get<std::int64_t>(2).value(), 7);
    }
    Raw(other.get(), "ALTER TABLE orders DROP COLUMN price");
    Raw(other.get(), "ALTER TABLE orders DROP COLUMN title");
    auto rows = (*statement)->Query({});
    ASSERT_TRUE(rows.ok() && rows->Next().value());
    EXPECT_EQ(rows->Get<std::optional<std::int64_t>>(1).status().code(),
              StatusCode::kInvalidArgument)
        << "a column that is gone is no NULL";
}

// What is behind it was left out: every row went.
TEST_F(SqliteStatementTest, AStatementIsNotCutAtANul) {
    auto connection = OpenWithTable();
    Must(*connection, "INSERT INTO orders VALUES (1, 'one')");
    const std::string_view text("DELETE FROM orders\0 WHERE id = 2", 32);
    EXPECT_EQ(connection->Execute(text).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(Count(*connection), 1);
}

TEST_F(SqliteStatementTest, MessagesDoNotContainParameters) {
    Must(*db_, "CREATE TABLE u (a TEXT UNIQUE)");
    Must(*db_, "INSERT INTO u VALUES (?)", {"card 4111-1111"});
    const auto status = ExecuteStatus("INSERT INTO u VALUES (?)", {"card 4111-1111"});
    EXPECT_EQ(status.code(), StatusCode::kAlreadyExists);
    EXPECT_THAT(MessageOf(status), Not(HasSubstr("4111")));
}

}  // namespace
}  // namespace qmq::sqlite
