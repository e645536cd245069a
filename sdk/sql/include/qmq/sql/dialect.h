#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/status.h"

namespace qmq::sql {

enum class ColumnType : std::uint8_t {
    kInt64,
    kDouble,
    kText,  ///< UTF-8 of up to at least 16 MiB. Not for keys: see `Dialect::KeyText`.
    kBlob,  ///< Bytes, up to at least 16 MiB.
};

enum class RowLock : std::uint8_t {
    kWait,  ///< Wait for rows that another transaction holds.
    kSkip,  ///< Leave out rows that another transaction holds.
};

/// A row to insert, or to overwrite when one with the same key is there.
struct UpsertSpec {
    std::string table;                 ///< May be qualified: "schema.table".
    std::vector<std::string> columns;  ///< In the order of the parameters; at least one.
    std::vector<std::string> keys;     ///< Those of `columns` with a unique index over them.
};

/// How one kind of database spells what SQL leaves open. Values never go into these texts, only
/// names and types do; values are parameters, always.
///
/// Immutable and thread-safe; lives as long as the program.
class Dialect {
public:
    virtual ~Dialect() = default;

    /// "sqlite", "mysql": for messages and for schemas that differ by more than is said here.
    virtual std::string_view name() const = 0;

    /// What follows the name of an int64 column that is the primary key and whose values the
    /// database counts up, never using one twice, not even after its row was deleted.
    virtual std::string_view AutoIncrementKey() const = 0;

    virtual std::string_view TypeOf(ColumnType type) const = 0;

    /// The type of a text column of at most `max_chars` (range [1, 700]) that may be in a key.
    virtual std::string KeyText(std::size_t max_chars) const = 0;

    /// `name`, or both halves of "schema.name", quoted. kInvalidArgument unless it consists of
    /// ASCII letters, digits and underscores, and does not begin with a digit.
    virtual Result<std::string> Quote(std::string_view name) const = 0;

    /// The statement with one `?` for each column. kInvalidArgument for names that `Quote`
    /// refuses, no columns, no keys, or a key that is not a column.
    virtual Result<std::string> Upsert(const UpsertSpec& spec) const = 0;

    /// What goes at the end of a SELECT in a write transaction so that the rows read are this
    /// transaction's until it ends; begins with a space unless empty. Empty where a write
    /// transaction has the database to itself anyway.
    virtual std::string_view LockClause(RowLock lock) const = 0;

    /// Whether `RowLock::kSkip` lets several claimants take different rows at the same time.
    virtual bool SupportsSkipLocked() const = 0;

    /// An expression: milliseconds since 1970 UTC by the database's clock, the same at each place
    /// in one statement.
    virtual std::string_view NowMillis() const = 0;

    /// So many parameters a statement can have in any build of the database.
    virtual std::size_t max_parameters() const = 0;
};

}  // namespace qmq::sql
