#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>
#include <string_view>

#include "qmq/sql/connection.h"
#include "qmq/status.h"

namespace qmq::sql {

/// What became of a transaction.
enum class Outcome : std::uint8_t {
    kCommitted,
    kRolledBack,
    kUnknown,  ///< The connection was lost during the commit, or the owner of a borrowed connection
               ///< has ended the transaction and not said how.
};

/// "committed", "rolled back", "unknown".
std::string_view ToString(Outcome outcome);

inline std::ostream& operator<<(std::ostream& out, Outcome outcome) {
    return out << ToString(outcome);
}

/// Work on one connection that is stored as a whole or not at all.
///
///     auto tx = sql::Transaction::Begin(connection);
///     if (!tx.ok()) return tx.status();
///     auto inserted = tx->Execute("INSERT INTO payments (order_id, cents) VALUES (?, ?)", {id,
///     cents}); if (!inserted.ok()) return inserted.status();   // rolls back return tx->Commit();
///
/// Rolls back on destruction unless it was committed. All statements of the connection belong to
/// it meanwhile, whether they go through this object or not. The connection must outlive it.
///
/// *Nested* transactions are savepoints: what they did can be undone alone, and is stored when
/// the outermost one commits. One is open at a time; the outer one cannot commit before it ended.
///
/// *Joined* transactions belong to the application whose connection we borrowed: destruction leaves
/// them as they are.
///
/// *Hooks* run once the outcome is known, on the thread that ends the transaction, before the call
/// that ends it returns, in the order in which they were registered across all nesting levels.
/// Hooks of a nested transaction run when it is rolled back, else with its parent's. When the
/// outermost hooks run the connection is free for another transaction. A hook must not throw; if
/// one does, the others still run, the outcome stands, and `hook_status` tells.
///
/// Movable, and of no use but to be assigned to once moved from. Used by one thread at a time, the
/// one that uses the connection.
class Transaction {
public:
    /// Begins a transaction. Blocks as long as the driver's busy timeout.
    ///
    /// Errors: kBusy (another one holds the write lock), kGone, kInvalidArgument (the connection
    /// is in a transaction: use `Nested` or `Join`).
    static Result<Transaction> Begin(Connection& connection, TransactionOptions options = {});

    /// Takes part in a transaction that the owner of a borrowed connection has begun. The owner may
    /// call `Commit` or `Rollback` here, or end it with its own means and then call `Ended`.
    ///
    /// Errors: kInvalidArgument (no transaction is open, or the open one is a `Transaction`),
    /// kGone.
    static Result<Transaction> Join(Connection& connection);

    Transaction(Transaction&& other) noexcept = default;
    /// Ends this one as the destructor does, then takes `other`.
    Transaction& operator=(Transaction&& other) noexcept;
    ~Transaction();

    /// Begins a transaction inside this one. Errors: kInvalidArgument (this one has ended, or has
    /// an open nested one: nest in that), else as a statement.
    Result<Transaction> Nested();

    /// Makes the work durable, then runs the hooks.
    ///
    /// Errors: kInvalidArgument (ended, or a nested one is open), kConstraint (a deferred one),
    /// kBusy, kGone. `active` says whether it is still open: then `Commit` may be tried again. Else
    /// it was rolled back or, for kDeadlineExceeded alone, may have been stored.
    Status Commit();

    /// Undoes the work, with nested ones, then runs the hooks. Ok when it has ended already. After
    /// an error the transaction has ended too; the database rolls back when the connection goes.
    ///
    /// Errors: kGone (kDeadlineExceeded: the owner of a borrowed connection has ended it before).
    Status Rollback();

    /// Joined transactions only: the owner has ended the transaction by its own means, with this
    /// outcome. To be called before the owner begins another one. Runs the hooks. Errors:
    /// kInvalidArgument (not a joined one, ended, or still open in the database).
    Status Ended(Outcome outcome);

    /// Calls `hook` when all is committed. Hooks keep what they captured until the end.
    /// Errors of the three: kInvalidArgument (the transaction has ended; the hook will not run).
    Status OnCommit(std::function<void()> hook);
    /// Calls `hook` when the work is rolled back, by whomever.
    Status OnRollback(std::function<void()> hook);
    /// Calls `hook` at the end in any case.
    Status OnEnd(std::function<void(Outcome)> hook);

    bool active() const;
    /// Ok, or kInternal with what the first hook that threw said.
    Status hook_status() const;
    Connection& connection() const;

    /// As on the connection; kInvalidArgument once this transaction has ended.
    Result<ExecuteResult> Execute(std::string_view sql, std::initializer_list<Param> params = {});
    Result<Rows> Query(std::string_view sql, std::initializer_list<Param> params = {});

private:
    class State;
    explicit Transaction(std::shared_ptr<State> state);

    std::shared_ptr<State> state_;
};

}  // namespace qmq::sql
