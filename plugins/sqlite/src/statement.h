#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "qmq/sql/connection.h"

#include "plugins/sqlite/src/session.h"

namespace qmq::sqlite {

/// A text that is known to compile. It keeps its compiled form until a query takes that along.
class SqliteStatement final : public sql::Statement {
public:
    SqliteStatement(std::shared_ptr<Session> session, Lease lease);

    Result<sql::ExecuteResult> Execute(std::span<const sql::Param> params) override;
    Result<sql::Rows> Query(std::span<const sql::Param> params) override;
    std::size_t parameter_count() const override { return parameter_count_; }

private:
    enum class Lifetime { kThisCall, kLonger };

    Status Ready(std::span<const sql::Param> params);
    Status CheckWrites() const;
    Status CheckReads() const;
    Status Bind(std::span<const sql::Param> params, Lifetime lifetime);
    Result<sql::ExecuteResult> Step();

    std::shared_ptr<Session> session_;
    std::optional<Lease> lease_;
    const std::string sql_;
    const std::size_t parameter_count_;
};

}  // namespace qmq::sqlite
