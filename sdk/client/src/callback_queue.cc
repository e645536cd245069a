#include "sdk/client/src/callback_queue.h"

#include <exception>
#include <string>
#include <utility>

#include "sdk/client/src/call_scope.h"

namespace qmq::internal {

CallbackQueue::CallbackQueue(const void* client,
                             Executor& executor,
                             Executor& timers,
                             const Clock& clock,
                             const Logger& logger,
                             bool inline_at_end)
    : client_(client),
      executor_(executor),
      timers_(timers),
      clock_(clock),
      logger_(logger),
      inline_at_end_(inline_at_end) {}

void CallbackQueue::Add(Task task, bool may_run) {
    {
        std::lock_guard lock(mutex_);
        if (finished_) {
            return;
        }
        tasks_.push_back(std::move(task));
        if (scheduled_) {
            return;
        }
        scheduled_ = true;
    }
    may_run ? Drain() : Schedule();
}

void CallbackQueue::Schedule() {
    auto drain = [self = weak_from_this()] {
        if (auto queue = self.lock()) {
            queue->Drain();
        }
    };
    bool taken = false;
    try {
        taken = executor_.Post(drain);
    } catch (...) {
        logger_.Error("the callback executor threw from Post; trying again");
    }
    if (taken) {
        return;
    }
    // Full for now. A callback is owed, so it is offered again until it is taken.
    constexpr std::chrono::milliseconds kPause{10};
    const TimerId timer = timers_.PostAt(clock_.Now() + kPause, [self = weak_from_this()] {
        if (auto queue = self.lock()) {
            queue->Schedule();
        }
    });
    if (timer == 0) {
        std::lock_guard lock(mutex_);
        scheduled_ = false;  // Everything has stopped: `Finish` runs what is left.
    }
}

void CallbackQueue::RunOne(Task& task) noexcept {
    CallScope scope(client_, nullptr);
    RunUserCode(task);
}

void CallbackQueue::LogThrown(const char* what) const noexcept {
    try {
        logger_.Error(std::string("a callback threw: ") + what);
    } catch (...) {
        // Out of memory: the line is lost, the callback's neighbours are not.
    }
}

void CallbackQueue::Drop() {
    std::deque<Task> dropped;
    std::lock_guard lock(mutex_);
    finished_ = true;
    closed_.store(true, std::memory_order_release);
    dropped.swap(tasks_);
}

void CallbackQueue::Drain() {
    // A callback may destroy the client, and with it the last owner of what we use.
    const std::shared_ptr<void> owner = owner_.lock();
    if (owner == nullptr) {
        return;
    }
    std::unique_lock lock(mutex_);
    if (draining_) {
        return;
    }
    draining_ = true;
    while (!tasks_.empty()) {
        {
            Task task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            RunOne(task);
        }  // Destroyed without the lock: captures may be anything.
        lock.lock();
    }
    draining_ = false;
    scheduled_ = false;
    changed_.notify_all();
    lock.unlock();
    drained_();
}

void CallbackQueue::Finish(std::chrono::milliseconds grace) {
    const bool inside = CallScope::InsideCallbackOf(client_);
    std::deque<Task> dropped;
    std::unique_lock lock(mutex_);
    if (inside || (inline_at_end_ && !draining_)) {
        while (!tasks_.empty()) {
            Task task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            RunOne(task);
            task = nullptr;
            lock.lock();
        }
    } else {
        changed_.wait_for(lock, grace, [this] { return tasks_.empty() && !draining_; });
    }
    finished_ = true;
    closed_.store(true, std::memory_order_release);
    dropped.swap(tasks_);
    const std::size_t lost = dropped.size();
    lock.unlock();
    if (lost > 0) {
        logger_.Error("shutdown: a callback did not return in time; " + std::to_string(lost) +
                      " further callbacks are dropped");
    }
}

}  // namespace qmq::internal
