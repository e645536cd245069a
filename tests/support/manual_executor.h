#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "qmq/clock.h"
#include "qmq/executor.h"

namespace qmq::testing {

/// A clock that stands still until it is told to move.
class ManualClock final : public Clock {
public:
    TimePoint Now() const override {
        const std::lock_guard lock(mutex_);
        return TimePoint(std::chrono::hours(1)) + elapsed_;
    }
    WallTime WallNow() const override {
        const std::lock_guard lock(mutex_);
        // 2026-01-01, as good a day as any.
        return WallTime(std::chrono::milliseconds(1'767'225'600'000)) +
               std::chrono::duration_cast<std::chrono::milliseconds>(elapsed_) + jump_;
    }

    void Advance(std::chrono::nanoseconds by) {
        const std::lock_guard lock(mutex_);
        elapsed_ += by;
    }
    /// Somebody sets the wall clock.
    void JumpWall(std::chrono::milliseconds by) {
        const std::lock_guard lock(mutex_);
        jump_ += by;
    }

private:
    mutable std::mutex mutex_;
    std::chrono::nanoseconds elapsed_{0};  // guarded by mutex_
    std::chrono::milliseconds jump_{0};    // guarded by mutex_
};

/// An executor without threads: tasks run when the test says so, in the order in which they came,
/// timers in the order of their times. Deterministic.
class ManualExecutor final : public Executor {
public:
    explicit ManualExecutor(ManualClock& clock) : clock_(clock) {}

    /// As a thread pool does: what waits is destroyed, and what that posts is refused.
    ~ManualExecutor() override {
        decltype(tasks_) tasks;
        decltype(timers_) timers;
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        tasks.swap(tasks_);
        timers.swap(timers_);
    }

    bool Post(Task task) override {
        const std::lock_guard lock(mutex_);
        if (stopped_) {
            return false;
        }
        tasks_.push_back(std::move(task));
        return true;
    }

    TimerId PostAt(TimePoint when, Task task) override {
        const std::lock_guard lock(mutex_);
        if (stopped_) {
            return 0;
        }
        const TimerId id = ++last_timer_;
        timers_.emplace(std::pair(when, id), std::move(task));
        return id;
    }

    bool Cancel(TimerId timer) override {
        const std::lock_guard lock(mutex_);
        for (auto at = timers_.begin(); at != timers_.end(); ++at) {
            if (at->first.second == timer) {
                timers_.erase(at);
                return true;
            }
        }
        return false;
    }

    /// Runs the next task, or the next timer that is due. False: there is none.
    bool RunOne() {
        Task task = Take();
        if (!task) {
            return false;
        }
        task();
        return true;
    }

    /// Runs all there is to run now, also what that posts.
    void RunAll() {
        while (RunOne()) {
        }
    }

    std::size_t task_count() const {
        const std::lock_guard lock(mutex_);
        return tasks_.size();
    }
    std::size_t timer_count() const {
        const std::lock_guard lock(mutex_);
        return timers_.size();
    }
    /// TimePoint::max() when there is none.
    TimePoint next_timer() const {
        const std::lock_guard lock(mutex_);
        return timers_.empty() ? TimePoint::max() : timers_.begin()->first.first;
    }

private:
    Task Take() {
        const std::lock_guard lock(mutex_);
        Task task;
        if (!tasks_.empty()) {
            task = std::move(tasks_.front());
            tasks_.pop_front();
        } else if (!timers_.empty() && timers_.begin()->first.first <= clock_.Now()) {
            task = std::move(timers_.begin()->second);
            timers_.erase(timers_.begin());
        }
        return task;
    }

    ManualClock& clock_;
    mutable std::mutex mutex_;
    std::deque<Task> tasks_;                                // guarded by mutex_
    std::map<std::pair<TimePoint, TimerId>, Task> timers_;  // guarded by mutex_
    TimerId last_timer_ = 0;                                // guarded by mutex_
    bool stopped_ = false;                                  // guarded by mutex_
};

/// A clock with executors that it drives together: time moves from timer to timer, and at each
/// stop everything runs that is due.
class ManualTime {
public:
    ManualClock clock;
    ManualExecutor executor{clock};
    ManualExecutor io{clock};

    /// Called after each task, if it is set: for what has to hold after every step.
    std::function<void()> after_each;

    /// Runs everything that can run without time passing.
    void Settle() {
        while (executor.RunOne() || io.RunOne()) {
            if (after_each) {
                after_each();
            }
        }
    }
    /// As `Settle`, but what is posted to `io` (syncs) waits.
    void SettleWithoutIo() { executor.RunAll(); }

    void Advance(std::chrono::milliseconds by) {
        const TimePoint end = clock.Now() + by;
        Settle();
        while (true) {
            const TimePoint next = std::min(executor.next_timer(), io.next_timer());
            if (next > end) {
                break;
            }
            if (next > clock.Now()) {
                clock.Advance(next - clock.Now());
            }
            Settle();
        }
        clock.Advance(end - clock.Now());
        Settle();
    }
};

}  // namespace qmq::testing
