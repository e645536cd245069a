#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "qmq/sql/dialect.h"
#include "qmq/sql/error.h"
#include "qmq/sql/rows.h"
#include "qmq/sql/value.h"
#include "qmq/status.h"

namespace qmq::sql {

class Transaction;

struct ExecuteResult {
    /// Rows inserted, deleted, or matched by an UPDATE (even when it changed nothing in them), not
    /// counting those of triggers. An upsert counts at least 1. Zero for CREATE TABLE and the like.
    std::int64_t changes = 0;
    /// The key that the database counted up for the last row inserted by this statement, or 0.
    std::int64_t last_insert_id = 0;
};

enum class Access : std::uint8_t {
    kWrite,  ///< May write. Where a database has one write lock it is taken at the begin, so that
             ///< kBusy comes then and not in the middle of the work.
    kRead,   ///< Reads one unchanging state, beside writers; writing is refused.
};

struct TransactionOptions {
    Access access = Access::kWrite;
};

/// A statement, prepared once to be run many times with other values.
///
/// May outlive its connection, and then says kCancelled. Used by one thread at a time, the one that
/// uses its connection.
class Statement {
public:
    virtual ~Statement() = default;

    /// Runs a statement that returns no rows, to its end. Outside a transaction it is one of its
    /// own, durable when this returns. A failed statement changed nothing.
    ///
    /// Errors, see `ErrorClass`: kConstraint; kBusy; kGone (kDeadlineExceeded: outside a
    /// transaction the statement may have taken effect); kOther, among them kInvalidArgument (wrong
    /// number of parameters, a double that is not finite, a value too large, a statement that
    /// returns rows or writes in a read transaction), kPermissionDenied, kDataLoss. After an error
    /// that made the database roll the whole transaction back, every later statement of it fails
    /// with that error.
    virtual Result<ExecuteResult> Execute(std::span<const Param> params) = 0;
    Result<ExecuteResult> Execute(std::initializer_list<Param> params = {}) {
        return Execute(std::span(params.begin(), params.size()));
    }

    /// Begins to read the rows of a statement that only reads. `params` are copied where needed:
    /// they need not outlive the call. Errors as `Execute`, without kConstraint; kInvalidArgument
    /// for a statement that writes (RETURNING is left out: not every database has it).
    virtual Result<Rows> Query(std::span<const Param> params) = 0;
    Result<Rows> Query(std::initializer_list<Param> params = {}) {
        return Query(std::span(params.begin(), params.size()));
    }

    virtual std::size_t parameter_count() const = 0;
};

/// A connection to a relational database, through which all data goes as parameters of prepared
/// statements with `?` as the placeholder: no text with values in it is ever built.
///
/// *Threads:* used by one thread at a time, with everything made from it (statements, rows,
/// transactions); different connections are independent. `ConnectionPool` shares them out.
///
/// *Transactions* are `Transaction` objects. BEGIN, COMMIT, ROLLBACK, SAVEPOINT and the like as
/// statements are refused, since hooks and nesting would miss them. CREATE TABLE and the like
/// commit in some databases: run them outside a transaction.
///
/// *Exceptions* of a driver's library end in the driver: all failures are a `Status`.
class Connection {
public:
    Connection() = default;
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    /// Closes.
    virtual ~Connection() = default;

    /// Compiles exactly one statement. Cheap for a text used before on this connection: drivers
    /// keep a bounded cache.
    ///
    /// Errors: kInvalidArgument (syntax, unknown table, no or several statements, placeholders
    /// other than `?`, transaction control), kBusy, kGone.
    virtual Result<std::unique_ptr<Statement>> Prepare(std::string_view sql) = 0;

    /// `Prepare`, then `Statement::Execute`; errors of both.
    Result<ExecuteResult> Execute(std::string_view sql, std::span<const Param> params);
    Result<ExecuteResult> Execute(std::string_view sql, std::initializer_list<Param> params = {}) {
        return Execute(sql, std::span(params.begin(), params.size()));
    }

