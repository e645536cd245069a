#include "qmq/sql/dialect.h"

#include <string>

#include "qmq/sql/driver.h"
#include "qmq/sqlite.h"

namespace qmq::sqlite {

namespace {

class SqliteDialect final : public sql::Dialect {
public:
    std::string_view name() const override { return "sqlite"; }

    std::string_view AutoIncrementKey() const override {
        // Without AUTOINCREMENT the key of the last row is used again once that row is deleted.
        return "INTEGER PRIMARY KEY AUTOINCREMENT";
    }

    std::string_view TypeOf(sql::ColumnType type) const override {
        switch (type) {
            case sql::ColumnType::kInt64:
                return "INTEGER";
            case sql::ColumnType::kDouble:
                return "REAL";
            case sql::ColumnType::kText:
                return "TEXT";
            case sql::ColumnType::kBlob:
                return "BLOB";
        }
        return "BLOB";
    }

    std::string KeyText(std::size_t max_chars) const override {
        return "VARCHAR(" + std::to_string(max_chars) + ")";  // SQLite does not enforce it.
    }

    Result<std::string> Quote(std::string_view name) const override {
        return sql::driver::QuoteWith(name, '"');
    }

    Result<std::string> Upsert(const sql::UpsertSpec& spec) const override {
        auto quoted = sql::driver::QuoteUpsert(spec, '"');
        if (!quoted.ok()) {
            return quoted.status();
        }
        std::string text = "INSERT INTO " + quoted->table + " (" + quoted->columns + ") VALUES (" +
                           quoted->placeholders + ") ON CONFLICT (" + quoted->keys +
                           ") DO UPDATE SET ";
        if (quoted->others.empty()) {
            // Not DO NOTHING: an upsert counts a row in any case.
            const auto& key = quoted->key_names.front();
            return text + key + " = excluded." + key;
        }
        for (std::size_t i = 0; i < quoted->others.size(); ++i) {
            const auto& column = quoted->others[i];
            text.append(i == 0 ? "" : ", ").append(column).append(" = excluded.").append(column);
        }
        return text;
    }

    std::string_view LockClause(sql::RowLock /*lock*/) const override { return ""; }

    bool SupportsSkipLocked() const override { return false; }

    std::string_view NowMillis() const override {
        // unixepoch('subsec') came with 3.42. The parts agree: 'now' is fixed for one statement.
        return "(CAST(strftime('%s', 'now') AS INTEGER) * 1000 + "
               "CAST(substr(strftime('%f', 'now'), 4) AS INTEGER))";
    }

    std::size_t max_parameters() const override { return 32766; }
};

}  // namespace

const sql::Dialect& GetDialect() {
    static const SqliteDialect dialect;
    return dialect;
}

}  // namespace qmq::sqlite
