#include <fstream>
#include <thread>
#include <vector>

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using ::testing::HasSubstr;
using testing::MessageOf;

class SqliteOpenTest : public testing::SqliteTest {
protected:
    template <typename T>
    static T Pragma(sql::Connection& db, const std::string& name) {
        return std::get<0>(**db.QueryOne<T>("PRAGMA " + name));
    }
};

TEST_F(SqliteOpenTest, TheDefaultsAreDurable) {
    Options defaults;
    defaults.path = options_.path;
    const auto db = Open(defaults).value();
    Must(*db, "CREATE TABLE t (a)");
    EXPECT_TRUE(std::filesystem::exists(options_.path + "-wal"));
    EXPECT_EQ(Pragma<int>(*db, "synchronous"), 2);
    EXPECT_EQ(Pragma<int>(*db, "foreign_keys"), 1);
    EXPECT_EQ(Pragma<int>(*db, "busy_timeout"), 5000);
}

TEST_F(SqliteOpenTest, OptionsAreApplied) {
    options_.synchronous = Synchronous::kNormal;
    options_.foreign_keys = false;
    options_.busy_timeout = std::chrono::milliseconds(7);
    const auto db = OpenConnection();
    EXPECT_EQ(Pragma<int>(*db, "synchronous"), 1);
    EXPECT_EQ(Pragma<int>(*db, "foreign_keys"), 0);
    EXPECT_EQ(Pragma<int>(*db, "busy_timeout"), 7);
}

TEST_F(SqliteOpenTest, OptionsOutOfRangeAreNamed) {
    EXPECT_THAT(MessageOf(Open({.path = ""}).status()), HasSubstr("path"));
    EXPECT_FALSE(Open({.path = std::string("a\0b", 3)}).ok());
    options_.busy_timeout = std::chrono::milliseconds(-1);
    EXPECT_THAT(MessageOf(Open(options_).status()), HasSubstr("busy_timeout is -1 ms"));
    options_.busy_timeout = std::chrono::minutes(11);
    EXPECT_FALSE(Open(options_).ok());
    options_.busy_timeout = std::chrono::milliseconds(0);
    options_.statement_cache_count = 10'001;
    EXPECT_THAT(MessageOf(Open(options_).status()), HasSubstr("statement_cache_count is 10001"));
    EXPECT_FALSE(MakeDatabase(options_).ok());
}

TEST_F(SqliteOpenTest, AMissingDirectoryOrFileIsNamed) {
    options_.path = Path("nowhere/orders.db");
    const auto missing = Open(options_).status();
    EXPECT_EQ(missing.code(), StatusCode::kNotFound);
    EXPECT_THAT(MessageOf(missing), HasSubstr("nowhere/orders.db"));
    EXPECT_THAT(MessageOf(missing), HasSubstr("No such file or directory"));
    options_.path = Path("orders.db");
    options_.create = false;
    EXPECT_EQ(Open(options_).status().code(), StatusCode::kNotFound);
    options_.read_only = true;
    EXPECT_EQ(Open(options_).status().code(), StatusCode::kNotFound);
    EXPECT_FALSE(std::filesystem::exists(options_.path));
}

TEST_F(SqliteOpenTest, ADirectoryIsNoDatabase) {
    options_.path = directory_;
    const auto status = Open(options_).status();
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(sql::ClassOf(status), sql::ErrorClass::kOther);
    EXPECT_THAT(MessageOf(status), HasSubstr(directory_));
}

TEST_F(SqliteOpenTest, AnotherFileIsNoDatabaseAndStaysAsItIs) {
    const std::string text(8192, 'x');
    std::ofstream(options_.path) << text;
    const auto status = Open(options_).status();
    EXPECT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_THAT(MessageOf(status), HasSubstr("file is not a database"));
    std::ifstream file(options_.path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
}

TEST_F(SqliteOpenTest, ALockedFileIsBusy) {
    const auto raw = testing::OpenRaw(options_.path);
    testing::Raw(raw.get(), "CREATE TABLE t (a)");
    testing::Raw(raw.get(), "BEGIN EXCLUSIVE");
    const auto status = Open(options_).status();
    EXPECT_EQ(sql::ClassOf(status), sql::ErrorClass::kBusy);
    testing::Raw(raw.get(), "ROLLBACK");
    EXPECT_TRUE(Open(options_).ok());
}

TEST_F(SqliteOpenTest, ReadingOnlyRefusesToWrite) {
    Must(*OpenWithTable(), "INSERT INTO orders VALUES (1, 'a')");
    options_.read_only = true;
    const auto db = OpenConnection();
    EXPECT_EQ(Count(*db), 1);
    const auto status = db->Execute("DELETE FROM orders").status();
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied);
    EXPECT_EQ(sql::ClassOf(status), sql::ErrorClass::kOther);
}

TEST_F(SqliteOpenTest, ANameThatLooksLikeAUriIsAName) {
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(directory_);
    options_.path = "file:orders.db?mode=memory";
    { const auto db = OpenWithTable(); }
    std::filesystem::current_path(before);
    EXPECT_TRUE(std::filesystem::exists(Path(options_.path)));
}

TEST_F(SqliteOpenTest, InMemoryWorksWithoutWal) {
    options_.path = ":memory:";
    const auto db = OpenWithTable();
    Must(*db, "INSERT INTO orders VALUES (1, 'a')");
    EXPECT_TRUE(db->Ping().ok());
    auto tx = sql::Transaction::Begin(*db).value();
    EXPECT_TRUE(tx.Commit().ok());
}

// SQLite does not wait for its lock when a file changes to WAL: without patience of ours one round
// in ten fails here.
TEST_F(SqliteOpenTest, ManyMayOpenANewFileAtOnce) {
    constexpr int kRounds = 40;
    constexpr int kThreads = 8;
    options_.busy_timeout = std::chrono::seconds(30);
    for (int round = 0; round < kRounds; ++round) {
        options_.path = Path(std::to_string(round) + ".db");
        std::vector<std::thread> threads;
        for (int i = 0; i < kThreads; ++i) {
            threads.emplace_back([this, i] {
                const auto db = Open(options_);
                ASSERT_TRUE(db.ok()) << db.status();
                const auto made = (*db)->Execute("CREATE TABLE t" + std::to_string(i) + " (a)");
                EXPECT_TRUE(made.ok()) << made.status();
            });
        }
        for (auto& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(Count(*OpenConnection(), "sqlite_schema"), kThreads);
    }
}

}  // namespace
}  // namespace qmq::sqlite
