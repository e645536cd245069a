#include "qmq/sql/transaction.h"

#include <exception>
#include <utility>
#include <vector>

namespace qmq::sql {

std::string_view ToString(Outcome outcome) {
    switch (outcome) {
        case Outcome::kCommitted:
            return "committed";
        case Outcome::kRolledBack:
            return "rolled back";
        case Outcome::kUnknown:
            return "unknown";
    }
    return "unknown";
}

namespace {

/// What became of a transaction that is no longer open after `status`, which is not that of a
/// commit that worked.
Outcome OutcomeOf(const Status& status) {
    return status.code() == StatusCode::kDeadlineExceeded ? Outcome::kUnknown
                                                          : Outcome::kRolledBack;
}

}  // namespace

/// One level of nesting. The hooks of all levels live in the root, in order of registration, each
/// with the level that it belongs to now: a nested commit hands its hooks to the parent.
class Transaction::State : public std::enable_shared_from_this<Transaction::State> {
public:
    enum class Kind { kOwn, kJoined, kNested };

    State(Connection& connection, Kind kind) : connection_(connection), kind_(kind) {}

    static std::shared_ptr<State> MakeNested(const std::shared_ptr<State>& parent);

    Status Commit();
    Status Rollback();
    void Finish(Outcome outcome);
    /// What the destructor of `Transaction` does.
    void LetGo();
    Status AddHook(std::function<void(Outcome)> hook);
    /// Ok while statements and nested transactions are allowed.
    Status CheckActive(std::string_view what) const;

    Connection& connection() const { return connection_; }
    Kind kind() const { return kind_; }
    bool active() const { return active_; }
    bool has_child() const { return child_ != nullptr; }
    int depth() const { return depth_; }
    const Status& hook_status() const { return root().hook_status_; }

private:
    struct Hook {
        const State* level;
        std::function<void(Outcome)> call;
    };

    const State& root() const { return parent_ == nullptr ? *this : parent_->root(); }
    State& root() { return parent_ == nullptr ? *this : parent_->root(); }
    std::vector<Hook> TakeHooks();
    void Run(std::vector<Hook> hooks, Outcome outcome);

    Connection& connection_;
    const Kind kind_;
    std::shared_ptr<State> parent_;
    State* child_ = nullptr;  // The open nested one; it keeps us alive, not we it.
    int depth_ = 0;
    bool active_ = true;
    std::vector<Hook> hooks_;  // Of the root only.
    Status hook_status_;       // Of the root only.
};

std::shared_ptr<Transaction::State> Transaction::State::MakeNested(
    const std::shared_ptr<State>& parent) {
    auto nested = std::make_shared<State>(parent->connection_, Kind::kNested);
    nested->parent_ = parent;
    nested->depth_ = parent->depth_ + 1;
    parent->child_ = nested.get();
    return nested;
}

Status Transaction::State::CheckActive(std::string_view what) const {
    if (active_) {
        return {};
    }
    return Status::InvalidArgument(std::string(what).append(": the transaction has ended"));
}

Status Transaction::State::AddHook(std::function<void(Outcome)> hook) {
    if (auto status = CheckActive("hook"); !status.ok()) {
        return status;
    }
    root().hooks_.push_back({this, std::move(hook)});
    return {};
}

Status Transaction::State::Commit() {
    if (auto status = CheckActive("commit"); !status.ok()) {
        return status;
    }
    if (child_ != nullptr) {
        return Status::InvalidArgument(
            "commit: a nested transaction is open; commit it or roll it back first");
    }
    auto status = kind_ == Kind::kNested ? connection_.ReleaseSavepoint(depth_)
                                         : connection_.CommitTransaction();
    if (status.ok()) {
        Finish(Outcome::kCommitted);
    } else if (!connection_.InTransaction()) {
        Finish(OutcomeOf(status));
    }
    return status;
}

Status Transaction::State::Rollback() {
    if (!active_) {
        return {};
    }
    if (kind_ != Kind::kNested) {
        auto status = connection_.RollbackTransaction();
        Finish(OutcomeOf(status));
        return status;
    }
    auto status = connection_.RollbackToSavepoint(depth_);
    if (status.ok()) {
        Finish(Outcome::kRolledBack);
    } else {
        // What was to be undone is still there: the outer ones must not be able to commit it.
        (void)root().Rollback();
    }
    return status;
}

void Transaction::State::Finish(Outcome outcome) {
    const auto self = shared_from_this();  // A hook may drop the last Transaction.
    // Before the nested one ends, so that it hands its hooks to us and they keep their order.
    active_ = false;
    if (child_ != nullptr) {
        child_->Finish(outcome);
    }
    if (kind_ == Kind::kJoined) {
        connection_.LeaveTransaction();
    }
    if (kind_ != Kind::kNested) {
        Run(std::move(hooks_), outcome);
        return;
    }
    parent_->child_ = nullptr;
    if (!parent_->active_ || outcome == Outcome::kCommitted) {
        for (auto& hook : root().hooks_) {
            hook.level = hook.level == this ? parent_.get() : hook.level;
        }
        return;
    }
    Run(TakeHooks(), outcome);
}

std::vector<Transaction::State::Hook> Transaction::State::TakeHooks() {
    std::vector<Hook> mine;
    std::vector<Hook> others;
    for (auto& hook : root().hooks_) {
        (hook.level == this ? mine : others).push_back(std::move(hook));
    }
    root().hooks_ = std::move(others);
    return mine;
}

// By value: a hook may add others to hooks_ while these run.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void Transaction::State::Run(std::vector<Hook> hooks, Outcome outcome) {
    for (auto& hook : hooks) {
        std::string thrown;
        try {
            hook.call(outcome);
            continue;
        } catch (const std::exception& error) {
            thrown = error.what() != nullptr ? error.what() : "an exception without a text";
        } catch (...) {
            thrown = "something that is no std::exception";
        }
        if (root().hook_status_.ok()) {
            root().hook_status_ = Status::Internal("a transaction hook threw: " + thrown);
        }
    }
}

