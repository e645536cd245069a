#include "qmq/sql/pool.h"

#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <string>
#include <utility>

namespace qmq::sql {

namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

constexpr std::chrono::milliseconds kDay = std::chrono::hours(24);

Status CheckRange(std::string_view field, std::chrono::milliseconds value) {
    if (value >= std::chrono::milliseconds(0) && value <= kDay) {
        return {};
    }
    return Status::InvalidArgument(std::string(field) + " is " + std::to_string(value.count()) +
                                   " ms; the range is 0 to " + std::to_string(kDay.count()));
}

}  // namespace

Status PoolOptions::Validate() const {
    constexpr std::size_t kMost = 1024;
    if (max_connections < 1 || max_connections > kMost) {
        return Status::InvalidArgument("max_connections is " + std::to_string(max_connections) +
                                       "; the range is 1 to " + std::to_string(kMost));
    }
    return CheckRange("check_after_idle", check_after_idle);
}

/// What the pool and the connections on loan share, so that either may go first.
///
/// A borrower first gets a permit, of which there are `max_connections`, and with it the right to
/// an idle connection or to open one; so the database is never spoken to under the mutex.
class PooledConnection::Core {
public:
    Core(std::shared_ptr<Database> database, PoolOptions options)
        : database_(std::move(database)), options_(std::move(options)) {
        if (!options_.now) {
            options_.now = [] { return std::chrono::steady_clock::now(); };
        }
    }

    Result<std::unique_ptr<Connection>> Acquire(std::chrono::milliseconds max_wait) {
        if (auto status = AcquirePermit(max_wait); !status.ok()) {
            return status;
        }
        while (auto idle = TakeIdle()) {
            if (IsHealthy(*idle)) {
                return std::move(idle->connection);
            }
            idle.reset();  // Closes, outside the mutex.
            CountDiscarded();
        }
        return Open();
    }

    void GiveBack(std::unique_ptr<Connection> connection) {
        const bool usable = !connection->IsBroken() && !connection->InTransaction();
        {
            const std::lock_guard lock(mutex_);
            if (usable && !closed_) {
                idle_.push_back({std::move(connection), options_.now()});
            }
            discarded_ += usable ? 0 : 1;
        }
        connection.reset();  // Before the permit goes: never more connections than permits.
        ReleasePermit();
    }

    void Close() {
        std::deque<Idle> idle;
        const std::lock_guard lock(mutex_);
        closed_ = true;
        idle.swap(idle_);
        for (auto* waiter : waiters_) {
            waiter->wake.notify_one();
        }
    }

    PoolStats stats() const {
        const std::lock_guard lock(mutex_);
        return {.lent = lent_,
                .idle = idle_.size(),
                .waiting = waiters_.size(),
                .opened = opened_,
                .discarded = discarded_};
    }

private:
    struct Idle {
        std::unique_ptr<Connection> connection;
        SteadyTime since;
    };
    struct Waiter {
        std::condition_variable wake;
        bool granted = false;
    };

    Status ClosedStatus() const {
        return Status::Cancelled("the pool of connections to " + std::string(database_->name()) +
                                 " is closed");
    }

    Status ExhaustedStatus(std::chrono::milliseconds waited) const {
        return Status::ResourceExhausted(
            "no connection to " + std::string(database_->name()) + " became free within " +
            std::to_string(waited.count()) + " ms: all " +
            std::to_string(options_.max_connections) + " are on loan and " +
            std::to_string(waiters_.size()) +
            " others wait; keep transactions shorter or raise max_connections");
    }

    Status AcquirePermit(std::chrono::milliseconds max_wait) {
        std::unique_lock lock(mutex_);
        if (closed_) {
            return ClosedStatus();
        }
        if (lent_ < options_.max_connections) {  // Then nobody waits: a freed permit is handed on.
            ++lent_;
            return {};
        }
        if (max_wait.count() == 0) {
            return ExhaustedStatus(max_wait);
        }
        return WaitForPermit(lock, max_wait);
    }

