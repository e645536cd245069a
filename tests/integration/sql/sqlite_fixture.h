#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "qmq/sql/connection.h"
#include "qmq/sql/transaction.h"
#include "qmq/sqlite.h"

namespace qmq::sqlite::testing {

/// A directory of its own for each test, removed at its end, and helpers that fail the test when
/// what they do fails.
class SqliteTest : public ::testing::Test {
protected:
    SqliteTest() {
        std::string pattern = (std::filesystem::temp_directory_path() / "qmq-sql-XXXXXX").string();
        directory_ = mkdtemp(pattern.data());
        options_.path = Path("orders.db");
        options_.synchronous =
            Synchronous::kOff;  // For speed; what is claimed here needs no power cut.
        options_.busy_timeout = std::chrono::milliseconds(0);
    }
    ~SqliteTest() override { std::filesystem::remove_all(directory_); }

    std::string Path(std::string_view name) const {
        return (std::filesystem::path(directory_) / name).string();
    }

    std::unique_ptr<sql::Connection> OpenConnection() { return Open(options_).value(); }

    /// One with `orders (id, title)` in it.
    std::unique_ptr<sql::Connection> OpenWithTable() {
        auto connection = OpenConnection();
        Must(*connection, "CREATE TABLE orders (id INTEGER PRIMARY KEY, title TEXT NOT NULL)");
        return connection;
    }

    static sql::ExecuteResult Must(sql::Connection& connection,
                                   std::string_view sql,
                                   std::initializer_list<sql::Param> params = {}) {
        const auto result = connection.Execute(sql, params);
        EXPECT_TRUE(result.ok()) << result.status();
        return result.ok() ? *result : sql::ExecuteResult();
    }

    static std::int64_t Count(sql::Connection& connection, std::string_view table = "orders") {
        const auto row =
            connection.QueryOne<std::int64_t>("SELECT count(*) FROM " + std::string(table));
        EXPECT_TRUE(row.ok()) << row.status();
        return row.ok() && row->has_value() ? std::get<0>(**row) : -1;
    }

    std::string directory_;
    Options options_;
};

inline std::string MessageOf(const Status& status) {
    return std::string(status.message());
}

/// A handle as an application would have it.
using RawHandle = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;

inline RawHandle OpenRaw(const std::string& path) {
    sqlite3* handle = nullptr;
    EXPECT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
    return RawHandle(handle, sqlite3_close);
}

inline void Raw(sqlite3* handle, const char* sql) {
    EXPECT_EQ(sqlite3_exec(handle, sql, nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(handle);
}

}  // namespace qmq::sqlite::testing
