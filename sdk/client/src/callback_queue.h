#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "qmq/clock.h"
#include "qmq/executor.h"

#include "sdk/client/src/logger.h"

namespace qmq::internal {

/// The application's callbacks that are due, on their way to the callback executor: one after
/// another, each exactly once, also when the executor is full for a while; what one throws touches
/// no other. Thread-safe.
class CallbackQueue : public std::enable_shared_from_this<CallbackQueue> {
public:
    /// `inline_at_end`: the executor is somebody else's, so at the end what is left runs in
    /// `Finish` itself instead of being awaited.
    CallbackQueue(const void* client,
                  Executor& executor,
                  Executor& timers,
                  const Clock& clock,
                  const Logger& logger,
                  bool inline_at_end);

    /// Who owns the executor and the log, to be kept alive while callbacks run; and what to call
    /// when all that were due have run.
    void SetOwner(std::weak_ptr<void> owner, std::function<void()> drained) {
        owner_ = std::move(owner);
        drained_ = std::move(drained);
    }

    /// Takes `task`. After `Finish` it is destroyed without running.
    void Post(Task task) { Add(std::move(task), false); }
    /// As `Post`, but it may run inside of the call, when no other callback runs.
    void PostOrRun(Task task) { Add(std::move(task), true); }

    /// Runs user code as a callback of this client, and keeps what it throws away from the rest.
    /// For tasks that consist of several calls.
    template <typename F>
    void RunUserCode(F&& code) noexcept {
        if (closed_.load(std::memory_order_acquire)) {
            return;  // After `Finish` nothing begins, also in a task that had begun.
        }
        try {
            code();
        } catch (const std::exception& error) {
            LogThrown(error.what());
        } catch (...) {
            LogThrown("something that is no std::exception");
        }
    }

    /// Runs or awaits all that is queued, for at most `grace`; afterwards nothing begins any more.
    /// Called from inside one of the callbacks it runs the rest itself.
    void Finish(std::chrono::milliseconds grace);
    /// Drops what is queued; nothing begins any more.
    void Drop();

private:
    void Add(Task task, bool may_run);
    void Schedule();
    void Drain();
    void RunOne(Task& task) noexcept;
    void LogThrown(const char* what) const noexcept;

    const void* const client_;
    Executor& executor_;
    Executor& timers_;
    const Clock& clock_;
    const Logger& logger_;
    const bool inline_at_end_;

    std::weak_ptr<void> owner_;
    std::function<void()> drained_;
    std::atomic<bool> closed_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Task> tasks_;  // guarded by mutex_
    bool scheduled_ = false;  // guarded by mutex_: a drain is posted or runs.
    bool draining_ = false;   // guarded by mutex_
    bool finished_ = false;   // guarded by mutex_
};

}  // namespace qmq::internal
