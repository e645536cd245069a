#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/process_mark.h"

#include "sdk/client/src/base/logger.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/thrown_text.h"

namespace qmq::internal {

/// The application's callbacks that are due, on their way to the callback executor: one after
/// another, each exactly once, also when the executor is full for a while; what one throws touches
/// no other. It knows how many it owes, so that the end can tell how many never came. Thread-safe.
class CallbackQueue : public std::enable_shared_from_this<CallbackQueue> {
public:
    /// `inline_at_end`: the executor is somebody else's, so at the end what is left runs in
    /// `Finish` itself instead of being awaited.
    CallbackQueue(const void* client,
                  Executor& executor,
                  Executor& timers,
                  const Clock& clock,
                  Logger& logger,
                  bool inline_at_end);

    /// Who owns the executor and the log, to be kept alive while callbacks run; and what to call
    /// when all that were due have run.
    void SetOwner(std::weak_ptr<void> owner, std::function<void()> drained) {
        owner_ = std::move(owner);
        drained_ = std::move(drained);
    }

    /// Takes one callback. After `Finish` it is destroyed without running, and counted (`late`).
    void Post(Task callback) { (void)Add({std::move(callback), 1, false}, false); }
    /// Takes a task that makes up for it in its destructor when it never runs, as one that resumes
    /// a coroutine does: it is not counted.
    void PostResumption(Task task) { (void)Add({std::move(task), 0, false}, false); }
    /// Takes a task of ours that makes `count` callbacks, each by `RunUserCode`, until
    /// `time_is_over`. Called again inside one of them it goes on with the next one.
    void PostMany(Task task, std::uint64_t count) {
        (void)Add({std::move(task), count, true}, false);
    }
    /// As `PostMany`. True: no other callback runs, and the caller is to call `Run`, soon.
    [[nodiscard]] bool PostManyToRun(Task task, std::uint64_t count) {
        return Add({std::move(task), count, true}, true);
    }
    /// Runs what is due on the calling thread.
    void Run() { Drain(); }
    /// Somebody looks whether callbacks have run: where executor and timer have refused to run
    /// them, they are asked again. Without the caller's lock.
    void Retry() {
        if (refused_.load(std::memory_order_relaxed)) {
            RetryRefused();
        }
    }

    /// Runs one callback of this client, and keeps what it throws away from the rest. After
    /// `Finish` nothing begins any more, also in a task that had begun: then false.
    template <typename F>
    bool RunUserCode(F&& code) noexcept {
        // One step, so that at the end each callback has begun or is dropped, and is counted as
        // what it is.
        if ((begun_.fetch_add(1, std::memory_order_acq_rel) & kClosed) != 0) {
            return false;
        }
        Guard(code);
        return true;
    }

    /// Whether somebody in a callback ends the client, and has no time left to run others.
    bool time_is_over() const {
        const TimePoint::rep until = rest_until_.load(std::memory_order_relaxed);
        return until != kForEver &&
               std::chrono::steady_clock::now().time_since_epoch().count() >= until;
    }

    /// In another process nobody runs them.
    const ProcessMark& process() const { return process_; }
    /// How many callbacks were taken and have not begun.
    std::uint64_t owed() const;

    struct End {
        std::uint64_t dropped = 0;  ///< Callbacks that were owed and are never called.
        bool stuck = false;         ///< One has not returned.
    };
    /// Runs or awaits all that is queued, until `deadline`; afterwards nothing begins any more.
    /// Called from inside one of the callbacks it runs the rest itself.
    End Finish(TimePoint deadline);
    /// Somebody else has less time than whoever calls `Finish`, or is in it.
    void Hurry(TimePoint deadline) QMQ_EXCLUDES(mutex_);
    /// Callbacks that came after `Finish`, and are never called either.
    std::uint64_t late() const;
    /// Drops what is queued; nothing begins any more.
    void Drop();

private:
    template <typename F>
    void Guard(F&& code) noexcept {
        CheckNoLockHeld("a callback");
        try {
            code();
        } catch (const std::exception& error) {
            LogThrown(TextOf(error));
        } catch (...) {
            LogThrown("something that is no std::exception");
        }
    }

    static constexpr std::uint64_t kClosed = std::uint64_t{1} << 63;
    static constexpr TimePoint::rep kForEver = TimePoint::max().time_since_epoch().count();

    struct Entry {
        Task task;
        std::uint64_t count = 0;  // Callbacks in it.
        bool many = false;        // It calls `RunUserCode` itself.
    };

    struct Running;

    /// Whether the caller is to run it, which `may_run` allows.
    bool Add(Entry entry, bool may_run) QMQ_EXCLUDES(mutex_);
    void Schedule() QMQ_EXCLUDES(mutex_);
    void RetryRefused() QMQ_EXCLUDES(mutex_);
    void Drain() QMQ_EXCLUDES(mutex_);
    void RunOne(Entry& entry) noexcept QMQ_EXCLUDES(mutex_);
    void RunMany(Task& task) noexcept QMQ_EXCLUDES(mutex_);
    void RunRest() QMQ_EXCLUDES(mutex_);
    void SetRestUntil() QMQ_REQUIRES(mutex_);
    void LogThrown(const char* what) const noexcept;

    const ProcessMark process_;
    const void* const client_;
    Executor& executor_;
    Executor& timers_;
    const Clock& clock_;
    Logger& logger_;
    const bool inline_at_end_;

    std::weak_ptr<void> owner_;
    std::function<void()> drained_;
    std::atomic<std::uint64_t> begun_{0};  // Callbacks, and kClosed once none may begin.
    std::atomic<TimePoint::rep> rest_until_{kForEver};
    std::atomic<bool> refused_{false};  // Nothing is scheduled, though something is due.
    mutable Mutex mutex_;
    CondVar changed_;
    std::deque<Entry> entries_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t taken_ QMQ_GUARDED_BY(mutex_) = 0;  // Callbacks.
    std::uint64_t late_ QMQ_GUARDED_BY(mutex_) = 0;   // Likewise, after the end.
    bool scheduled_ QMQ_GUARDED_BY(mutex_) = false;   // A drain is posted or runs.
    bool draining_ QMQ_GUARDED_BY(mutex_) = false;
    bool finished_ QMQ_GUARDED_BY(mutex_) = false;
    TimePoint finish_by_ QMQ_GUARDED_BY(mutex_) = TimePoint::max();
    bool runs_rest_ QMQ_GUARDED_BY(mutex_) = false;  // `Finish` itself, until `rest_until_`.
};

}  // namespace qmq::internal