    Status WaitForPermit(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds max_wait) {
        Waiter waiter;
        const auto place = waiters_.insert(waiters_.end(), &waiter);
        waiter.wake.wait_for(lock, max_wait, [&] { return waiter.granted || closed_; });
        if (waiter.granted) {
            return {};  // Whoever granted it has taken us off the list.
        }
        waiters_.erase(place);
        return closed_ ? ClosedStatus() : ExhaustedStatus(max_wait);
    }

    void ReleasePermit() {
        const std::lock_guard lock(mutex_);
        if (waiters_.empty() || closed_) {
            --lent_;
            return;
        }
        auto* next = waiters_.front();
        waiters_.pop_front();
        next->granted = true;
        next->wake.notify_one();  // Under the mutex, since the waiter lives on its thread's stack.
    }

    std::optional<Idle> TakeIdle() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            return std::nullopt;
        }
        Idle idle = std::move(idle_.back());  // The latest: its caches are warm.
        idle_.pop_back();
        return idle;
    }

    bool IsHealthy(const Idle& idle) const {
        return options_.now() - idle.since < options_.check_after_idle ||
               (idle.connection->Ping().ok() && !idle.connection->IsBroken());
    }

    Result<std::unique_ptr<Connection>> Open() {
        auto connection = database_->Connect();
        if (!connection.ok()) {
            ReleasePermit();
            return connection.status();
        }
        const std::lock_guard lock(mutex_);
        ++opened_;
        return connection;
    }

    void CountDiscarded() {
        const std::lock_guard lock(mutex_);
        ++discarded_;
    }

    const std::shared_ptr<Database> database_;
    PoolOptions options_;

    mutable std::mutex mutex_;
    bool closed_ = false;          // guarded by mutex_
    std::size_t lent_ = 0;         // guarded by mutex_; permits given out
    std::deque<Idle> idle_;        // guarded by mutex_
    std::list<Waiter*> waiters_;   // guarded by mutex_; first come, first served
    std::uint64_t opened_ = 0;     // guarded by mutex_
    std::uint64_t discarded_ = 0;  // guarded by mutex_
};

PooledConnection::PooledConnection(std::shared_ptr<Core> core,
                                   std::unique_ptr<Connection> connection)
    : core_(std::move(core)), connection_(std::move(connection)) {}

PooledConnection& PooledConnection::operator=(PooledConnection&& other) noexcept {
    if (this != &other) {
        GiveBack();
        core_ = std::move(other.core_);
        connection_ = std::move(other.connection_);
    }
    return *this;
}

PooledConnection::~PooledConnection() {
    GiveBack();
}

void PooledConnection::GiveBack() {
    if (connection_ != nullptr) {
        core_->GiveBack(std::move(connection_));
    }
}

ConnectionPool::ConnectionPool(std::shared_ptr<Core> core) : core_(std::move(core)) {}

ConnectionPool::~ConnectionPool() {
    Close();
}

Result<std::unique_ptr<ConnectionPool>> ConnectionPool::Create(std::shared_ptr<Database> database,
                                                               PoolOptions options) {
    if (database == nullptr) {
        return Status::InvalidArgument("a pool needs a database; it is null");
    }
    if (auto status = options.Validate(); !status.ok()) {
        return status.WithContext("PoolOptions");
    }
    auto core = std::make_shared<Core>(std::move(database), std::move(options));
    return std::unique_ptr<ConnectionPool>(new ConnectionPool(std::move(core)));
}

Result<PooledConnection> ConnectionPool::Acquire(std::chrono::milliseconds max_wait) {
    if (auto status = CheckRange("max_wait", max_wait); !status.ok()) {
        return status;
    }
    const auto core = core_;  // The pool may be destroyed while we wait.
    auto connection = core->Acquire(max_wait);
    if (!connection.ok()) {
        return connection.status();
    }
    return PooledConnection(core, *std::move(connection));
}

void ConnectionPool::Close() {
    core_->Close();
}

PoolStats ConnectionPool::stats() const {
    return core_->stats();
}

}  // namespace qmq::sql
