#include "tests/border/weather_calls.h"

#include <utility>

namespace qmq::border {

void Calls::Deliver(Task call) {
    {
        const std::lock_guard lock(mutex_);
        if (!closed_ && (hanging_ || draining_ || !kept_.empty())) {
            kept_.push_back(std::move(call));
            return;
        }
    }
    call();
}

void Calls::Drain(std::unique_lock<std::mutex>& lock) {
    if (draining_) {
        return;  // Whoever is at it takes all.
    }
    draining_ = true;
    drainer_ = std::this_thread::get_id();
    while (!kept_.empty() && (!hanging_ || closed_)) {
        {
            Task call = std::move(kept_.front());
            kept_.pop_front();
            lock.unlock();
            call();
        }
        lock.lock();
    }
    draining_ = false;
    drainer_ = {};
    changed_.notify_all();
}

void Calls::SetHanging(bool hanging) {
    std::unique_lock lock(mutex_);
    hanging_ = hanging;
    if (!hanging) {
        Drain(lock);
    }
}

void Calls::Close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    Drain(lock);
    if (drainer_ != std::this_thread::get_id()) {
        changed_.wait(lock, [this] { return !draining_; });
    }
}

}  // namespace qmq::border
