#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "qmq/executor.h"

#include "sdk/client/src/base/backoff.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/receive/delivery_run.h"
#include "sdk/client/src/receive/message_handling.h"
#include "sdk/client/src/receive/stream_set.h"

namespace qmq::internal {

struct DispatcherOptions {
    std::shared_ptr<Executor> executor;
    std::uint32_t parallelism = 1;
    /// What waits for so long while no handler takes anything goes to others. Well before a lease
    /// ends, so that a process that hangs holds nothing up for longer than it must.
    std::chrono::nanoseconds patience{};
    /// More than so many that wait for so long go to others as well, though handlers go on.
    std::uint64_t most_waiting = 0;
    /// Who it is, for calls from inside a handler (`CallScope`).
    const void* subscription = nullptr;
};

/// Told without the lock.
class DispatcherOwner {
public:
    virtual ~DispatcherOwner() = default;
    /// After `BeginDrain` or `Close`: one more runner has ended.
    virtual void OnRunnerEnded() = 0;
};

/// Who handles what next: the queue of a subscription's runs, and up to `parallelism` runners on
/// its executor that take messages from it. A runner takes the messages of one run while there are
/// any, and goes to the end of the executor's queue after a while, so that subscriptions that share
/// threads share them fairly. Thread-safe.
class Dispatcher final : public std::enable_shared_from_this<Dispatcher> {
public:
    using RunPtr = std::shared_ptr<DeliveryRun>;

    Dispatcher(std::shared_ptr<ClientRuntime> runtime,
               DispatcherOptions options,
               std::shared_ptr<MessageHandling> handling,
               std::shared_ptr<StreamSet> streams);

    /// Before the first `Add`.
    void SetOwner(std::weak_ptr<DispatcherOwner> owner);
    /// False after `Close`: nobody will handle them.
    bool Add(std::vector<RunPtr> runs);
    /// Asks for timers again that the executor has refused. So does whatever adds runs or ends
    /// them.
    void RetryTimers();
    /// The owner is told of runners that end; handlers go on.
    void BeginDrain();
    /// Asks handlers that run to end soon.
    void RequestStop();
    /// Begins nothing new but what is claimed, and asks handlers to stop.
    void Close();

    /// Claimed when the client had stopped, and so not handled.
    std::uint64_t turned_away_count() const { return handling_->turned_away_count(); }
    std::uint64_t delivered_count() const;
    std::uint64_t waiting_count() const;
    std::uint64_t handler_count() const;  ///< Handlers that run.
    /// When the client has stopped and nothing is unclaimed: until what was claimed has begun or is
    /// turned away. No user code runs meanwhile, so that is soon.
    void AwaitClaims() const;
    std::size_t runner_count() const;

private:
    struct Runner {
        std::atomic<RunnerState> state{RunnerState::kFree};
        /// When it last took a message. Written by the runner alone.
        std::atomic<TimePoint> claimed_at{TimePoint::min()};
    };
    using RunnerPtr = std::shared_ptr<Runner>;
    struct Queued {
        RunPtr run;
        std::uint32_t runners = 0;
    };
    /// A change of `stalled_` on its way to the streams.
    struct Stall {
        std::uint64_t order = 0;
        bool on = false;
    };

    class RunTask;

    // dispatcher.cc
    void StartRunners(std::size_t messages);
    void PostRunner(const RunnerPtr& runner);
    void OnRefused(const RunnerPtr& runner);
    void ArmRefused(TimePoint when) QMQ_REQUIRES(mutex_);
    void OnRefusedTimer(TimerSlot::Shot shot);
    void RearmRefused() QMQ_REQUIRES(mutex_);
    void Run(const RunnerPtr& runner);
    bool RunOne(
        Runner& runner, const RunPtr& run, TimePoint until, TimePoint* now, std::uint32_t* budget);
    RunPtr PickRun(const RunPtr& done);
    void LeaveRun(const RunPtr& run);
    void EndRunner(const RunnerPtr& runner);
    void Forget(const RunnerPtr& runner) QMQ_REQUIRES(mutex_);
    std::uint64_t Inside() const QMQ_REQUIRES(mutex_);
    std::shared_ptr<DispatcherOwner> Waiting() const QMQ_REQUIRES(mutex_);

    // dispatcher_watch.cc: whether handlers go on.
    TimePoint LastClaim() const QMQ_REQUIRES(mutex_);
    void BeginWatch(TimePoint now) QMQ_REQUIRES(mutex_);
    void ArmWatch(TimePoint now) QMQ_REQUIRES(mutex_);
    void ArmWatchAt(TimePoint due) QMQ_REQUIRES(mutex_);
    void OnWatch(TimerSlot::Shot shot);
    bool AnyUnclaimed() const QMQ_REQUIRES(mutex_);
    std::string BusyLine(TimePoint now, bool any_waits) QMQ_REQUIRES(mutex_);
    Stall SetStalled(bool stalled) QMQ_REQUIRES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    const DispatcherOptions options_;
    const std::shared_ptr<MessageHandling> handling_;
    const std::shared_ptr<StreamSet> streams_;

    mutable Mutex mutex_;
    std::weak_ptr<DispatcherOwner> owner_ QMQ_GUARDED_BY(mutex_);
    std::deque<Queued> queue_ QMQ_GUARDED_BY(mutex_);
    std::vector<RunnerPtr> runners_ QMQ_GUARDED_BY(mutex_);
    // Runners that the executor would not take, to be offered again.
    std::uint32_t refused_ QMQ_GUARDED_BY(mutex_) = 0;
    Backoff refused_backoff_ QMQ_GUARDED_BY(mutex_);
    Random random_ QMQ_GUARDED_BY(mutex_);
    TimerSlot refused_timer_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t delivered_count_ QMQ_GUARDED_BY(mutex_) = 0;
    bool draining_ QMQ_GUARDED_BY(mutex_) = false;
    bool closed_ QMQ_GUARDED_BY(mutex_) = false;

    TimerSlot watch_timer_ QMQ_GUARDED_BY(mutex_);
    TimePoint gone_claimed_at_ QMQ_GUARDED_BY(mutex_) = TimePoint::min();  // By ended runners.
    TimePoint progress_at_ QMQ_GUARDED_BY(mutex_){};     // The last claim, or when this began.
    TimePoint none_waited_at_ QMQ_GUARDED_BY(mutex_){};  // When no message was seen to wait.
    std::chrono::nanoseconds next_busy_line_ QMQ_GUARDED_BY(mutex_){};
    // What waited was given back; no more is taken until a runner is free.
    bool stalled_ QMQ_GUARDED_BY(mutex_) = false;
    std::uint64_t stall_order_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace qmq::internal
