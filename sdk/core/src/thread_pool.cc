#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "qmq/check.h"
#include "qmq/executor.h"

namespace qmq {

/// Shared by the pool and its threads, so that a thread which destroys the pool from inside a task
/// still has something to return to.
struct ThreadPool::State {
    using TimerKey = std::pair<TimePoint, TimerId>;

    ThreadPoolOptions options;
    std::mutex mutex;
    std::condition_variable wake;                        // Of the sleeping ones, and of `Stop`.
    std::condition_variable keeper_wake;                 // Of the one that keeps the timers.
    std::deque<Task> queue;                              // guarded by mutex
    std::map<TimerKey, Task> timers;                     // guarded by mutex
    std::unordered_map<TimerId, TimePoint> timer_times;  // guarded by mutex
    TimerId next_timer = 1;                              // guarded by mutex
    std::size_t sleeping = 0;    // guarded by mutex; those that keep no timers
    std::size_t called = 0;      // guarded by mutex; of the sleeping ones, and not awake yet
    bool has_keeper = false;     // guarded by mutex; one more sleeps, until the next timer is due
    bool keeper_called = false;  // guarded by mutex
    bool stopped = false;        // guarded by mutex
    std::vector<bool> ended;     // guarded by mutex; by thread
    std::vector<std::thread> threads;  // guarded by mutex

    /// The next task, or an empty one when the pool has stopped. Waits for one.
    Task Take() {
        std::unique_lock lock(mutex);
        while (true) {
            if (stopped) {
                return nullptr;
            }
            if (!timers.empty() &&
                timers.begin()->first.first <= std::chrono::steady_clock::now()) {
                auto due = timers.extract(timers.begin());
                timer_times.erase(due.key().second);
                SeeToTimers();
                return std::move(due.mapped());
            }
            if (!queue.empty()) {
                Task task = std::move(queue.front());
                queue.pop_front();
                SeeToTimers();
                return task;
            }
            Sleep(lock);
        }
    }

    void Sleep(std::unique_lock<std::mutex>& lock) {
        if (!timers.empty() && !has_keeper) {
            has_keeper = true;
            // A copy: the timer may be cancelled, and its key freed, while this thread waits.
            const TimePoint due = timers.begin()->first.first;
            keeper_wake.wait_until(lock, due, [this] { return keeper_called || stopped; });
            has_keeper = keeper_called = false;
            return;
        }
        ++sleeping;
        wake.wait(lock, [this] { return called > 0 || stopped; });
        --sleeping;
        called -= static_cast<std::size_t>(called > 0);
    }

    /// Calls a thread that sleeps, and rather one that keeps no timers: its place would have to be
    /// taken by another one. The caller notifies what this returns; null when all are at work.
    std::condition_variable* CallOne() {
        if (sleeping > called) {
            ++called;
            return &wake;
        }
        if (has_keeper && !keeper_called) {
            keeper_called = true;
            return &keeper_wake;
        }
        return nullptr;
    }

    /// The calling thread, which may have kept the timers, goes off to work: another one keeps
    /// them, if one sleeps.
    void SeeToTimers() {
        if (!timers.empty() && !has_keeper && sleeping > called) {
            CallOne()->notify_one();
        }
    }

    void Run(std::size_t index) {
        while (Task task = Take()) {
            task();
        }
        const std::lock_guard lock(mutex);
        ended[index] = true;
        wake.notify_all();
    }

