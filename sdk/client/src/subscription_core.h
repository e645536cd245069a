#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "qmq/subscription.h"

#include "sdk/client/src/consumer_stream.h"
#include "sdk/client/src/delivery_core.h"
#include "sdk/client/src/handler_chain.h"
#include "sdk/client/src/router.h"
#include "sdk/client/src/runtime.h"

namespace qmq::internal {

/// A subscription: a stream to each broker group of its route, and up to `parallelism` runners that
/// take its messages through the handler. A runner takes the messages of one run while there are
/// any, and makes room for others on the executor after a while. Thread-safe.
class SubscriptionCore final : public StreamOwner,
                               public RouteWatcher,
                               public std::enable_shared_from_this<SubscriptionCore> {
public:
    SubscriptionCore(std::shared_ptr<ClientRuntime> runtime,
                     std::shared_ptr<Router> router,
                     std::shared_ptr<LinkPool> links,
                     SubscriptionOptions options,
                     std::string group,
                     std::unique_ptr<HandlerChain> chain,
                     UniqueFunction<void(const SubscriptionCore*)> on_gone);

    void Start();
    void Pause();
    void Resume();
    Status Close(std::chrono::milliseconds timeout);
    Subscription::Stats stats() const;

    /// Takes no more, lets running handlers end, then leaves. `closed` is called once.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t handed_back = 0;
        std::uint64_t handlers_running = 0;
        std::uint64_t acks_unconfirmed = 0;
    };
    /// Leaves now, whatever runs.
    Left Abort(const Status& why);
    /// For a shutdown from inside a handler of it: waits until no other handler runs and all acks
    /// are confirmed. `BeginClose` has been called.
    void WaitForOthers(std::chrono::steady_clock::time_point until);

    void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) override;
    void OnAcksConfirmed() override;
    void OnRoute(const RouteKey& key, const std::vector<BrokerGroup>& groups) override;
    void OnRouteError(const RouteKey& key, const Status& status) override;

private:
    using Lock = std::unique_lock<std::mutex>;
    using RunPtr = std::shared_ptr<DeliveryRun>;
    using StreamPtr = std::shared_ptr<ConsumerStream>;
    struct Runner {
        std::atomic<bool> inside{false};  // User code runs.
    };
    struct Queued {
        RunPtr run;
        std::uint32_t runners = 0;
    };

    // subscription_core.cc
    RouteKey Key() const;
    StreamConfig MakeConfig(std::size_t stream_count) const;
    std::vector<StreamPtr> Streams() const;
    void CheckIdle();
    void OnStreamClosed();
    std::uint64_t RunningHandlers() const;

    // subscription_runner.cc
    Executor& HandlerExecutor();
    void StartRunners(std::size_t messages);
    bool PostRunner(const std::shared_ptr<Runner>& runner);
    void OnRefused(const std::shared_ptr<Runner>& runner);
    void Run(const std::shared_ptr<Runner>& runner);
    bool RunOne(Runner& runner, const RunPtr& run, TimePoint until, std::uint32_t* budget);
    RunPtr PickRun(const RunPtr& done);
    bool Handle(Runner& runner, const RunPtr& run, DeliveryRun::Claim& claim);
    void HandleManual(const RunPtr& run, DeliveryRun::Claim& claim);
    bool IsForAnotherGroup(const Message& message) const;
    void Fail(const RunPtr& run,
              std::uint64_t sequence,
              const HandlerOutcome& outcome,
              Decision* decision = nullptr);
    void EndRunner(const std::shared_ptr<Runner>& runner);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;
    const SubscriptionOptions options_;
    const std::string group_;
    const std::unique_ptr<HandlerChain> chain_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    // Everything below is guarded by mutex_.
    UniqueFunction<void(const SubscriptionCore*)> on_gone_;
    std::map<std::string, StreamPtr> streams_;
    std::vector<StreamPtr> leaving_;  // Of broker groups that left the route.
    std::deque<Queued> queue_;
    std::vector<std::shared_ptr<Runner>> runners_;
    std::uint32_t refused_ = 0;  // Runners that the executor would not take, to be offered again.
    Backoff refused_backoff_;
    Random random_;
    TimerSlot refused_timer_;
    std::uint64_t delivered_count_ = 0;
    std::uint64_t gone_acked_ = 0;
    std::uint64_t gone_failed_ = 0;
    bool paused_ = false;
    bool closing_ = false;
    bool streams_closing_ = false;
    bool closed_ = false;
    std::uint64_t handed_back_ = 0;
    std::vector<Task> on_closed_;
};

}  // namespace qmq::internal

namespace qmq {
struct SubscriptionAccess {
    static Subscription Make(std::shared_ptr<internal::SubscriptionCore> core) {
        return Subscription(std::move(core));
    }
};
}  // namespace qmq
