#include "plugins/sqlite/src/session.h"

#include <limits>
#include <utility>

#include "qmq/sql/driver.h"

#include "plugins/sqlite/src/error.h"

namespace qmq::sqlite {

Lease::Lease(std::shared_ptr<Session> session, sqlite3_stmt* statement, std::string_view sql)
    : session_(std::move(session)), statement_(statement), sql_(sql) {}

Lease::Lease(Lease&& other) noexcept
    : session_(std::move(other.session_)),
      statement_(std::exchange(other.statement_, nullptr)),
      sql_(std::move(other.sql_)) {}

Lease& Lease::operator=(Lease&& other) noexcept {
    if (this != &other) {
        GiveBack();
        session_ = std::move(other.session_);
        statement_ = std::exchange(other.statement_, nullptr);
        sql_ = std::move(other.sql_);
    }
    return *this;
}

Lease::~Lease() {
    GiveBack();
}

void Lease::GiveBack() {
    if (statement_ != nullptr) {
        session_->GiveBack(std::exchange(statement_, nullptr), std::move(sql_));
    }
}

Session::Session(sqlite3* handle, Ownership ownership, std::string name, std::size_t cache_count)
    : handle_(handle), ownership_(ownership), name_(std::move(name)), cache_count_(cache_count) {}

Session::~Session() {
    Close();
}

void Session::Close() {
    if (closed()) {
        return;
    }
    idle_by_sql_.clear();
    idle_.clear();
    for (auto* statement : ours_) {
        sqlite3_finalize(statement);
    }
    ours_.clear();
    expected_ = false;
    if (!borrowed()) {
        sqlite3_close(handle_);  // Rolls back. Cannot be busy: no statement is left.
    }
    handle_ = nullptr;
}

Status Session::CheckUsable() const {
    if (closed()) {
        return Status::Cancelled("the connection to " + name_ + " is closed");
    }
    if (!broken_.ok()) {
        return broken_.WithContext("use a new connection, this one has failed before");
    }
    if (!expected_ || InTransaction()) {
        return {};
    }
    if (!doom_.ok()) {
        return doom_.WithContext("the database has rolled this transaction back, after");
    }
    return Status::InvalidArgument(
        "the owner of the connection to " + name_ +
        " has ended the transaction; this would be stored outside of it");
}

Status Session::CheckOutcome() const {
    if (!expected_ || closed() || InTransaction() || !doom_.ok()) {
        return {};
    }
    return Status::DeadlineExceeded("the owner of the connection to " + name_ +
                                    " has ended the transaction, how is unknown here; after a "
                                    "joined one call Ended() instead");
}

Status Session::CheckFile() {
    int moved = 0;
    const int rc = sqlite3_file_control(handle_, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (rc != SQLITE_OK || moved == 0) {
        return {};  // A file system that cannot tell is no reason to refuse work.
    }
    broken_ =
        Status::Unavailable("the file " + name_ +
                            " was moved or deleted since it was opened: what is written now would "
                            "be lost; open it again");
    return broken_;
}

Status Session::Fail(int rc, std::string_view what) {
    auto status = ToStatus(rc, handle_, what);
    if (Breaks(rc) && broken_.ok()) {
        broken_ = status;
    }
    if (expected_ && !InTransaction() && doom_.ok()) {
        doom_ = status;
    }
    return status;
}

Result<Lease> Session::Acquire(std::string_view sql) {
    if (auto status = CheckUsable(); !status.ok()) {
        return status;
    }
    if (auto* statement = TakeIdle(sql)) {
        return Lease(shared_from_this(), statement, sql);
    }
    auto statement = Compile(sql);
    if (!statement.ok()) {
        return statement.status();
    }
    return Lease(shared_from_this(), *statement, sql);
}

sqlite3_stmt* Session::TakeIdle(std::string_view sql) {
    const auto found = idle_by_sql_.find(sql);
    if (found == idle_by_sql_.end()) {
        return nullptr;
    }
    const auto idle = found->second;
    auto* statement = idle->statement;
    idle_by_sql_.erase(found);
    idle_.erase(idle);
    return statement;
}

void Session::GiveBack(sqlite3_stmt* statement, std::string sql) {
    if (!ours_.contains(statement)) {
        return;  // Closed meanwhile.
    }
    sqlite3_reset(statement);  // Repeats the error of the last step, which was reported.
    sqlite3_clear_bindings(statement);
    if (cache_count_ == 0 || idle_by_sql_.contains(sql)) {
        Finalize(statement);  // Two were in use at once; one is enough to keep.
        return;
    }
    idle_.push_front({std::move(sql), statement});
    idle_by_sql_.emplace(idle_.front().sql, idle_.begin());
    if (idle_.size() > cache_count_) {
        auto* oldest = idle_.back().statement;
        idle_by_sql_.erase(idle_.back().sql);
        idle_.pop_back();
        Finalize(oldest);
    }
}

void Session::Finalize(sqlite3_stmt* statement) {
    ours_.erase(statement);
    sqlite3_finalize(statement);
}

Result<sqlite3_stmt*> Session::Compile(std::string_view sql) {
    const auto excerpt = sql::driver::Excerpt(sql);
    if (auto status = sql::driver::RefuseTransactionControl(sql); !status.ok()) {
        return status;
    }
    if (sql.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
        return Status::InvalidArgument("a statement of " + std::to_string(sql.size()) + " bytes");
    }
    if (sql.find('\0') != std::string_view::npos) {
        // SQLite would take what is before it for the whole.
        return Status::InvalidArgument("a NUL in '" + std::string(excerpt) + "'");
    }
    sqlite3_stmt* statement = nullptr;
    const char* rest = nullptr;
    const int rc = sqlite3_prepare_v3(handle_,
                                      sql.data(),
                                      static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT,
                                      &statement,
                                      &rest);
    if (rc != SQLITE_OK) {
        return Fail(rc, excerpt);
    }
    const auto used = static_cast<std::size_t>(rest == nullptr ? 0 : rest - sql.data());
    if (auto status = CheckCompiled(excerpt, statement, sql.substr(used)); !status.ok()) {
        sqlite3_finalize(statement);
        return status;
    }
    ours_.insert(statement);
    return statement;
}

Status Session::CheckCompiled(std::string_view excerpt,
                              sqlite3_stmt* statement,
                              std::string_view rest) {
    if (statement == nullptr) {
        return Status::InvalidArgument("no statement in '" + std::string(excerpt) + "'");
    }
    sqlite3_stmt* second = nullptr;  // Only SQLite can tell a comment from a statement.
    const int rc = sqlite3_prepare_v3(
        handle_, rest.data(), static_cast<int>(rest.size()), 0, &second, nullptr);
    const bool more = rc != SQLITE_OK || second != nullptr;
    sqlite3_finalize(second);
    if (more) {
        return Status::InvalidArgument("more than one statement in '" + std::string(excerpt) +
                                       "': prepare them one by one");
    }
    for (int i = 1; i <= sqlite3_bind_parameter_count(statement); ++i) {
        if (const char* name = sqlite3_bind_parameter_name(statement, i)) {
            return Status::InvalidArgument("the placeholder " + std::string(name) + " in '" +
                                           std::string(excerpt) + "': only ? is portable");
        }
    }
    return {};
}

Status Session::Run(const char* sql) {
    if (closed()) {
        return Status::Cancelled("the connection to " + name_ + " is closed");
    }
    const int rc = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
    return rc == SQLITE_OK ? Status() : Fail(sqlite3_extended_errcode(handle_), sql);
}

Status Session::Begin(sql::Access access) {
    if (auto status = CheckUsable(); !status.ok()) {
        return status;
    }
    if (auto status = CheckFile(); !status.ok()) {
        return status;
    }
    // IMMEDIATE takes the write lock now, where waiting helps: a reader that wants to become a
    // writer after another one has written fails at once, however long the busy timeout.
    auto status = Run(access == sql::Access::kWrite ? "BEGIN IMMEDIATE" : "BEGIN DEFERRED");
    if (status.ok()) {
        expected_ = true;
        doom_ = {};
        access_ = access;
    }
    return status;
}

Status Session::Join() {
    if (auto status = CheckUsable(); !status.ok()) {
        return status;
    }
    if (expected_) {
        return Status::InvalidArgument("the open transaction is a qmq::sql::Transaction: use that");
    }
    if (!InTransaction()) {
        return Status::InvalidArgument("no transaction is open on the connection to " + name_ +
                                       ": begin it first, or use Begin()");
    }
    expected_ = true;
    doom_ = {};
    access_ = sql::Access::kWrite;
    return {};
}

void Session::Leave() {
    expected_ = false;
    access_ = sql::Access::kWrite;
}

Status Session::Commit() {
    if (auto status = CheckOutcome(); !status.ok()) {
        Leave();
        return status;
    }
    if (auto status = CheckUsable(); !status.ok()) {
        expected_ = InTransaction();
        return status;
    }
    const int rc = sqlite3_exec(handle_, "COMMIT", nullptr, nullptr, nullptr);
    if (rc == SQLITE_OK) {
        Leave();
        return {};
    }
    auto status = Fail(sqlite3_extended_errcode(handle_), "COMMIT");
    if (InTransaction()) {
        return status;  // Busy, or a deferred constraint: may be tried again.
    }
    Leave();
    if (status.code() == StatusCode::kUnavailable) {
        // The record may have reached the disk before the sync failed, and be found after a crash.
        return Status::DeadlineExceeded(std::string(status.message()) +
                                        "; whether it was stored is unknown");
    }
    return status;
}

Status Session::Rollback() {
    auto status = CheckOutcome();
    if (!status.ok()) {
        Leave();
        return status;
    }
    if (InTransaction()) {
        status = Run("ROLLBACK");
    }
    if (!status.ok() && broken_.ok()) {
        broken_ = status;
    }
    Leave();
    return status;
}

Status Session::AtSavepoint(std::string_view verb, int depth) {
    if (auto status = CheckUsable(); !status.ok()) {
        return status;
    }
    const std::string sql = std::string(verb) + " qmq_savepoint_" + std::to_string(depth);
    return Run(sql.c_str());
}

}  // namespace qmq::sqlite
