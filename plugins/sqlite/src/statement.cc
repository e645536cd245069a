#include "plugins/sqlite/src/statement.h"

#include <utility>

#include "qmq/sql/driver.h"

#include "plugins/sqlite/src/error.h"

namespace qmq::sqlite {

namespace {

/// Binds one value at `index`, counted from 1.
class Binder {
public:
    Binder(sqlite3_stmt* statement, int index, sqlite3_destructor_type lifetime)
        : statement_(statement), index_(index), lifetime_(lifetime) {}

    int operator()(sql::Null) const { return sqlite3_bind_null(statement_, index_); }
    int operator()(std::int64_t value) const {
        return sqlite3_bind_int64(statement_, index_, value);
    }
    int operator()(double value) const { return sqlite3_bind_double(statement_, index_, value); }
    // A null pointer would bind NULL, and an empty view may have one.
    int operator()(std::string_view text) const {
        return sqlite3_bind_text64(statement_,
                                   index_,
                                   text.empty() ? "" : text.data(),
                                   text.size(),
                                   lifetime_,
                                   SQLITE_UTF8);
    }
    int operator()(sql::Blob blob) const {
        return blob.empty()
                   ? sqlite3_bind_zeroblob(statement_, index_, 0)
                   : sqlite3_bind_blob64(statement_, index_, blob.data(), blob.size(), lifetime_);
    }

private:
    sqlite3_stmt* statement_;
    int index_;
    sqlite3_destructor_type lifetime_;
};

class SqliteCursor final : public sql::Cursor {
public:
    SqliteCursor(std::shared_ptr<Session> session, Lease lease)
        : session_(std::move(session)), lease_(std::move(lease)) {
        CountColumns();
    }

    Result<bool> Next() override {
        if (session_->closed()) {
            return session_->CheckUsable();
        }
        if (!lease_.has_value()) {
            return false;
        }
        const int rc = sqlite3_step(lease_->get());
        CountColumns();  // The first step compiles anew when the tables have changed.
        if (rc == SQLITE_ROW) {
            return true;
        }
        auto status = rc == SQLITE_DONE
                          ? Status()
                          : session_->Fail(sqlite3_extended_errcode(session_->handle()),
                                           sql::driver::Excerpt(lease_->sql()));
        KeepNames();
        lease_.reset();  // Lets the read lock go now, not when the rows are destroyed.
        if (!status.ok()) {
            return status;
        }
        return false;
    }

    std::size_t column_count() const override { return column_count_; }

    std::string column_name(std::size_t column) const override {
        return Readable() ? NameOf(column) : column < names_.size() ? names_[column] : "";
    }

    Result<sql::ValueView> Value(std::size_t column) override {
        if (!Readable()) {
            return session_->closed() ? session_->CheckUsable()
                                      : Status::InvalidArgument("there is no current row");
        }
        return Read(static_cast<int>(column));
    }

private:
    bool Readable() const { return lease_.has_value() && !session_->closed(); }

    void CountColumns() {
        column_count_ = static_cast<std::size_t>(sqlite3_column_count(lease_->get()));
    }

    std::string NameOf(std::size_t column) const {
        const char* name = sqlite3_column_name(lease_->get(), static_cast<int>(column));
        return name == nullptr ? "" : name;
    }

    void KeepNames() {
        for (std::size_t i = 0; i < column_count_; ++i) {
            names_.push_back(NameOf(i));
        }
    }

    Result<sql::ValueView> Read(int column) {
        auto* statement = lease_->get();
        switch (sqlite3_column_type(statement, column)) {
            case SQLITE_INTEGER:
                return sql::ValueView(std::int64_t{sqlite3_column_int64(statement, column)});
            case SQLITE_FLOAT:
                return sql::ValueView(sqlite3_column_double(statement, column));
            case SQLITE_TEXT:
                return Bytes(column,
                             reinterpret_cast<const char*>(sqlite3_column_text(statement, column)),
                             true);
            case SQLITE_BLOB:
                return Bytes(column,
                             static_cast<const char*>(sqlite3_column_blob(statement, column)),
                             false);
            default:
                return sql::ValueView(sql::Null());
        }
    }

    // The pointer first, then the size: the other order may count another encoding's bytes.
    Result<sql::ValueView> Bytes(int column, const char* data, bool is_text) {
        const auto size = static_cast<std::size_t>(sqlite3_column_bytes(lease_->get(), column));
        if (data == nullptr && sqlite3_errcode(session_->handle()) == SQLITE_NOMEM) {
            return session_->Fail(SQLITE_NOMEM, sql::driver::Excerpt(lease_->sql()));
        }
        const std::string_view view =
            data == nullptr ? std::string_view() : std::string_view(data, size);
        return is_text ? sql::ValueView(view) : sql::ValueView(sql::BlobOf(view));
    }

