#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "qmq/sql/connection.h"
#include "qmq/status.h"

struct sqlite3;

/// SQLite as a database of `qmq::sql`.
///
/// Failures of SQLite become codes so (classes: `qmq::sql::ErrorClass`):
///
/// | SQLite                                    | code                 | class       |
/// |-------------------------------------------|----------------------|-------------|
/// | CONSTRAINT_UNIQUE, _PRIMARYKEY, _ROWID    | kAlreadyExists       | kConstraint |
/// | other CONSTRAINT                          | kFailedPrecondition  | kConstraint |
/// | BUSY, LOCKED, PROTOCOL, FULL, NOMEM,      | kResourceExhausted   | kBusy       |
/// | INTERRUPT                                 |                      |             |
/// | IOERR, CANTOPEN, the file was moved       | kUnavailable         | kGone       |
/// | IOERR during a commit                     | kDeadlineExceeded    | kGone       |
/// | a closed connection                       | kCancelled           | kGone       |
/// | CORRUPT, NOTADB, IOERR_DATA               | kDataLoss            | kOther      |
/// | READONLY, PERM, AUTH                      | kPermissionDenied    | kOther      |
/// | ERROR (syntax, …), TOOBIG, MISMATCH,      | kInvalidArgument     | kOther      |
/// | RANGE, ABORT (rows of a rolled back       |                      |             |
/// | transaction)                              |                      |             |
/// | anything else                             | kInternal            | kOther      |
///
/// Messages carry SQLite's text, the code's name and number, and the beginning of the statement;
/// never a parameter.
namespace qmq::sqlite {

/// When a commit is durable.
enum class Synchronous : std::uint8_t {
    kFull,    ///< Each commit is synced: survives a power cut.
    kNormal,  ///< Survives a killed process; a power cut may take the latest commits back.
    kOff,     ///< Nothing is synced: a power cut may damage the file. For tests.
};

struct Options {
    /// The file, or ":memory:" for one that lives and dies with its connection. No URIs: a name is
    /// a name. Not empty, no NULs.
    std::string path{};
    /// Make the file when it is not there. Its directory must exist.
    bool create = true;
    /// Open for reading only. The file must exist.
    bool read_only = false;
    Synchronous synchronous = Synchronous::kFull;
    /// How long a statement, a begin or the opening waits for a lock of another connection.
    /// Range: [0, 10 minutes].
    std::chrono::milliseconds busy_timeout{5000};
    /// Check foreign keys, which SQLite alone does not.
    bool foreign_keys = true;
    /// Prepared statements kept for later use. Range: [0, 10000].
    std::size_t statement_cache_count = 64;

    Status Validate() const;
};

/// Opens a connection of our own, in WAL mode (except in memory and for reading only, where the
/// file's mode stays). Blocks for at most `busy_timeout` plus the disk.
///
/// Errors: kInvalidArgument (options, a directory), kNotFound (no such file or directory),
/// kPermissionDenied, kDataLoss (not a database), kResourceExhausted (locked by another
/// connection), kUnimplemented (the file system cannot do WAL), kUnavailable (any other trouble
/// with the file).
Result<std::unique_ptr<sql::Connection>> Open(const Options& options);

/// Uses the application's own connection, so that what we store is part of its transactions.
///
/// It stays the application's: never closed, no setting or hook of it changed, not even what
/// `sqlite3_last_insert_rowid` says. Its busy timeout, durability and foreign keys are as the
/// application has set them. `handle` must outlive what is returned (close that first:
/// sqlite3_close refuses while our statements live) and be used by one thread at a time.
///
/// `sql::Transaction::Begin` begins one on it; `sql::Transaction::Join` takes part in one that the
/// application has begun.
///
/// Errors: kInvalidArgument (null, `statement_cache_count` out of range).
Result<std::unique_ptr<sql::Connection>> Borrow(sqlite3* handle,
                                                std::size_t statement_cache_count = 64);

/// A database for `sql::ConnectionPool`: each connection is opened as by `Open`.
/// Errors: kInvalidArgument (options; ":memory:", since each connection would see another
/// database).
Result<std::shared_ptr<sql::Database>> MakeDatabase(const Options& options);

/// The dialect of all connections of this driver.
const sql::Dialect& GetDialect();

}  // namespace qmq::sqlite
