#include "plugins/sqlite/src/connection.h"

#include <utility>

#include "qmq/sqlite.h"

#include "plugins/sqlite/src/statement.h"

namespace qmq::sqlite {

SqliteConnection::SqliteConnection(std::shared_ptr<Session> session)
    : session_(std::move(session)) {}

SqliteConnection::~SqliteConnection() {
    session_->Close();
}

Result<std::unique_ptr<sql::Statement>> SqliteConnection::Prepare(std::string_view sql) {
    auto lease = session_->Acquire(sql);
    if (!lease.ok()) {
        return lease.status();
    }
    return std::unique_ptr<sql::Statement>(
        std::make_unique<SqliteStatement>(session_, *std::move(lease)));
}

Status SqliteConnection::Ping() {
    if (auto status = session_->CheckUsable(); !status.ok()) {
        return status;
    }
    if (auto status = session_->CheckFile(); !status.ok()) {
        return status;
    }
    return session_->Run("PRAGMA schema_version");  // Unlike SELECT 1 it reads the file.
}

const sql::Dialect& SqliteConnection::dialect() const {
    return GetDialect();
}

Status SqliteConnection::BeginTransaction(const sql::TransactionOptions& options) {
    return session_->Begin(options.access);
}

Status SqliteConnection::SetSavepoint(int depth) {
    return session_->AtSavepoint("SAVEPOINT", depth);
}

Status SqliteConnection::ReleaseSavepoint(int depth) {
    return session_->AtSavepoint("RELEASE", depth);
}

Status SqliteConnection::RollbackToSavepoint(int depth) {
    if (!session_->InTransaction()) {
        return {};  // All of it is undone already.
    }
    auto status = session_->AtSavepoint("ROLLBACK TO", depth);
    return status.ok() ? session_->AtSavepoint("RELEASE", depth) : status;
}

}  // namespace qmq::sqlite
