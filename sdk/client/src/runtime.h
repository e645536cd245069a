#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "qmq/client.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/id.h"
#include "qmq/random.h"

#include "sdk/client/src/backoff.h"
#include "sdk/client/src/callback_queue.h"
#include "sdk/client/src/logger.h"

namespace qmq::internal {

/// The threads, clock, chance and log of one client: its own, or those of `ClientOptions::runtime`.
/// Everything else of the client keeps it alive. Thread-safe.
class ClientRuntime : public std::enable_shared_from_this<ClientRuntime> {
public:
    static std::shared_ptr<ClientRuntime> Make(const ClientOptions& options);
    ~ClientRuntime();
    ClientRuntime(const ClientRuntime&) = delete;
    ClientRuntime& operator=(const ClientRuntime&) = delete;

    const Clock& clock() const { return clock_; }
    TimePoint Now() const { return clock_.Now(); }
    /// Timers and the client's own work.
    Executor& work() { return *work_; }
    CallbackQueue& callbacks() { return *callbacks_; }
    const std::shared_ptr<CallbackQueue>& callback_queue() const { return callbacks_; }
    /// Where handlers without an executor of their own run. Its threads start at the first call.
    Executor& handlers();
    const Logger& log() const { return log_; }
    MessageIdGenerator& ids() { return *ids_; }
    /// Seeded by this client's chance, so that one seed replays everything.
    Random MakeRandom();
    const std::string& client_id() const { return client_id_; }
    const std::string& app_code() const { return app_code_; }
    BackoffOptions reconnect_backoff() const { return reconnect_backoff_; }
    bool inline_callbacks() const { return inline_callbacks_; }

    /// A callback or handler has left messages in an open batch although nothing is on its way,
    /// because they come in quick succession. Who runs them knows when no more will come, and says
    /// so by `KickProducers`. (For other threads nobody knows: what they send gathers for the
    /// linger, and must not be sent in pieces because callbacks have run.)
    void NoteGathered() { gathered_.store(true, std::memory_order_relaxed); }
    void KickProducers() {
        if (gathered_.load(std::memory_order_relaxed) && gathered_.exchange(false)) {
            kick_();
        }
    }
    /// Before anything runs.
    void SetKick(std::function<void()> kick) { kick_ = std::move(kick); }

    /// Nothing of the user's begins after this: checked before every filter and handler.
    bool stopped() const { return stopped_.load(std::memory_order_acquire); }
    void MarkStopped() { stopped_.store(true, std::memory_order_release); }
    /// Ends the threads that are its own. Waits for what runs on them for at most `wait`, then
    /// leaves them to themselves.
    void Stop(std::chrono::milliseconds wait);

private:
    explicit ClientRuntime(const ClientOptions& options);

    const Clock& clock_;
    Logger log_;
    std::string client_id_;
    std::string app_code_;
    BackoffOptions reconnect_backoff_;
    std::size_t handler_threads_;
    const bool inline_callbacks_;

    std::mutex mutex_;
    Random random_;  // guarded by mutex_
    std::unique_ptr<ThreadPool> own_work_;
    std::unique_ptr<ThreadPool> own_callbacks_;
    std::unique_ptr<ThreadPool> own_handlers_;  // guarded by mutex_
    Executor* work_;
    Executor* given_handlers_;
    std::shared_ptr<CallbackQueue> callbacks_;
    std::unique_ptr<MessageIdGenerator> ids_;
    std::function<void()> kick_ = [] {};
    std::atomic<bool> gathered_{false};
    std::atomic<bool> stopped_{false};
};

/// One timer of an owner that is kept alive by nobody but its users: setting it again replaces it.
/// Not thread-safe: used under its owner's lock.
class TimerSlot {
public:
    explicit TimerSlot(Executor& executor) : executor_(executor) {}
    ~TimerSlot() { Cancel(); }
    TimerSlot(const TimerSlot&) = delete;
    TimerSlot& operator=(const TimerSlot&) = delete;

    bool armed() const { return timer_ != 0; }
    TimePoint when() const { return when_; }
    /// Arms it for `when` unless it will fire sooner already.
    template <typename MakeTask>
    void ArmBy(TimePoint when, MakeTask&& make_task) {
        if (timer_ != 0 && when_ <= when) {
            return;
        }
        Cancel();
        when_ = when;
        timer_ = executor_.PostAt(when, make_task());
    }
    /// The task runs: the slot is free.
    void OnFired() { timer_ = 0; }
    void Cancel() {
        if (timer_ != 0) {
            executor_.Cancel(timer_);
            timer_ = 0;
        }
    }

private:
    Executor& executor_;
    TimerId timer_ = 0;
    TimePoint when_{};
};

}  // namespace qmq::internal
