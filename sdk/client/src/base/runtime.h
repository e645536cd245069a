#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "qmq/client_options.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/id.h"
#include "qmq/process_mark.h"
#include "qmq/random.h"

#include "sdk/client/src/base/backoff.h"
#include "sdk/client/src/base/callback_queue.h"
#include "sdk/client/src/base/handler_pool.h"
#include "sdk/client/src/base/logger.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/timer_slot.h"

namespace qmq::internal {

/// The threads, clock, chance and log of one client: its own, or those of `ClientOptions::runtime`.
/// Everything else of the client keeps it alive. Thread-safe.
class ClientRuntime : public std::enable_shared_from_this<ClientRuntime> {
public:
    static std::shared_ptr<ClientRuntime> Make(const ClientOptions& options);
    ~ClientRuntime();
    ClientRuntime(const ClientRuntime&) = delete;
    ClientRuntime& operator=(const ClientRuntime&) = delete;

    /// Where it was made: in another process nothing of the client is touched.
    const ProcessMark& process() const { return process_; }
    const Clock& clock() const { return clock_; }
    TimePoint Now() const { return clock_.Now(); }
    /// Timers and the client's own work.
    Executor& work() { return *work_; }
    CallbackQueue& callbacks() { return *callbacks_; }
    const std::shared_ptr<CallbackQueue>& callback_queue() const { return callbacks_; }
    /// Where the handlers of a subscription without an executor of its own run, so many at once.
    /// The threads start at the first call.
    std::shared_ptr<Executor> JoinHandlers(std::size_t handlers) QMQ_EXCLUDES(mutex_);
    /// Runs `task`, which renews idempotency claims and may block: on a thread of its own, so that
    /// a store that hangs holds up no other one's. There are as many as have run at once.
    /// False when it was refused.
    bool PostRenewal(Task task) QMQ_EXCLUDES(mutex_);
    Logger& log() const { return *log_; }
    const std::shared_ptr<Logger>& logger() const { return log_; }
    MessageIdGenerator& ids() { return *ids_; }
    /// Seeded by this client's chance, so that one seed replays everything.
    Random MakeRandom() QMQ_EXCLUDES(mutex_);
    const std::string& client_id() const { return client_id_; }
    const std::string& app_code() const { return app_code_; }
    BackoffOptions reconnect_backoff() const { return reconnect_backoff_; }
    bool inline_callbacks() const { return inline_callbacks_; }
    /// Whether answers come on other threads than the calling one: false on the thread that keeps
    /// the client's timers, inside of a callback that runs on a transport's thread, and inside of
    /// anything on executors of somebody else's, where nobody knows.
    bool MayWaitForAnswers() const;

    /// A callback or handler has left messages in an open batch although nothing is on its way,
    /// because they come in quick succession. Who runs them knows when no more will come, and says
    /// so by `WakeProducers`. (For other threads nobody knows: what they send gathers for the
    /// linger, and must not be sent in pieces because callbacks have run.)
    void NoteGathered() { gathered_.store(true, std::memory_order_relaxed); }
    void WakeProducers() {
        if (gathered_.load(std::memory_order_relaxed) && gathered_.exchange(false)) {
            wake_producers_();
        }
    }
    /// Before anything runs.
    void SetWakeProducers(std::function<void()> wake) { wake_producers_ = std::move(wake); }

    /// Nothing of the user's begins after this: checked before every filter and handler. In one
    /// order with the mark that a handler sets before it looks: either the handler sees this, or
    /// whoever stops sees the handler.
    bool stopped() const { return stopped_.load(std::memory_order_seq_cst); }
    void MarkStopped() { stopped_.store(true, std::memory_order_seq_cst); }
    /// Whether the threads are its own, and not those of `ClientOptions::runtime`.
    bool has_own_threads() const { return own_work_ != nullptr; }
    /// Ends the threads that are its own. Waits for what runs on them until `deadline`, then leaves
    /// them to themselves.
    void Stop(TimePoint deadline) QMQ_EXCLUDES(mutex_);

private:
    explicit ClientRuntime(const ClientOptions& options);

    const ProcessMark process_;
    const Clock& clock_;
    const std::shared_ptr<Logger> log_;
    std::string client_id_;
    std::string app_code_;
    BackoffOptions reconnect_backoff_;
    std::size_t handler_threads_;
    const bool inline_callbacks_;
    const bool own_threads_;

    Mutex mutex_;
    Random random_ QMQ_GUARDED_BY(mutex_);
    std::unique_ptr<ThreadPool> own_work_;
    std::unique_ptr<ThreadPool> own_callbacks_;
    std::unique_ptr<ThreadPool> own_handlers_ QMQ_GUARDED_BY(mutex_);
    std::shared_ptr<HandlerPool> handler_pool_ QMQ_GUARDED_BY(mutex_);
    std::unique_ptr<ThreadPool> own_renewals_ QMQ_GUARDED_BY(mutex_);
    std::size_t renewals_running_ QMQ_GUARDED_BY(mutex_) = 0;
    Executor* work_;
    Executor* given_handlers_;
    std::shared_ptr<CallbackQueue> callbacks_;
    std::unique_ptr<MessageIdGenerator> ids_;
    std::function<void()> wake_producers_ = [] {};
    std::atomic<bool> gathered_{false};
    std::atomic<bool> stopped_{false};
};

}  // namespace qmq::internal
