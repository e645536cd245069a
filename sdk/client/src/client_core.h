#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "qmq/client.h"

#include "sdk/client/src/broker_link.h"
#include "sdk/client/src/handler_chain.h"
#include "sdk/client/src/producer_core.h"
#include "sdk/client/src/pull_core.h"
#include "sdk/client/src/router.h"
#include "sdk/client/src/runtime.h"
#include "sdk/client/src/subscription_core.h"

namespace qmq::internal {

/// Everything of one client. Thread-safe.
class ClientCore final : public std::enable_shared_from_this<ClientCore> {
public:
    static Result<std::shared_ptr<ClientCore>> Create(ClientOptions options);
    ~ClientCore();

    Result<Producer> MakeProducer(const ProducerOptions& options);
    Result<Subscription> Subscribe(SubscriptionOptions options, HandlerChain::AnyHandler handler);
    Result<PullConsumer> MakePullConsumer(PullConsumerOptions options);
    Status WaitReady(const std::string& subject, std::chrono::milliseconds timeout);
    ShutdownReport Shutdown(std::chrono::milliseconds timeout);
    void ShutdownAsync(std::chrono::milliseconds timeout,
                       UniqueFunction<void(const ShutdownReport&)> done);

    const std::string& client_id() const { return runtime_->client_id(); }

private:
    using Lock = std::unique_lock<std::mutex>;
    using GroupKey = std::pair<std::string, std::string>;  // Subject and group.
    enum class Stage : std::uint8_t { kRunning, kDraining, kEnding, kEnded };

    ClientCore(ClientOptions options, std::shared_ptr<ClientRuntime> runtime);
    Status Claim(const GroupKey& key);
    void Unclaim(const GroupKey& key);
    Status ResolveGroup(bool broadcast, std::string* group) const;
    /// Begins to drain, once. False when that has been done.
    bool BeginShutdown();
    void OneDrained();
    void KickProducers();
    void RemoveProducer(const ProducerCore* producer);
    /// Ends everything, once; what comes second waits for the first, not beyond `until`.
    ShutdownReport Finish(std::chrono::steady_clock::time_point until);
    ShutdownReport EndEverything(std::chrono::steady_clock::time_point until);
    void EndThreads(std::chrono::steady_clock::time_point until, bool stuck);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::vector<std::shared_ptr<Filter>> filters_;
    const std::chrono::milliseconds route_refresh_;
    std::shared_ptr<Transport> transport_;  // Until Finish.
    std::shared_ptr<Router> router_;
    std::shared_ptr<LinkPool> links_;

    std::mutex mutex_;
    std::condition_variable changed_;
    // Everything below is guarded by mutex_.
    Stage stage_ = Stage::kRunning;
    std::size_t draining_ = 0;  // Parts that have not drained.
    std::vector<std::shared_ptr<ProducerCore>> producers_;
    std::map<GroupKey, std::shared_ptr<SubscriptionCore>> subscriptions_;  // Null while it starts.
    std::map<GroupKey, std::shared_ptr<PullCore>> pullers_;
    // What a shutdown that has begun ends.
    std::vector<std::shared_ptr<ProducerCore>> ending_producers_;
    std::vector<std::shared_ptr<SubscriptionCore>> ending_subscriptions_;
    std::vector<std::shared_ptr<PullCore>> ending_pullers_;
    ShutdownReport report_;
    UniqueFunction<void()> on_drained_;
};

}  // namespace qmq::internal
