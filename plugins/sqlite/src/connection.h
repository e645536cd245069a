#pragma once

#include <memory>
#include <string_view>

#include "qmq/sql/connection.h"

#include "plugins/sqlite/src/session.h"

namespace qmq::sqlite {

/// What users hold; the work is done by the session.
class SqliteConnection final : public sql::Connection {
public:
    explicit SqliteConnection(std::shared_ptr<Session> session);
    ~SqliteConnection() override;

    Result<std::unique_ptr<sql::Statement>> Prepare(std::string_view sql) override;
    bool InTransaction() const override { return session_->InTransaction(); }
    bool IsBroken() const override { return session_->broken(); }
    Status Ping() override;
    void Close() override { session_->Close(); }
    const sql::Dialect& dialect() const override;

protected:
    Status BeginTransaction(const sql::TransactionOptions& options) override;
    Status JoinTransaction() override { return session_->Join(); }
    void LeaveTransaction() override { session_->Leave(); }
    Status CommitTransaction() override { return session_->Commit(); }
    Status RollbackTransaction() override { return session_->Rollback(); }
    Status SetSavepoint(int depth) override;
    Status ReleaseSavepoint(int depth) override;
    Status RollbackToSavepoint(int depth) override;

private:
    std::shared_ptr<Session> session_;
};

}  // namespace qmq::sqlite
