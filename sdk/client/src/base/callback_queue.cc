#include "sdk/client/src/base/callback_queue.h"

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

/// A task of many callbacks on the thread that is in one of them.
struct CallbackQueue::Running {
    const CallbackQueue* queue = nullptr;
    Task* task = nullptr;
    Running* outer = nullptr;

    static thread_local Running* innermost;
};
thread_local CallbackQueue::Running* CallbackQueue::Running::innermost = nullptr;

CallbackQueue::CallbackQueue(const void* client,
                             Executor& executor,
                             Executor& timers,
                             const Clock& clock,
                             Logger& logger,
                             bool inline_at_end)
    : client_(client),
      executor_(executor),
      timers_(timers),
      clock_(clock),
      logger_(logger),
      inline_at_end_(inline_at_end) {}

bool CallbackQueue::Add(Entry entry, bool may_run) {
    {
        MutexLock lock(mutex_);
        if (finished_) {
            late_ += entry.count;
            return false;
        }
        taken_ += entry.count;
        entries_.push_back(std::move(entry));
        if (scheduled_) {
            return false;
        }
        scheduled_ = true;
    }
    if (!may_run) {
        Schedule();
    }
    return may_run;
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
        // Everything has stopped, and `Finish` runs what is left; or whoever looks next asks again.
        MutexLock lock(mutex_);
        scheduled_ = false;
        refused_.store(true, std::memory_order_relaxed);
    }
}

void CallbackQueue::RetryRefused() {
    {
        MutexLock lock(mutex_);
        refused_.store(false, std::memory_order_relaxed);
        if (finished_ || scheduled_ || entries_.empty()) {
            return;
        }
        scheduled_ = true;
    }
    Schedule();
}

void CallbackQueue::RunOne(Entry& entry) noexcept {
    CallScope scope(client_, nullptr);
    if (entry.many) {
        RunMany(entry.task);
    } else if (entry.count > 0) {
        RunUserCode(entry.task);
    } else {
        Guard(entry.task);
    }
    entry.task = nullptr;  // Inside the scope, and without the lock: captures may be anything.
}

void CallbackQueue::RunMany(Task& task) noexcept {
    Running running{this, &task, Running::innermost};
    Running::innermost = &running;
    task();
    Running::innermost = running.outer;
}

void CallbackQueue::LogThrown(const char* what) const noexcept {
    try {
        logger_.Error(std::string("a callback threw: ") + what);
    } catch (...) {
        // Out of memory: the line is lost, the callback's neighbours are not.
    }
}

void CallbackQueue::Drop() {
    std::deque<Entry> dropped;
    MutexLock lock(mutex_);
    finished_ = true;
    begun_.fetch_or(kClosed, std::memory_order_acq_rel);
    dropped.swap(entries_);
}

std::uint64_t CallbackQueue::owed() const {
    MutexLock lock(mutex_);
    return taken_ - (begun_.load(std::memory_order_acquire) & ~kClosed);
}

std::uint64_t CallbackQueue::late() const {
    MutexLock lock(mutex_);
    return late_;
}

void CallbackQueue::Drain() {
    // A callback may destroy the client, and with it the last owner of what we use.
    const std::shared_ptr<void> owner = owner_.lock();
    if (owner == nullptr) {
        return;
    }
    {
        MutexLock lock(mutex_);
        if (draining_) {
            return;
        }
        draining_ = true;
        while (!entries_.empty()) {
            Entry entry = std::move(entries_.front());
            entries_.pop_front();
            lock.Unlock();
            RunOne(entry);
            lock.Lock();
        }
        draining_ = false;
        scheduled_ = false;
        changed_.NotifyAll();
    }
    drained_();
}

/// For `Finish` where waiting would be waiting for this very thread: first what comes behind the
/// callback that called, then all others.
void CallbackQueue::RunRest() {
    for (Running* at = Running::innermost; at != nullptr && !time_is_over(); at = at->outer) {
        if (at->queue == this) {
            (*at->task)();
        }
    }
    MutexLock lock(mutex_);
    while (!entries_.empty() && !time_is_over()) {
        Entry entry = std::move(entries_.front());
        entries_.pop_front();
        lock.Unlock();
        RunOne(entry);
        lock.Lock();
    }
}

void CallbackQueue::SetRestUntil() {
    if (!inline_at_end_ || &clock_ == &SystemClock()) {
        rest_until_.store(finish_by_.time_since_epoch().count(), std::memory_order_relaxed);
    }
}

void CallbackQueue::Hurry(TimePoint deadline) {
    MutexLock lock(mutex_);
    if (deadline >= finish_by_) {
        return;
    }
    finish_by_ = deadline;
    if (runs_rest_) {
        SetRestUntil();
    }
    changed_.NotifyAll();
}

CallbackQueue::End CallbackQueue::Finish(TimePoint deadline) {
    const bool inside = CallScope::InsideCallbackOf(client_);
    std::deque<Entry> left;
    End end;
    MutexLock lock(mutex_);
    finish_by_ = std::min(finish_by_, deadline);
    if (inside || (!draining_ && (inline_at_end_ || !scheduled_))) {
        runs_rest_ = true;
        SetRestUntil();
        draining_ = true;  // Inside a callback it is: the executor keeps off meanwhile.
        lock.Unlock();
        RunRest();
        lock.Lock();
        draining_ = inside;
    } else {
        end.stuck = !changed_.WaitUntil(
            mutex_,
            [this]() QMQ_REQUIRES(mutex_) { return finish_by_; },
            [this]() QMQ_REQUIRES(mutex_) { return entries_.empty() && !draining_; });
    }
    end.stuck = end.stuck && draining_;
    finished_ = true;
    const std::uint64_t begun = begun_.fetch_or(kClosed, std::memory_order_acq_rel) & ~kClosed;
    end.dropped = taken_ - begun;
    left.swap(entries_);
    lock.Unlock();
    if (end.dropped > 0) {
        logger_.Error("shutdown: " + std::to_string(end.dropped) +
                      " callbacks were owed at the deadline and are never called" +
                      (end.stuck ? "; one that was called before has not returned" : ""));
    }
    return end;
}

}  // namespace qmq::internal
