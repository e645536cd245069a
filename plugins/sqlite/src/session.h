#pragma once

#include <sqlite3.h>

#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "qmq/sql/connection.h"
#include "qmq/status.h"

namespace qmq::sqlite {

class Session;

/// A compiled statement that one user has to itself. Goes back to the session's cache, reset and
/// without values, on destruction.
class Lease {
public:
    Lease(std::shared_ptr<Session> session, sqlite3_stmt* statement, std::string_view sql);
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease();

    /// Valid while the session is open.
    sqlite3_stmt* get() const { return statement_; }
    const std::string& sql() const { return sql_; }

private:
    void GiveBack();

    std::shared_ptr<Session> session_;
    sqlite3_stmt* statement_;
    std::string sql_;
};

/// One SQLite handle and all that must be known about it: shared by a connection, its statements
/// and its rows, so that any of them may go first.
///
/// Invariants:
///   1. Every statement in `idle_` is also in `ours_`; `ours_` are all statements that are ours.
///   2. Closed: `ours_` is empty, and the handle is never touched again.
///   3. After a failure of the file nothing but a rollback runs: a sync that failed once may
///   succeed
///      the next time without having written what it should.
///   4. `expected_` while a `Transaction` counts on a transaction; if SQLite has none any more,
///      `doom_` says why, and nothing runs until the `Transaction` has ended.
///
/// One thread at a time.
class Session : public std::enable_shared_from_this<Session> {
public:
    enum class Ownership { kOwned, kBorrowed };

    Session(sqlite3* handle, Ownership ownership, std::string name, std::size_t cache_count);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    void Close();

    sqlite3* handle() const { return handle_; }
    bool borrowed() const { return ownership_ == Ownership::kBorrowed; }
    bool closed() const { return handle_ == nullptr; }
    bool broken() const { return !broken_.ok() || closed(); }
    bool InTransaction() const { return !closed() && sqlite3_get_autocommit(handle_) == 0; }

    /// Ok while statements may run.
    Status CheckUsable() const;
    /// kDeadlineExceeded when a transaction that is counted on was ended by the owner of the
    /// handle.
    Status CheckOutcome() const;
    /// Ok unless the file was moved or deleted under us.
    Status CheckFile();
    /// Records a failure and makes its status.
    Status Fail(int rc, std::string_view what);

    /// A compiled statement, from the cache if it is there.
    Result<Lease> Acquire(std::string_view sql);
    /// Runs a text of our own that returns no rows.
    Status Run(const char* sql);

    Status Begin(sql::Access access);
    Status Join();
    void Leave();
    Status Commit();
    Status Rollback();
    /// Runs SAVEPOINT and its like with the name that belongs to `depth`.
    Status AtSavepoint(std::string_view verb, int depth);

    sql::Access access() const { return access_; }

private:
    friend class Lease;
    struct Idle {
        std::string sql;
        sqlite3_stmt* statement;
    };

    void GiveBack(sqlite3_stmt* statement, std::string sql);
    void Finalize(sqlite3_stmt* statement);
    sqlite3_stmt* TakeIdle(std::string_view sql);
    Result<sqlite3_stmt*> Compile(std::string_view sql);
    Status CheckCompiled(std::string_view sql, sqlite3_stmt* statement, std::string_view rest);

    sqlite3* handle_;
    const Ownership ownership_;
    const std::string name_;
    const std::size_t cache_count_;

    Status broken_;  // The failure after which nothing runs any more.
    bool expected_ = false;
    Status doom_;
    sql::Access access_ = sql::Access::kWrite;

    std::unordered_set<sqlite3_stmt*> ours_;
    std::list<Idle> idle_;  // The latest used first.
    std::unordered_map<std::string_view, std::list<Idle>::iterator> idle_by_sql_;
};

}  // namespace qmq::sqlite