    /// `Prepare`, then `Statement::Query`; errors of both.
    Result<Rows> Query(std::string_view sql, std::span<const Param> params);
    Result<Rows> Query(std::string_view sql, std::initializer_list<Param> params = {}) {
        return Query(sql, std::span(params.begin(), params.size()));
    }

    /// The only row of a query, or nothing when there is none. kInvalidArgument when there are
    /// several (say LIMIT 1 if the first will do), else errors as `Query` and `Rows::As`.
    template <typename... Ts>
    Result<std::optional<std::tuple<Ts...>>> QueryOne(std::string_view sql,
                                                      std::initializer_list<Param> params = {});

    /// Whether a transaction is open, of whoever shares this connection. False once it is gone.
    virtual bool InTransaction() const = 0;

    /// Whether the connection is lost or closed: it never works again; open another one.
    virtual bool IsBroken() const = 0;

    /// Asks the database whether it is still there. Blocks like a small query.
    virtual Status Ping() = 0;

    /// Rolls back what is open, lets all statements and rows go, and closes. Idempotent. A borrowed
    /// connection is only let go: its owner's transaction stays as it is.
    virtual void Close() = 0;

    virtual const Dialect& dialect() const = 0;

protected:
    friend class Transaction;

    // For drivers: what `Transaction` is made of. It keeps the order, so that a driver is never
    // asked to begin twice, and savepoints (`depth` from 1) are nested. While a transaction is open
    // a driver refuses statements if the database has ended it by itself: they would otherwise run,
    // and be durable, each on its own.

    virtual Status BeginTransaction(const TransactionOptions& options) = 0;
    /// Takes part in the transaction that the owner of a borrowed connection has begun.
    virtual Status JoinTransaction() = 0;
    /// The end of `JoinTransaction`, whatever became of the transaction.
    virtual void LeaveTransaction() = 0;
    /// On an error `InTransaction` says whether the transaction is still open. If it is not, it was
    /// rolled back, unless the code is kDeadlineExceeded: then it may have been committed.
    virtual Status CommitTransaction() = 0;
    /// Success when the database had already rolled back by itself. kDeadlineExceeded when the
    /// owner of a borrowed connection has ended the transaction, so that nobody here knows how.
    virtual Status RollbackTransaction() = 0;
    virtual Status SetSavepoint(int depth) = 0;
    virtual Status ReleaseSavepoint(int depth) = 0;
    /// Undoes what was done since, and forgets the savepoint.
    virtual Status RollbackToSavepoint(int depth) = 0;
};

/// A database that connections can be opened to: what a pool is made from. Thread-safe.
class Database {
public:
    virtual ~Database() = default;

    /// Opens a connection. Blocks as long as the driver's options allow.
    virtual Result<std::unique_ptr<Connection>> Connect() = 0;
    virtual const Dialect& dialect() const = 0;
    /// For messages: never with a password.
    virtual std::string_view name() const = 0;
};

template <typename... Ts>
Result<std::optional<std::tuple<Ts...>>> Connection::QueryOne(std::string_view sql,
                                                              std::initializer_list<Param> params) {
    static_assert((!internal::kIsView<Ts> && ...),
                  "the row is gone when this returns: take a copy");
    using Row = std::tuple<Ts...>;
    auto rows = Query(sql, params);
    if (!rows.ok()) {
        return rows.status();
    }
    auto more = rows->Next();
    if (!more.ok()) {
        return more.status();
    }
    if (!*more) {
        return std::optional<Row>();
    }
    auto row = rows->template As<Ts...>();
    if (!row.ok()) {
        return row.status();
    }
    more = rows->Next();
    if (!more.ok()) {
        return more.status();
    }
    if (*more) {
        return Status::InvalidArgument("the query found more than one row; one was asked for");
    }
    return std::optional<Row>(*std::move(row));
}

}  // namespace qmq::sql
