#pragma once

#include <atomic>
#include <coroutine>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "qmq/check.h"
#include "qmq/executor.h"
#include "qmq/status.h"

namespace qmq {

namespace internal {

/// Between an operation and the coroutine that waits for its answer. Thread-safe.
class AwaitState {
public:
    AwaitState() = default;
    AwaitState(const AwaitState&) = delete;
    AwaitState& operator=(const AwaitState&) = delete;

    bool settled() const { return coroutine_.load(std::memory_order_acquire) == this; }
    /// False: the answer is there, and the coroutine goes on.
    bool Suspend(std::coroutine_handle<> coroutine, Executor* executor);
    /// The answer is there. Resumes the coroutine, if one waits: on its executor, or here.
    static void Settle(const std::shared_ptr<AwaitState>& state);
    /// The coroutine is being destroyed: it is not resumed.
    void Leave();

private:
    Executor* executor_ = nullptr;
    /// Null, the one that waits, or `this`: the answer is there.
    std::atomic<void*> coroutine_{nullptr};
    /// With an executor the one that waits, until its turn comes or it is destroyed. Set before it
    /// can be answered, so that whoever destroys it on its executor meanwhile has the last word.
    std::atomic<void*> posted_{nullptr};
};

}  // namespace internal

/// The answer to an operation that has begun: `T answer = co_await consumer.PullAsync(options)`.
/// Awaited once, or dropped: then nobody looks at the answer.
///
/// When the answer is there already, the coroutine goes on; else it is resumed on the client's
/// callback thread, and what it does then holds up callbacks and other coroutines of the client.
/// It is always resumed: where the client shuts down before its turn comes, by the thread that does
/// so, with kCancelled.
///
/// A coroutine that waits may be destroyed; it is then not resumed. Destroy it on the thread that
/// would resume it, or while the answer is certain not to have come.
template <typename T>
class [[nodiscard]] Awaitable {
    struct State : internal::AwaitState {
        std::optional<T> answer;
    };

    /// Gives the answer once. Dropped without one, it says that the client has ended.
    class Answer {
    public:
        explicit Answer(std::shared_ptr<State> state) : state_(std::move(state)) {}
        Answer(Answer&&) noexcept = default;
        Answer& operator=(Answer&&) = delete;
        ~Answer() {
            if (state_ != nullptr) {
                try {
                    (*this)(T(Status::Cancelled("the client ended before the answer came")));
                } catch (...) {
                    // The coroutine has ended by it; nobody is left to tell.
                }
            }
        }
        void operator()(T answer) {
            state_->answer.emplace(std::move(answer));
            State::Settle(std::exchange(state_, nullptr));
        }

    private:
        std::shared_ptr<State> state_;
    };

public:
    /// Calls `begin` with what is to be called once with the answer, a `T`. Where `begin` returns a
    /// `Status` that is not ok, it has destroyed that uncalled, and the status is the answer.
    template <typename Begin>
    static Awaitable Of(Begin&& begin) {
        Awaitable awaitable;
        if constexpr (std::is_void_v<std::invoke_result_t<Begin&, Answer>>) {
            begin(Answer(awaitable.state_));
        } else if (Status begun = begin(Answer(awaitable.state_)); !begun.ok()) {
            awaitable.state_->answer.emplace(std::move(begun));
        }
        return awaitable;
    }

    Awaitable(Awaitable&&) noexcept = default;
    Awaitable& operator=(Awaitable&&) = delete;
    ~Awaitable() {
        if (state_ != nullptr) {
            state_->Leave();
        }
    }

    /// Resumed on `executor`, which outlives the wait; where that refuses or drops the task, by the
    /// thread that does so.
    Awaitable On(Executor& executor) && {
        executor_ = &executor;
        return std::move(*this);
    }

    bool await_ready() const {
        QMQ_CHECK(state_ != nullptr, "co_await on an Awaitable that was moved from");
        return state_->settled();
    }
    bool await_suspend(std::coroutine_handle<> coroutine) {
        // Kept: when it is resumed on another thread, the awaitable may be gone before this ends.
        const std::shared_ptr<State> state = state_;
        return state->Suspend(coroutine, executor_);
    }
    T await_resume() { return std::move(*state_->answer); }

private:
    Awaitable() = default;

    std::shared_ptr<State> state_ = std::make_shared<State>();
    Executor* executor_ = nullptr;
};

}  // namespace qmq
