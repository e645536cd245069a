#include "qmq/sql/connection.h"

namespace qmq::sql {

Result<ExecuteResult> Connection::Execute(std::string_view sql, std::span<const Param> params) {
    auto statement = Prepare(sql);
    if (!statement.ok()) {
        return statement.status();
    }
    return (*statement)->Execute(params);
}

Result<Rows> Connection::Query(std::string_view sql, std::span<const Param> params) {
    auto statement = Prepare(sql);
    if (!statement.ok()) {
        return statement.status();
    }
    return (*statement)->Query(params);
}

}  // namespace qmq::sql
