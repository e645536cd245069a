#include <thread>
#include <vector>

#include "qmq/sql/pool.h"

#include "tests/integration/sql/sqlite_fixture.h"

namespace qmq::sqlite {
namespace {

using sql::ConnectionPool;
using std::chrono::milliseconds;

constexpr milliseconds kNoWait{0};
constexpr milliseconds kLong{30'000};

class SqlitePoolTest : public testing::SqliteTest {
protected:
    std::unique_ptr<ConnectionPool> Make(std::size_t max_connections) {
        const sql::PoolOptions options{.max_connections = max_connections,
                                       .check_after_idle = milliseconds(0)};
        return ConnectionPool::Create(MakeDatabase(options_).value(), options).value();
    }
};

TEST_F(SqlitePoolTest, EachBorrowerHasATransactionOfItsOwnAndNoneIsLost) {
    { const auto db = OpenWithTable(); }
    options_.busy_timeout = std::chrono::seconds(30);
    const auto pool = Make(3);
    const auto work = [&](int first) {
        for (int id = first; id < first + 25; ++id) {
            const auto db = pool->Acquire(kLong).value();
            auto tx = sql::Transaction::Begin(*db).value();
            EXPECT_TRUE(tx.Execute("INSERT INTO orders VALUES (?, 'x')", {id}).ok());
            EXPECT_TRUE(tx.Commit().ok());
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
        threads.emplace_back(work, i * 25);
    }
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(Count(*OpenConnection()), 150);
    EXPECT_LE(pool->stats().opened, 3U);
}

TEST_F(SqlitePoolTest, AnExhaustedPoolIsBusyByItsDeadline) {
    const auto pool = Make(1);
    const auto lent = pool->Acquire(kNoWait).value();
    EXPECT_EQ(sql::ClassOf(pool->Acquire(milliseconds(1)).status()), sql::ErrorClass::kBusy);
}

TEST_F(SqlitePoolTest, AConnectionWhoseFileWasReplacedIsNotLent) {
    { const auto db = OpenWithTable(); }
    const auto pool = Make(1);
    { const auto db = pool->Acquire(kNoWait).value(); }
    std::filesystem::rename(options_.path, Path("old.db"));
    {
        const auto db = OpenWithTable();
        Must(*db, "INSERT INTO orders VALUES (1, 'new')");
    }
    EXPECT_EQ(Count(*pool->Acquire(kNoWait).value()), 1);
    EXPECT_EQ(pool->stats().discarded, 1U);
}

TEST_F(SqlitePoolTest, APoolOfPrivateDatabasesIsRefused) {
    options_.path = ":memory:";
    EXPECT_EQ(MakeDatabase(options_).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qmq::sqlite