    /// Whether every thread but `except` has ended. Under the mutex.
    bool AllEnded(std::thread::id except) const {
        for (std::size_t i = 0; i < threads.size(); ++i) {
            if (!ended[i] && threads[i].joinable() && threads[i].get_id() != except) {
                return false;
            }
        }
        return true;
    }
};

ThreadPool::ThreadPool(ThreadPoolOptions options) : state_(std::make_shared<State>()) {
    QMQ_CHECK(options.threads >= 1 && options.threads <= 1024,
              "threads " + std::to_string(options.threads));
    state_->options = std::move(options);
    for (std::size_t i = 0; i < state_->options.threads; ++i) {
        const std::lock_guard lock(state_->mutex);
        Start(state_);
    }
}

/// Under the mutex.
void ThreadPool::Start(const std::shared_ptr<State>& state) {
    const std::size_t index = state->threads.size();
    std::thread thread([state, index] {
        pthread_setname_np(pthread_self(), state->options.name.substr(0, 15).c_str());
        state->Run(index);
    });
    state->ended.push_back(false);
    state->threads.push_back(std::move(thread));
}

std::size_t ThreadPool::Grow(std::size_t threads) {
    const std::lock_guard lock(state_->mutex);
    try {
        while (state_->threads.size() < threads && !state_->stopped) {
            Start(state_);
        }
    } catch (const std::system_error&) {
        // Those that are there have to do.
    }
    return state_->threads.size();
}

bool ThreadPool::RunsHere() const {
    const std::lock_guard lock(state_->mutex);
    return std::any_of(state_->threads.begin(),
                       state_->threads.end(),
                       [self = std::this_thread::get_id()](const std::thread& thread) {
                           return thread.get_id() == self;
                       });
}

ThreadPool::~ThreadPool() {
    (void)Stop(TimePoint::max());
}

bool ThreadPool::Stop(TimePoint deadline) {
    std::deque<Task> dropped;
    std::map<State::TimerKey, Task> dropped_timers;
    const std::thread::id self = std::this_thread::get_id();
    std::unique_lock lock(state_->mutex);
    state_->stopped = true;
    dropped.swap(state_->queue);
    dropped_timers.swap(state_->timers);
    state_->timer_times.clear();
    state_->wake.notify_all();
    state_->keeper_wake.notify_all();
    // What the tasks hold may call us: it goes without the lock.
    lock.unlock();
    dropped.clear();
    dropped_timers.clear();
    lock.lock();
    const bool all =
        state_->wake.wait_until(lock, deadline, [&] { return state_->AllEnded(self); });
    std::vector<std::thread> join;
    for (std::size_t i = 0; i < state_->threads.size(); ++i) {
        std::thread& thread = state_->threads[i];
        if (!thread.joinable()) {
            continue;
        }
        if (state_->ended[i] && thread.get_id() != self) {
            join.push_back(std::move(thread));
        } else {
            thread.detach();  // It runs a task, perhaps the one we are called from.
        }
    }
    lock.unlock();
    for (std::thread& thread : join) {
        thread.join();
    }
    return all;
}

bool ThreadPool::Post(Task task) {
    // Kept: the task may destroy the pool before this returns.
    const std::shared_ptr<State> kept = state_;
    State& state = *kept;
    std::condition_variable* wake = nullptr;
    {
        const std::lock_guard lock(state.mutex);
        if (state.stopped || state.queue.size() >= state.options.max_queued_count) {
            return false;
        }
        state.queue.push_back(std::move(task));
        wake = state.CallOne();
    }
    if (wake != nullptr) {
        wake->notify_one();
    }
    return true;
}

TimerId ThreadPool::PostAt(TimePoint when, Task task) {
    // Kept: the task may destroy the pool before this returns.
    const std::shared_ptr<State> kept = state_;
    State& state = *kept;
    std::condition_variable* wake = nullptr;
    TimerId timer = 0;
    {
        const std::lock_guard lock(state.mutex);
        if (state.stopped) {
            return 0;
        }
        timer = state.next_timer++;
        const auto placed =
            state.timers.emplace(State::TimerKey{when, timer}, std::move(task)).first;
        state.timer_times.emplace(timer, when);
        if (placed == state.timers.begin()) {
            if (state.has_keeper) {  // It has to sleep anew.
                state.keeper_called = true;
                wake = &state.keeper_wake;
            } else {
                wake = state.CallOne();
            }
        }
    }
    if (wake != nullptr) {
        wake->notify_one();
    }
    return timer;
}

bool ThreadPool::Cancel(TimerId timer) {
    State& state = *state_;
    Task
        dropped;  // Declared first, so destroyed after the lock is gone: what it holds may call us.
    const std::lock_guard lock(state.mutex);
    const auto found = state.timer_times.find(timer);
    if (found == state.timer_times.end()) {
        return false;
    }
    auto node = state.timers.extract(State::TimerKey{found->second, timer});
    dropped = std::move(node.mapped());
    state.timer_times.erase(found);
    return true;
}

}  // namespace qmq
