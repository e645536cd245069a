#include "sdk/client/src/client_core.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "sdk/client/src/call_scope.h"

namespace qmq::internal {

namespace {

Result<std::unique_ptr<Transport>> MakeTransport(const ClientOptions& options,
                                                 ClientRuntime& runtime) {
    const std::string scheme = options.uri.substr(0, options.uri.find(':'));
    std::string known;
    for (const auto& factory : options.transports) {
        for (const std::string& candidate : factory->Schemes()) {
            if (candidate == scheme) {
                return factory->Make(options.uri,
                                     {runtime.clock(), runtime.work(), runtime.client_id()});
            }
            known += (known.empty() ? "" : ", ") + candidate;
        }
    }
    return Status::InvalidArgument(
        "uri: \"" + options.uri + "\": no transport for \"" + scheme + "\" is listed in " +
        "ClientOptions::transports (there " +
        (known.empty() ? "are none; add for instance qmq::InprocTransport()" : "is: " + known) +
        ")");
}

}  // namespace

Result<std::shared_ptr<ClientCore>> ClientCore::Create(ClientOptions options) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    auto runtime = ClientRuntime::Make(options);
    Result<std::unique_ptr<Transport>> transport = MakeTransport(options, *runtime);
    if (!transport.ok()) {
        return transport.status();
    }
    std::shared_ptr<ClientCore> core(new ClientCore(std::move(options), std::move(runtime)));
    core->transport_ = std::move(*transport);
    core->links_ = std::make_shared<LinkPool>(core->runtime_, core->transport_);
    core->runtime_->SetKick([self = std::weak_ptr(core)] {
        if (auto live = self.lock()) {
            live->KickProducers();
        }
    });
    core->router_ =
        std::make_shared<Router>(core->runtime_, core->transport_, core->route_refresh_);
    return core;
}

ClientCore::ClientCore(ClientOptions options, std::shared_ptr<ClientRuntime> runtime)
    : runtime_(std::move(runtime)),
      filters_(std::move(options.filters)),
      route_refresh_(options.route_refresh) {}

ClientCore::~ClientCore() {
    Finish(std::chrono::steady_clock::now());
}

Result<Producer> ClientCore::MakeProducer(const ProducerOptions& options) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    auto producer = std::make_shared<ProducerCore>(runtime_, router_, links_, options);
    {
        Lock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return Status::Cancelled("the client has been shut down");
        }
        producers_.push_back(producer);
    }
    // When the last handle goes, what was taken is still sent; then the producer goes as well.
    std::shared_ptr<ProducerCore> handle(producer.get(),
                                         [producer, self = weak_from_this()](ProducerCore*) {
                                             producer->BeginClose([self, raw = producer.get()] {
                                                 if (auto core = self.lock()) {
                                                     core->RemoveProducer(raw);
                                                 }
                                             });
                                         });
    return ProducerAccess::MakeProducer(std::move(handle));
}

void ClientCore::KickProducers() {
    std::vector<std::shared_ptr<ProducerCore>> producers;
    {
        Lock lock(mutex_);
        producers = producers_;
    }
    for (const auto& producer : producers) {
        producer->Kick();
    }
}

void ClientCore::RemoveProducer(const ProducerCore* producer) {
    std::shared_ptr<ProducerCore> removed;  // Destroyed without the lock.
    Lock lock(mutex_);
    auto found = std::find_if(producers_.begin(), producers_.end(), [producer](const auto& one) {
        return one.get() == producer;
    });
    if (found != producers_.end()) {
        removed = std::move(*found);
        producers_.erase(found);
    }
}

Status ClientCore::ResolveGroup(bool broadcast, std::string* group) const {
    if (!broadcast) {
        return Status::Ok();
    }
    *group = runtime_->client_id();
    return ValidateGroup(*group).WithContext(
        "client_id, which is the consumer group of a broadcast subscription");
}

Status ClientCore::Claim(const GroupKey& key) {
    Lock lock(mutex_);
    if (stage_ != Stage::kRunning) {
        return Status::Cancelled("the client has been shut down");
    }
    if (subscriptions_.contains(key) || pullers_.contains(key)) {
        return Status::AlreadyExists("this client has a consumer of subject " + key.first +
                                     " in group " + key.second + " already");
    }
    subscriptions_[key] = nullptr;
    return Status::Ok();
}

void ClientCore::Unclaim(const GroupKey& key) {
    std::shared_ptr<SubscriptionCore> subscription;  // Destroyed without the lock.
    std::shared_ptr<PullCore> puller;
    Lock lock(mutex_);
    if (auto found = subscriptions_.find(key); found != subscriptions_.end()) {
        subscription = std::move(found->second);
        subscriptions_.erase(found);
    }
    if (auto found = pullers_.find(key); found != pullers_.end()) {
        puller = std::move(found->second);
        pullers_.erase(found);
    }
}

