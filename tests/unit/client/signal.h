#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace qmq::testing {

/// What one thread says and another waits for.
class Signal {
public:
    void Set() {
        std::lock_guard lock(mutex_);
        set_ = true;
        changed_.notify_all();
    }
    bool Wait(std::chrono::milliseconds time = std::chrono::seconds(20)) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, time, [this] { return set_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool set_ = false;
};

/// Counts, and lets a thread wait until the count is reached.
class Counter {
public:
    void Add() {
        std::lock_guard lock(mutex_);
        ++count_;
        changed_.notify_all();
    }
    bool WaitFor(int count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return count_ >= count; });
    }
    int count() {
        std::lock_guard lock(mutex_);
        return count_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int count_ = 0;
};

/// Where two threads wait for each other, again and again, to go on at the same moment.
class Meeting {
public:
    void Arrive() {
        const int both = (++arrived_ + 1) / 2 * 2;
        while (arrived_ < both) {
            std::this_thread::yield();
        }
    }

private:
    std::atomic<int> arrived_{0};
};

}  // namespace qmq::testing
