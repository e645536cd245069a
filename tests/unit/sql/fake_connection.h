#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/sql/connection.h"

namespace qmq::sql::testing {

class FakeDialect final : public Dialect {
public:
    std::string_view name() const override { return "fake"; }
    std::string_view AutoIncrementKey() const override { return ""; }
    std::string_view TypeOf(ColumnType) const override { return ""; }
    std::string KeyText(std::size_t) const override { return ""; }
    Result<std::string> Quote(std::string_view name) const override { return std::string(name); }
    Result<std::string> Upsert(const UpsertSpec&) const override { return std::string(); }
    std::string_view LockClause(RowLock) const override { return ""; }
    bool SupportsSkipLocked() const override { return true; }
    std::string_view NowMillis() const override { return ""; }
    std::size_t max_parameters() const override { return 1; }
};

/// Rows given as plain values.
class FakeCursor final : public Cursor {
public:
    FakeCursor(std::vector<std::string> names, std::vector<std::vector<ValueView>> rows)
        : names_(std::move(names)), rows_(std::move(rows)) {}

    Result<bool> Next() override {
        ++calls_;
        if (!failure_.ok()) {
            return failure_;
        }
        return ++at_ <= rows_.size();
    }
    std::size_t column_count() const override { return names_.size(); }
    std::string column_name(std::size_t column) const override { return names_[column]; }
    Result<ValueView> Value(std::size_t column) override { return rows_[at_ - 1][column]; }

    void FailWith(Status status) { failure_ = std::move(status); }
    int calls() const { return calls_; }

private:
    std::vector<std::string> names_;
    std::vector<std::vector<ValueView>> rows_;
    std::size_t at_ = 0;
    int calls_ = 0;
    Status failure_;
};

/// Writes down what `Transaction` asks of it and fails where it is told to.
class FakeConnection final : public Connection {
public:
    /// The next call of `verb` fails so. With `ends` the database has also rolled back by itself.
    void FailOnce(const std::string& verb, Status status, bool ends = false) {
        failures_[verb] = {std::move(status), ends};
    }
    const std::vector<std::string>& log() const { return log_; }
    void set_in_transaction(bool value) { in_transaction_ = value; }
    void Break() { broken_ = true; }
    void FailPing() { ping_fails_ = true; }

    Result<std::unique_ptr<Statement>> Prepare(std::string_view sql) override {
        log_.push_back("prepare " + std::string(sql));
        return Status::Unimplemented("the fake runs no statements");
    }
    bool InTransaction() const override { return in_transaction_; }
    bool IsBroken() const override { return broken_; }
    Status Ping() override { return ping_fails_ ? Status::Unavailable("no answer") : Status(); }
    void Close() override { broken_ = true; }
    const Dialect& dialect() const override { return dialect_; }

protected:
    Status BeginTransaction(const TransactionOptions& options) override {
        return Do(options.access == Access::kRead ? "begin read" : "begin", true);
    }
    Status JoinTransaction() override { return Do("join", true); }
    void LeaveTransaction() override { log_.push_back("leave"); }
    Status CommitTransaction() override { return Do("commit", false); }
    Status RollbackTransaction() override { return Do("rollback", false); }
    Status SetSavepoint(int depth) override {
        return Do("savepoint " + std::to_string(depth), true);
    }
    Status ReleaseSavepoint(int depth) override {
        return Do("release " + std::to_string(depth), true);
    }
    Status RollbackToSavepoint(int depth) override {
        return Do("rollback to " + std::to_string(depth), true);
    }

private:
    struct Failure {
        Status status;
        bool ends = false;
    };

    Status Do(const std::string& verb, bool in_transaction_after) {
        log_.push_back(verb);
        const auto failure = failures_.extract(verb);
        if (failure.empty()) {
            in_transaction_ = in_transaction_after;
            return {};
        }
        in_transaction_ = in_transaction_ && !failure.mapped().ends;
        return failure.mapped().status;
    }

    FakeDialect dialect_;
    std::vector<std::string> log_;
    std::map<std::string, Failure> failures_;
    bool in_transaction_ = false;
    bool broken_ = false;
    bool ping_fails_ = false;
};

}  // namespace qmq::sql::testing