Result<Subscription> ClientCore::Subscribe(SubscriptionOptions options,
                                           HandlerChain::AnyHandler handler) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    if (std::visit([](const auto& one) { return !one; }, handler)) {
        return Status::InvalidArgument("SubscriptionOptions: the handler is empty");
    }
    if (options.idempotency != nullptr && std::holds_alternative<ManualHandler>(handler)) {
        return Status::InvalidArgument(
            "SubscriptionOptions: idempotency needs a handler whose return ends the message; with "
            "a manual handler call the store yourself");
    }
    std::string group = options.group;
    if (Status status = ResolveGroup(options.broadcast, &group); !status.ok()) {
        return status;
    }
    const GroupKey key{options.subject, group};
    if (Status status = Claim(key); !status.ok()) {
        return status;
    }
    auto chain =
        std::make_unique<HandlerChain>(runtime_, filters_, options, group, std::move(handler));
    auto subscription =
        std::make_shared<SubscriptionCore>(runtime_,
                                           router_,
                                           links_,
                                           std::move(options),
                                           group,
                                           std::move(chain),
                                           [self = weak_from_this(), key](const SubscriptionCore*) {
                                               if (auto core = self.lock()) {
                                                   core->Unclaim(key);
                                               }
                                           });
    {
        Lock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return Status::Cancelled("the client has been shut down");
        }
        subscriptions_[key] = subscription;
    }
    subscription->Start();
    return SubscriptionAccess::Make(std::move(subscription));
}

Result<PullConsumer> ClientCore::MakePullConsumer(PullConsumerOptions options) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    std::string group = options.group;
    if (Status status = ResolveGroup(options.broadcast, &group); !status.ok()) {
        return status;
    }
    const GroupKey key{options.subject, group};
    if (Status status = Claim(key); !status.ok()) {
        return status;
    }
    auto puller = std::make_shared<PullCore>(runtime_,
                                             router_,
                                             links_,
                                             std::move(options),
                                             group,
                                             [self = weak_from_this(), key](const PullCore*) {
                                                 if (auto core = self.lock()) {
                                                     core->Unclaim(key);
                                                 }
                                             });
    {
        Lock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return Status::Cancelled("the client has been shut down");
        }
        subscriptions_.erase(key);
        pullers_[key] = puller;
    }
    puller->Start();
    // The last handle leaves the group, when what it pulled has ended.
    std::shared_ptr<PullCore> handle(puller.get(),
                                     [puller](PullCore*) { puller->BeginClose(nullptr); });
    return PullConsumerAccess::Make(std::move(handle));
}

namespace {

/// Watches one route until one of its links is up.
class ReadyWatcher final : public RouteWatcher,
                           public LinkObserver,
                           public std::enable_shared_from_this<ReadyWatcher> {
public:
    explicit ReadyWatcher(std::shared_ptr<LinkPool> links) : links_(std::move(links)) {}

    void OnRoute(const RouteKey& /*key*/, const std::vector<BrokerGroup>& groups) override {
        for (const BrokerGroup& group : groups) {
            std::shared_ptr<BrokerLink> link = links_->Get(group);
            if (link == nullptr) {
                continue;
            }
            const bool up = link->AddObserver(weak_from_this()) != nullptr;
            std::lock_guard lock(mutex_);
            used_.push_back(link);
            reason_ = link->last_error();
            ready_ = ready_ || up;
        }
        changed_.notify_all();
    }
    void OnRouteError(const RouteKey& /*key*/, const Status& status) override {
        std::lock_guard lock(mutex_);
        reason_ = status;
    }
    void OnLinkUp(BrokerLink& /*link*/, std::shared_ptr<BrokerConnection> /*up*/) override {
        std::lock_guard lock(mutex_);
        ready_ = true;
        changed_.notify_all();
    }
    void OnLinkDown(BrokerLink& link, const Status& /*status*/) override {
        Status reason = link.last_error();
        std::lock_guard lock(mutex_);
        reason_ = std::move(reason);
    }
    Status Wait(std::chrono::milliseconds timeout) {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, timeout, [this] { return ready_; })) {
            return Status::Ok();
        }
        return Status::DeadlineExceeded("not ready after " + std::to_string(timeout.count()) +
                                        " ms; last: " + reason_.ToString());
    }

private:
    const std::shared_ptr<LinkPool> links_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ready_ = false;  // guarded by mutex_
    Status reason_ = Status::Unavailable("the route has not been answered yet");
    std::vector<std::shared_ptr<BrokerLink>> used_;  // guarded by mutex_
};

}  // namespace

Status ClientCore::WaitReady(const std::string& subject, std::chrono::milliseconds timeout) {
    if (Status status = ValidateStoredSubject(subject); !status.ok()) {
        return status;
    }
    {
        Lock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return Status::Cancelled("the client has been shut down");
        }
    }
    auto watcher = std::make_shared<ReadyWatcher>(links_);
    const RouteKey key{ClientRole::kProducer, subject, {}};
    router_->Watch(key, watcher);
    Status status = watcher->Wait(timeout).WithContext("subject " + subject);
    router_->Unwatch(key, watcher.get());
    return status;
}

}  // namespace qmq::internal
