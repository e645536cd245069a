#include <sqlite3.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "qmq/sqlite.h"

#include "plugins/sqlite/src/connection.h"
#include "plugins/sqlite/src/error.h"
#include "plugins/sqlite/src/session.h"

namespace qmq::sqlite {

namespace {

constexpr std::string_view kInMemory = ":memory:";
constexpr std::size_t kMaxCacheCount = 10'000;

using Handle = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;

Status CheckCacheCount(std::size_t count) {
    if (count <= kMaxCacheCount) {
        return {};
    }
    return Status::InvalidArgument("statement_cache_count is " + std::to_string(count) +
                                   "; the range is 0 to " + std::to_string(kMaxCacheCount));
}

/// SQLite says only "unable to open"; the system's error says why.
Status OpenStatus(int rc, sqlite3* handle, const std::string& what) {
    const int system_error = handle == nullptr ? 0 : sqlite3_system_errno(handle);
    auto status = ToStatus(rc, handle, what);
    if (status.code() != StatusCode::kUnavailable || system_error == 0) {
        return status;
    }
    std::string message = std::string(status.message()) + ": " + std::strerror(system_error);
    switch (system_error) {
        case ENOENT:
        case ENOTDIR:
            return Status::NotFound(std::move(message));
        case EACCES:
        case EPERM:
        case EROFS:
            return Status::PermissionDenied(std::move(message));
        case EISDIR:
            return Status::InvalidArgument(std::move(message));
        default:
            return Status::Unavailable(std::move(message));
    }
}

int OpenFlags(const Options& options) {
    // NOMUTEX: a connection is used by one thread at a time, so SQLite need not lock for us.
    const int access = options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    const int create = options.create && !options.read_only ? SQLITE_OPEN_CREATE : 0;
    return access | create | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
}

/// Where SQLite was built to read URIs in all names, "file:" at the front would make one.
std::string FileName(const std::string& path) {
    return path.starts_with("file:") ? "./" + path : path;
}

Result<Handle> OpenHandle(const Options& options) {
    sqlite3* raw = nullptr;
    const auto name = FileName(options.path);
    const int rc = sqlite3_open_v2(name.c_str(), &raw, OpenFlags(options), nullptr);
    Handle handle(raw, sqlite3_close);
    if (rc != SQLITE_OK) {
        return OpenStatus(rc, raw, "open " + options.path);
    }
    return handle;
}

/// Misspelt columns in double quotes are errors, not text; no statement can write to the schema or
/// to SQLite's own tables; functions with side effects cannot hide in a schema.
void Harden(sqlite3* handle) {
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
}

Status RunPragma(sqlite3* handle, const std::string& path, const char* pragma) {
    const int rc = sqlite3_exec(handle, pragma, nullptr, nullptr, nullptr);
    return rc == SQLITE_OK ? Status() : OpenStatus(rc, handle, "open " + path + ": " + pragma);
}

int KeepText(void* text, int columns, char** values, char** /*names*/) {
    if (columns > 0 && values[0] != nullptr) {
        *static_cast<std::string*>(text) = values[0];
    }
    return 0;
}

/// Asks for WAL and says in `mode` what it is now. A file changes its mode when nobody else reads
/// it, and SQLite does not wait for that, so several programs that start at once need a few tries.
int AskForWal(sqlite3* handle, std::chrono::milliseconds patience, std::string& mode) {
    constexpr std::chrono::milliseconds kPause{2};
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const int rc = sqlite3_exec(handle, "PRAGMA journal_mode = WAL", KeepText, &mode, nullptr);
        const bool busy = (rc & 0xff) == SQLITE_BUSY;
        if (!busy || std::chrono::steady_clock::now() >= deadline) {
            return rc;
        }
        std::this_thread::sleep_for(kPause);
    }
}

Status EnterWal(sqlite3* handle, const Options& options) {
    std::string mode;
    const int rc = AskForWal(handle, options.busy_timeout, mode);
    if (rc != SQLITE_OK) {
        return OpenStatus(rc, handle, "open " + options.path + ": journal_mode = WAL");
    }
    if (mode != "wal" && options.path != kInMemory) {
        return Status::Unimplemented("open " + options.path + ": the journal mode stays '" + mode +
                                     "'; put the file on a local file system, which can do WAL");
    }
    return {};
}

const char* SynchronousPragma(Synchronous synchronous) {
    switch (synchronous) {
        case Synchronous::kFull:
            return "PRAGMA synchronous = FULL";
        case Synchronous::kNormal:
            return "PRAGMA synchronous = NORMAL";
        case Synchronous::kOff:
            return "PRAGMA synchronous = OFF";
    }
    return "PRAGMA synchronous = FULL";
}

Status SetUp(sqlite3* handle, const Options& options) {
    Harden(handle);
    sqlite3_busy_timeout(handle, static_cast<int>(options.busy_timeout.count()));
    auto status = options.read_only ? RunPragma(handle, options.path, "PRAGMA schema_version")
                                    : EnterWal(handle, options);
    if (status.ok()) {
        status = RunPragma(handle, options.path, SynchronousPragma(options.synchronous));
    }
    if (status.ok()) {
        status = RunPragma(
            handle,
            options.path,
            options.foreign_keys ? "PRAGMA foreign_keys = ON" : "PRAGMA foreign_keys = OFF");
    }
    return status;
}

class SqliteDatabase final : public sql::Database {
public:
    explicit SqliteDatabase(Options options) : options_(std::move(options)) {}

