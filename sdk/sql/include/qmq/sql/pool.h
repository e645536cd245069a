#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "qmq/sql/connection.h"
#include "qmq/status.h"

namespace qmq::sql {

struct PoolOptions {
    /// Most connections open at once. Range: [1, 1024].
    std::size_t max_connections = 8;
    /// A connection that lay idle for this long is asked whether it still lives before it is lent;
    /// zero: always. Range: [0, 1 day].
    std::chrono::milliseconds check_after_idle{30'000};
    /// The clock that idle time is measured with; empty: the steady clock. For tests.
    std::function<std::chrono::steady_clock::time_point()> now{};

    Status Validate() const;
};

struct PoolStats {
    std::size_t lent = 0;
    std::size_t idle = 0;
    std::size_t waiting = 0;
    std::uint64_t opened = 0;     ///< Connections opened so far.
    std::uint64_t discarded = 0;  ///< Of those, found broken or given back in mid transaction.
};

/// A connection on loan; the destructor gives it back. What was made from the connection must be
/// gone by then: declare it later. One given back broken, or with a transaction open, is closed
/// (which rolls back) and not lent again. Movable; used by one thread at a time. May outlive its
/// pool.
class PooledConnection {
public:
    PooledConnection(PooledConnection&& other) noexcept = default;
    PooledConnection& operator=(PooledConnection&& other) noexcept;
    ~PooledConnection();

    Connection& operator*() const { return *connection_; }
    Connection* operator->() const { return connection_.get(); }

private:
    friend class ConnectionPool;
    class Core;
    PooledConnection(std::shared_ptr<Core> core, std::unique_ptr<Connection> connection);
    void GiveBack();

    std::shared_ptr<Core> core_;
    std::unique_ptr<Connection> connection_;
};

/// A bounded number of connections to one database, lent to one borrower each. Thread-safe.
///
/// Connections are opened when they are needed and kept. Borrowers are served in the order in which
/// they came.
class ConnectionPool {
public:
    /// Opens nothing yet. Errors: kInvalidArgument (options out of range, no database).
    static Result<std::unique_ptr<ConnectionPool>> Create(std::shared_ptr<Database> database,
                                                          PoolOptions options = {});
    ~ConnectionPool();

    /// Lends a connection that passed its health check. Waits for at most `max_wait` (range [0, 1
    /// day]; zero: not at all) for one to be free; asking an idle one or opening a new one comes on
    /// top, bounded by the driver's options.
    ///
    /// Errors: kResourceExhausted, class kBusy (none became free in time), kCancelled (closed),
    /// kInvalidArgument (`max_wait`), or what `Database::Connect` says.
    Result<PooledConnection> Acquire(std::chrono::milliseconds max_wait);

    /// Lends no more, wakes all who wait with kCancelled, closes what is idle; what is on loan is
    /// closed when it comes back. Idempotent, does not wait for borrowers.
    void Close();

    PoolStats stats() const;

private:
    using Core = PooledConnection::Core;
    explicit ConnectionPool(std::shared_ptr<Core> core);

    std::shared_ptr<Core> core_;
};

}  // namespace qmq::sql