    std::shared_ptr<Session> session_;
    std::optional<Lease> lease_;
    std::size_t column_count_ = 0;
    std::vector<std::string> names_;  // Once the statement has been given back.
};

}  // namespace

SqliteStatement::SqliteStatement(std::shared_ptr<Session> session, Lease lease)
    : session_(std::move(session)),
      lease_(std::move(lease)),
      sql_(lease_->sql()),
      parameter_count_(static_cast<std::size_t>(sqlite3_bind_parameter_count(lease_->get()))) {}

Result<sql::ExecuteResult> SqliteStatement::Execute(std::span<const sql::Param> params) {
    auto status = Ready(params);
    status = status.ok() ? CheckWrites() : status;
    if (status.ok() && !session_->InTransaction()) {
        status = session_->CheckFile();  // As a begin does; the cost is one stat beside a sync.
    }
    status = status.ok() ? Bind(params, Lifetime::kThisCall) : status;
    if (!status.ok()) {
        return status;
    }
    auto result = Step();
    sqlite3_reset(lease_->get());
    sqlite3_clear_bindings(lease_->get());
    return result;
}

Result<sql::Rows> SqliteStatement::Query(std::span<const sql::Param> params) {
    auto status = Ready(params);
    status = status.ok() ? CheckReads() : status;
    status = status.ok() ? Bind(params, Lifetime::kLonger) : status;
    if (!status.ok()) {
        return status;
    }
    auto cursor = std::make_unique<SqliteCursor>(session_, *std::move(lease_));
    lease_.reset();
    return sql::Rows(std::move(cursor));
}

Status SqliteStatement::Ready(std::span<const sql::Param> params) {
    if (auto status = session_->CheckUsable(); !status.ok()) {
        return status;
    }
    if (auto status = sql::driver::CheckParams(params, parameter_count_); !status.ok()) {
        return status.WithContext(sql::driver::Excerpt(sql_));
    }
    if (!lease_.has_value()) {
        auto lease = session_->Acquire(sql_);
        if (!lease.ok()) {
            return lease.status();
        }
        lease_.emplace(*std::move(lease));
    }
    return {};
}

Status SqliteStatement::CheckWrites() const {
    auto* statement = lease_->get();
    if (sqlite3_column_count(statement) > 0) {
        return Status::InvalidArgument(sql::driver::Excerpt(sql_) +
                                       ": returns rows; use Query (RETURNING is left out)");
    }
    if (session_->access() == sql::Access::kRead && sqlite3_stmt_readonly(statement) == 0) {
        return Status::InvalidArgument(sql::driver::Excerpt(sql_) +
                                       ": writes in a transaction begun with Access::kRead");
    }
    return {};
}

Status SqliteStatement::CheckReads() const {
    auto* statement = lease_->get();
    if (sqlite3_column_count(statement) == 0) {
        return Status::InvalidArgument(sql::driver::Excerpt(sql_) +
                                       ": returns no rows; use Execute");
    }
    if (sqlite3_stmt_readonly(statement) == 0) {
        // Its writes would be committed, and could fail, only when its rows are let go.
        return Status::InvalidArgument(sql::driver::Excerpt(sql_) +
                                       ": writes and returns rows; use Execute and then a query");
    }
    return {};
}

Status SqliteStatement::Bind(std::span<const sql::Param> params, Lifetime lifetime) {
    const auto destructor = lifetime == Lifetime::kThisCall ? SQLITE_STATIC : SQLITE_TRANSIENT;
    for (std::size_t i = 0; i < params.size(); ++i) {
        const Binder binder(lease_->get(), static_cast<int>(i) + 1, destructor);
        const int rc = std::visit(binder, params[i].value());
        if (rc != SQLITE_OK) {
            sqlite3_clear_bindings(lease_->get());
            return session_->Fail(rc, sql::driver::Excerpt(sql_))
                .WithContext("parameter " + std::to_string(i) + " (counted from 0)");
        }
    }
    return {};
}

Result<sql::ExecuteResult> SqliteStatement::Step() {
    auto* handle = session_->handle();
    const bool alone = !session_->InTransaction();
    const auto total_before = sqlite3_total_changes64(handle);
    const auto rowid_before = sqlite3_last_insert_rowid(handle);
    sqlite3_set_last_insert_rowid(handle, 0);  // Or an UPDATE would answer with an older INSERT's.
    const int rc = sqlite3_step(lease_->get());
    sql::ExecuteResult result;
    result.last_insert_id = sqlite3_last_insert_rowid(handle);
    if (session_->borrowed()) {  // Its owner may still ask for the key of its own last INSERT.
        sqlite3_set_last_insert_rowid(handle, rowid_before);
    }
    if (rc == SQLITE_DONE) {
        // sqlite3_changes keeps the number of an older statement when this one changes no table.
        const bool changed = sqlite3_total_changes64(handle) != total_before;
        result.changes = changed ? sqlite3_changes64(handle) : 0;
        return result;
    }
    auto status = session_->Fail(sqlite3_extended_errcode(handle), sql::driver::Excerpt(sql_));
    if (alone && status.code() == StatusCode::kUnavailable) {
        return Status::DeadlineExceeded(std::string(status.message()) +
                                        "; whether it was stored is unknown");
    }
    return status;
}

}  // namespace qmq::sqlite
