#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "qmq/clock.h"
#include "qmq/executor.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/timer_slot.h"

namespace qmq::internal {

/// Shares the threads for handlers out to subscriptions. Each gets an executor of its own, on which
/// it may have as many tasks at once as it has handlers.
///
/// There are as many threads as are needed, up to the sum of all handlers and to `most_threads`,
/// but never fewer than subscriptions: a task that has waited for some milliseconds while none
/// began gets a new thread. (Handlers that are quick need few.) One thread is kept free for each
/// subscription that uses none, so one whose handlers all hang stops no other.
///
/// Thread-safe. Tasks run on `threads` only.
class HandlerPool final : public std::enable_shared_from_this<HandlerPool> {
public:
    /// Called so that there are at least so many threads. Returns how many there are.
    using Grow = std::function<std::size_t(std::size_t)>;

    HandlerPool(Executor& threads,
                Grow grow,
                std::size_t most_threads,
                Executor& timers,
                const Clock& clock);

    /// A place for a subscription with so many handlers, which it gives up by destroying it.
    std::shared_ptr<Executor> Join(std::size_t handlers);
    /// Destroys what waits, and refuses what comes.
    void Stop();

private:
    class Place;
    struct Member {
        std::size_t handlers = 0;
        std::size_t running = 0;  // Given to the threads and not ended.
    };
    struct Waiting {
        std::uint64_t member = 0;
        Task task;
    };

    bool Post(std::uint64_t member, Task task);
    void Leave(std::uint64_t member);
    std::size_t Limit() const QMQ_REQUIRES(mutex_);
    bool MayRun(const Member& member) const QMQ_REQUIRES(mutex_);
    std::size_t Admit() QMQ_REQUIRES(mutex_);
    void Give(std::size_t count);
    void RunOne();
    void ArmGrowth() QMQ_REQUIRES(mutex_);
    void OnGrowth(TimerSlot::Shot shot);
    void GrowTo(std::size_t threads);

    Executor& threads_;
    const Grow grow_;
    const std::size_t most_threads_;
    const Clock& clock_;

    mutable Mutex mutex_;
    std::map<std::uint64_t, Member> members_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t last_member_ QMQ_GUARDED_BY(mutex_) = 0;
    std::deque<Waiting> waiting_ QMQ_GUARDED_BY(mutex_);
    std::deque<Waiting> admitted_ QMQ_GUARDED_BY(mutex_);  // Given to the threads, not begun.
    std::size_t running_ QMQ_GUARDED_BY(mutex_) = 0;       // Of all members.
    std::size_t handlers_ QMQ_GUARDED_BY(mutex_) = 0;
    std::size_t idle_members_ QMQ_GUARDED_BY(mutex_) = 0;  // With nothing running.
    std::size_t thread_count_ QMQ_GUARDED_BY(mutex_) = 0;
    std::uint64_t begun_count_ QMQ_GUARDED_BY(mutex_) = 0;
    std::uint64_t watched_begun_ QMQ_GUARDED_BY(mutex_) = 0;
    TimerSlot timer_ QMQ_GUARDED_BY(mutex_);
    bool stopped_ QMQ_GUARDED_BY(mutex_) = false;
};

}  // namespace qmq::internal
