#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/sql/dialect.h"
#include "qmq/sql/value.h"
#include "qmq/status.h"

/// For those who write a driver: the checks that all drivers make alike.
namespace qmq::sql::driver {

/// kInvalidArgument when `sql` begins, ends or nests a transaction, with the advice to use
/// `Transaction`. Looks at the first word behind blanks, comments and semicolons.
Status RefuseTransactionControl(std::string_view sql);

/// kInvalidArgument unless there are `wanted` parameters, and no double is NaN or infinite.
Status CheckParams(std::span<const Param> params, std::size_t wanted);

/// As `Dialect::Quote`, with `quote` on both sides of each part.
Result<std::string> QuoteWith(std::string_view name, char quote);

/// `spec` with its names quoted: columns joined by ", ", and checked as `Dialect::Upsert` says.
struct QuotedUpsert {
    std::string table;
    std::string columns;
    std::string placeholders;  ///< "?, ?"
    std::string keys;
    std::vector<std::string> key_names;
    std::vector<std::string> others;  ///< The columns that are no keys, each quoted.
};
Result<QuotedUpsert> QuoteUpsert(const UpsertSpec& spec, char quote);

/// The beginning of `sql` for messages, on one line, at most 120 bytes.
std::string Excerpt(std::string_view sql);

}  // namespace qmq::sql::driver