void Transaction::State::LetGo() {
    if (!active_) {
        return;
    }
    if (kind_ == Kind::kJoined) {
        Finish(Outcome::kUnknown);
    } else {
        (void)Rollback();  // An error has made the connection unusable; its next use says so.
    }
}

Transaction::Transaction(std::shared_ptr<State> state) : state_(std::move(state)) {}

Transaction& Transaction::operator=(Transaction&& other) noexcept {
    if (this != &other) {
        if (state_ != nullptr) {
            state_->LetGo();
        }
        state_ = std::move(other.state_);
    }
    return *this;
}

Transaction::~Transaction() {
    if (state_ != nullptr) {
        state_->LetGo();
    }
}

Result<Transaction> Transaction::Begin(Connection& connection, TransactionOptions options) {
    if (connection.InTransaction()) {
        return Status::InvalidArgument(
            "begin: the connection is in a transaction already; use Nested() for one inside it, or "
            "Join() for one that the owner of a borrowed connection has begun");
    }
    if (auto status = connection.BeginTransaction(options); !status.ok()) {
        return status.WithContext("begin");
    }
    return Transaction(std::make_shared<State>(connection, State::Kind::kOwn));
}

Result<Transaction> Transaction::Join(Connection& connection) {
    if (auto status = connection.JoinTransaction(); !status.ok()) {
        return status.WithContext("join");
    }
    return Transaction(std::make_shared<State>(connection, State::Kind::kJoined));
}

Result<Transaction> Transaction::Nested() {
    if (auto status = state_->CheckActive("nested"); !status.ok()) {
        return status;
    }
    if (state_->has_child()) {
        return Status::InvalidArgument("nested: one is open already; nest in that one");
    }
    auto status = state_->connection().SetSavepoint(state_->depth() + 1);
    if (!status.ok()) {
        return status.WithContext("savepoint");
    }
    return Transaction(State::MakeNested(state_));
}

Status Transaction::Commit() {
    return state_->Commit();
}

Status Transaction::Rollback() {
    return state_->Rollback();
}

Status Transaction::Ended(Outcome outcome) {
    if (state_->kind() != State::Kind::kJoined) {
        return Status::InvalidArgument("ended: only for joined transactions; Commit or Rollback");
    }
    if (auto status = state_->CheckActive("ended"); !status.ok()) {
        return status;
    }
    if (state_->connection().InTransaction()) {
        return Status::InvalidArgument("ended: the transaction is still open in the database");
    }
    state_->Finish(outcome);
    return {};
}

Status Transaction::OnCommit(std::function<void()> hook) {
    return OnEnd([hook = std::move(hook)](Outcome outcome) {
        if (outcome == Outcome::kCommitted) {
            hook();
        }
    });
}

Status Transaction::OnRollback(std::function<void()> hook) {
    return OnEnd([hook = std::move(hook)](Outcome outcome) {
        if (outcome == Outcome::kRolledBack) {
            hook();
        }
    });
}

Status Transaction::OnEnd(std::function<void(Outcome)> hook) {
    return state_->AddHook(std::move(hook));
}

bool Transaction::active() const {
    return state_ != nullptr && state_->active();
}

Status Transaction::hook_status() const {
    return state_->hook_status();
}

Connection& Transaction::connection() const {
    return state_->connection();
}

Result<ExecuteResult> Transaction::Execute(std::string_view sql,
                                           std::initializer_list<Param> params) {
    if (auto status = state_->CheckActive("execute"); !status.ok()) {
        return status;
    }
    return connection().Execute(sql, params);
}

Result<Rows> Transaction::Query(std::string_view sql, std::initializer_list<Param> params) {
    if (auto status = state_->CheckActive("query"); !status.ok()) {
        return status;
    }
    return connection().Query(sql, params);
}

}  // namespace qmq::sql