    Result<std::unique_ptr<sql::Connection>> Connect() override { return Open(options_); }
    const sql::Dialect& dialect() const override { return GetDialect(); }
    std::string_view name() const override { return options_.path; }

private:
    const Options options_;
};

std::unique_ptr<sql::Connection> MakeConnection(sqlite3* handle,
                                                Session::Ownership ownership,
                                                const std::string& name,
                                                std::size_t cache_count) {
    return std::make_unique<SqliteConnection>(
        std::make_shared<Session>(handle, ownership, name, cache_count));
}

}  // namespace

Status Options::Validate() const {
    if (path.empty() || path.find('\0') != std::string::npos) {
        return Status::InvalidArgument(
            "path must be the name of a file; it is empty or holds a NUL");
    }
    constexpr std::chrono::milliseconds kMaxTimeout = std::chrono::minutes(10);
    if (busy_timeout.count() < 0 || busy_timeout > kMaxTimeout) {
        return Status::InvalidArgument("busy_timeout is " + std::to_string(busy_timeout.count()) +
                                       " ms; the range is 0 to " +
                                       std::to_string(kMaxTimeout.count()));
    }
    return CheckCacheCount(statement_cache_count);
}

Result<std::unique_ptr<sql::Connection>> Open(const Options& options) {
    if (auto status = options.Validate(); !status.ok()) {
        return status.WithContext("sqlite::Options");
    }
    auto handle = OpenHandle(options);
    if (!handle.ok()) {
        return handle.status();
    }
    if (auto status = SetUp(handle->get(), options); !status.ok()) {
        return status;
    }
    return MakeConnection(
        handle->release(), Session::Ownership::kOwned, options.path, options.statement_cache_count);
}

Result<std::unique_ptr<sql::Connection>> Borrow(sqlite3* handle,
                                                std::size_t statement_cache_count) {
    if (handle == nullptr) {
        return Status::InvalidArgument("borrow: the handle is null");
    }
    if (auto status = CheckCacheCount(statement_cache_count); !status.ok()) {
        return status.WithContext("borrow");
    }
    const char* file = sqlite3_db_filename(handle, "main");
    const std::string name = file == nullptr || *file == '\0' ? std::string(kInMemory) : file;
    return MakeConnection(handle, Session::Ownership::kBorrowed, name, statement_cache_count);
}

Result<std::shared_ptr<sql::Database>> MakeDatabase(const Options& options) {
    if (auto status = options.Validate(); !status.ok()) {
        return status.WithContext("sqlite::Options");
    }
    if (options.path == kInMemory) {
        return Status::InvalidArgument(
            "a pool on ':memory:' would give each connection a database of its own; use a file");
    }
    return std::shared_ptr<sql::Database>(std::make_shared<SqliteDatabase>(options));
}

}  // namespace qmq::sqlite
