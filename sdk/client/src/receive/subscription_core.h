#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qmq/subscription.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/readiness.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/receive/consumer_stream.h"
#include "sdk/client/src/receive/dispatcher.h"
#include "sdk/client/src/receive/handler_chain.h"
#include "sdk/client/src/receive/stream_set.h"

namespace qmq::internal {

/// A subscription: a set of streams that brings messages, a dispatcher that takes them through the
/// handler, and here how it is paused and how it ends. Thread-safe.
class SubscriptionCore final : public StreamOwner,
                               public DispatcherOwner,
                               public std::enable_shared_from_this<SubscriptionCore> {
public:
    SubscriptionCore(std::shared_ptr<ClientRuntime> runtime,
                     std::shared_ptr<Router> router,
                     std::shared_ptr<LinkPool> links,
                     SubscriptionOptions options,
                     std::string group,
                     std::unique_ptr<HandlerChain> chain,
                     UniqueFunction<void(const SubscriptionCore*)> on_gone);

    const ProcessMark& process() const { return runtime_->process(); }
    void Start();
    void Pause() { SetPaused(true); }
    void Resume() { SetPaused(false); }
    Status Close(std::chrono::milliseconds timeout);
    Status WaitReady(std::chrono::milliseconds timeout);
    /// Ok when every broker group of the route has confirmed it; else the reason.
    Status ready() const;
    Subscription::Stats stats() const;
    std::vector<std::string> warnings() const { return streams_->warnings(); }

    /// Takes no more, lets running handlers end, then leaves. `closed` is called once. What waits
    /// is handed back; where it is acked already (at most once) it is handled before.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t handed_back = 0;
        std::uint64_t dropped = 0;  ///< Nobody gets these.
        std::uint64_t handlers_running = 0;
        std::uint64_t acks_unconfirmed = 0;
        std::uint64_t undecided = 0;
    };
    /// No handler begins any more.
    void StopHandling();
    /// Leaves now, whatever runs. `StopHandling` has been called.
    Left Abort(const Status& why);
    /// For a shutdown from inside a handler of it: nobody waits for that one any more.
    void EnterShutdown();
    /// Waits until no handler runs that is not in a shutdown itself, and all acks are confirmed.
    /// `BeginClose` and `EnterShutdown` have been called.
    void WaitForOthers(std::chrono::steady_clock::time_point until);

    void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) override;
    void OnAcksConfirmed() override;
    void OnReadinessChanged() override { readiness_.Changed(); }
    void OnRunnerEnded() override;

private:
    void SetPaused(bool paused);
    void ReleaseUnclaimed();
    void CheckIdle();
    bool OthersAreDone() const QMQ_REQUIRES(mutex_);
    void CloseStreams();
    void End();

    const std::shared_ptr<ClientRuntime> runtime_;
    const SubscriptionOptions options_;
    const std::string group_;
    const std::shared_ptr<StreamSet> streams_;
    const std::shared_ptr<Dispatcher> dispatcher_;
    Readiness readiness_;

    mutable Mutex mutex_;
    CondVar changed_;
    UniqueFunction<void(const SubscriptionCore*)> on_gone_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t pauses_ QMQ_GUARDED_BY(mutex_) = 0;  // Calls of Pause and Resume.
    bool closing_ QMQ_GUARDED_BY(mutex_) = false;
    bool streams_closing_ QMQ_GUARDED_BY(mutex_) = false;
    bool streams_left_ QMQ_GUARDED_BY(mutex_) = false;  // Nothing is held by them any more.
    bool closed_ QMQ_GUARDED_BY(mutex_) = false;
    std::size_t in_shutdown_ QMQ_GUARDED_BY(mutex_) = 0;  // Handlers.
    std::uint64_t released_ QMQ_GUARDED_BY(mutex_) = 0;   // Messages that nobody handles here.
    std::vector<Task> on_closed_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal

namespace qmq {
struct SubscriptionAccess {
    static Subscription Make(std::shared_ptr<internal::SubscriptionCore> core) {
        return Subscription(std::move(core));
    }
};
}  // namespace qmq
