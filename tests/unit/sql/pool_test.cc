#include "qmq/sql/pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "tests/unit/sql/fake_connection.h"

namespace qmq::sql {
namespace {

using std::chrono::milliseconds;
using testing::FakeConnection;
using testing::FakeDialect;
using ::testing::HasSubstr;

constexpr milliseconds kNoWait{0};
constexpr milliseconds kLong{30'000};  // Never passes: what is waited for comes.

class FakeDatabase final : public Database {
public:
    Result<std::unique_ptr<Connection>> Connect() override {
        if (fails_) {
            return Status::Unavailable("nobody listens");
        }
        auto connection = std::make_unique<FakeConnection>();
        latest_ = connection.get();
        return std::unique_ptr<Connection>(std::move(connection));
    }
    const Dialect& dialect() const override { return dialect_; }
    std::string_view name() const override { return "fake://orders"; }

    FakeConnection& latest() { return *latest_; }
    void set_fails(bool fails) { fails_ = fails; }

private:
    FakeDialect dialect_;
    FakeConnection* latest_ = nullptr;
    std::atomic<bool> fails_ = false;
};

class PoolTest : public ::testing::Test {
protected:
    std::unique_ptr<ConnectionPool> Make(std::size_t max_connections) {
        PoolOptions options;
        options.max_connections = max_connections;
        options.check_after_idle = milliseconds(100);
        options.now = [this] { return now_; };
        return ConnectionPool::Create(database_, options).value();
    }

    void AwaitWaiting(const ConnectionPool& pool, std::size_t count) {
        while (pool.stats().waiting != count) {
            std::this_thread::yield();
        }
    }

    std::shared_ptr<FakeDatabase> database_ = std::make_shared<FakeDatabase>();
    std::chrono::steady_clock::time_point now_;
};

TEST_F(PoolTest, OptionsOutOfRangeAreNamed) {
    EXPECT_THAT(PoolOptions{.max_connections = 0}.Validate().ToString(),
                HasSubstr("max_connections is 0"));
    EXPECT_FALSE(PoolOptions{.max_connections = 1025}.Validate().ok());
    EXPECT_THAT(PoolOptions{.check_after_idle = milliseconds(-1)}.Validate().ToString(),
                HasSubstr("check_after_idle is -1 ms"));
    EXPECT_TRUE(PoolOptions{}.Validate().ok());
    EXPECT_FALSE(ConnectionPool::Create(nullptr).ok());
    EXPECT_FALSE(ConnectionPool::Create(database_, {.max_connections = 0}).ok());
    EXPECT_EQ(Make(1)->Acquire(milliseconds(-1)).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(PoolTest, AConnectionThatCameBackIsLentAgain) {
    const auto pool = Make(2);
    Connection* first = nullptr;
    {
        const auto lent = pool->Acquire(kNoWait).value();
        first = &*lent;
        EXPECT_EQ(pool->stats().lent, 1U);
    }
    const auto again = pool->Acquire(kNoWait).value();
    EXPECT_EQ(&*again, first);
    EXPECT_EQ(pool->stats().opened, 1U);
}

TEST_F(PoolTest, AnEmptyPoolWithoutWaitingIsBusyAtOnce) {
    const auto pool = Make(1);
    const auto lent = pool->Acquire(kNoWait).value();
    const auto refused = pool->Acquire(kNoWait);
    EXPECT_EQ(ClassOf(refused.status()), ErrorClass::kBusy);
    EXPECT_THAT(refused.status().ToString(), HasSubstr("fake://orders"));
    EXPECT_THAT(refused.status().ToString(), HasSubstr("all 1 are on loan"));
}

TEST_F(PoolTest, WaitingEndsAtItsDeadline) {
    const auto pool = Make(1);
    const auto lent = pool->Acquire(kNoWait).value();
    EXPECT_EQ(ClassOf(pool->Acquire(milliseconds(1)).status()), ErrorClass::kBusy);
    EXPECT_EQ(pool->stats().waiting, 0U);
    EXPECT_EQ(pool->stats().lent, 1U);
}

TEST_F(PoolTest, WaitersAreServedInTheirOrder) {
    const auto pool = Make(1);
    std::optional<PooledConnection> lent = pool->Acquire(kNoWait).value();
    std::vector<int> served;  // Guarded by holding the only connection.
    const auto borrow = [&](int who) {
        const auto mine = pool->Acquire(kLong).value();
        served.push_back(who);
    };
    std::vector<std::thread> threads;
    for (int who = 0; who < 4; ++who) {
        threads.emplace_back(borrow, who);
        AwaitWaiting(*pool, static_cast<std::size_t>(who) + 1);
    }
    lent.reset();
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_THAT(served, ::testing::ElementsAre(0, 1, 2, 3));
    EXPECT_EQ(pool->stats().opened, 1U);
}

TEST_F(PoolTest, ABrokenConnectionIsNotLentAgain) {
    const auto pool = Make(1);
    { pool->Acquire(kNoWait).value()->Close(); }
    EXPECT_EQ(pool->stats().idle, 0U);
    EXPECT_EQ(pool->stats().discarded, 1U);
    EXPECT_FALSE(pool->Acquire(kNoWait).value()->IsBroken());
    EXPECT_EQ(pool->stats().opened, 2U);
}

TEST_F(PoolTest, AConnectionInMidTransactionIsNotLentAgain) {
    const auto pool = Make(1);
    {
        const auto lent = pool->Acquire(kNoWait).value();
        database_->latest().set_in_transaction(true);
    }
    EXPECT_FALSE(pool->Acquire(kNoWait).value()->InTransaction());
    EXPECT_EQ(pool->stats().discarded, 1U);
}

TEST_F(PoolTest, AnIdleConnectionIsAskedBeforeItIsLent) {
    const auto pool = Make(1);
    { const auto lent = pool->Acquire(kNoWait).value(); }
    database_->latest().FailPing();
    now_ += milliseconds(99);
    { const auto lent = pool->Acquire(kNoWait).value(); }
    EXPECT_EQ(pool->stats().opened, 1U);  // Not idle for long enough to be asked.
    now_ += milliseconds(100);
    { const auto lent = pool->Acquire(kNoWait).value(); }
    EXPECT_EQ(pool->stats().opened, 2U);
    EXPECT_EQ(pool->stats().discarded, 1U);
}

TEST_F(PoolTest, AFailureToConnectKeepsNoPlaceTaken) {
    const auto pool = Make(1);
    database_->set_fails(true);
    EXPECT_EQ(ClassOf(pool->Acquire(kNoWait).status()), ErrorClass::kGone);
    database_->set_fails(false);
    EXPECT_TRUE(pool->Acquire(kNoWait).ok());
}

TEST_F(PoolTest, ClosingWakesWaitersAndClosesWhatComesBack) {
    const auto pool = Make(1);
    std::optional<PooledConnection> lent = pool->Acquire(kNoWait).value();
    auto waiter = std::async(std::launch::async, [&] { return pool->Acquire(kLong).status(); });
    AwaitWaiting(*pool, 1);
    pool->Close();
    pool->Close();
    EXPECT_EQ(waiter.get().code(), StatusCode::kCancelled);
    EXPECT_EQ(pool->Acquire(kNoWait).status().code(), StatusCode::kCancelled);
    lent.reset();
    EXPECT_EQ(pool->stats().idle, 0U);
    EXPECT_EQ(pool->stats().lent, 0U);
}

TEST_F(PoolTest, AConnectionOnLoanMayOutliveThePool) {
    auto pool = Make(1);
    const auto lent = pool->Acquire(kNoWait).value();
    pool.reset();
    EXPECT_FALSE(lent->IsBroken());
}

TEST_F(PoolTest, NeverMoreConnectionsThanAllowed) {
    const auto pool = Make(3);
    std::atomic<int> in_use = 0;
    std::atomic<bool> too_many = false;
    const auto work = [&] {
        for (int i = 0; i < 200; ++i) {
            const auto lent = pool->Acquire(kLong).value();
            too_many = too_many || ++in_use > 3;
            --in_use;
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back(work);
    }
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_FALSE(too_many);
    EXPECT_LE(pool->stats().opened, 3U);
    EXPECT_EQ(pool->stats().lent, 0U);
}

}  // namespace
}  // namespace qmq::sql
