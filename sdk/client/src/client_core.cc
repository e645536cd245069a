#include "sdk/client/src/client_core.h"

#include <utility>

#include "qmq/subject.h"

#include "sdk/client/src/link/ready_watcher.h"
#include "sdk/client/src/receive/pull_core.h"
#include "sdk/client/src/receive/subscription_core.h"
#include "sdk/client/src/send/producer_core.h"

namespace qmq::internal {

namespace {

Result<std::unique_ptr<Transport>> MakeTransport(const ClientOptions& options,
                                                 ClientRuntime& runtime) {
    const std::string scheme = options.uri.substr(0, options.uri.find(':'));
    std::string known;
    for (const auto& factory : options.transports) {
        for (const std::string& candidate : factory->Schemes()) {
            if (candidate == scheme) {
                return factory->Make(
                    options.uri,
                    {runtime.clock(),
                     runtime.work(),
                     runtime.client_id(),
                     [log = runtime.logger()](std::string_view line) { log->Warning(line); }});
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
    return std::shared_ptr<ClientCore>(
        new ClientCore(std::move(options), std::move(runtime), std::move(*transport)));
}

ClientCore::ClientCore(ClientOptions options,
                       std::shared_ptr<ClientRuntime> runtime,
                       std::shared_ptr<Transport> transport)
    : runtime_(std::move(runtime)),
      filters_(std::move(options.filters)),
      links_(std::make_shared<LinkPool>(runtime_, transport)),
      router_(std::make_shared<Router>(runtime_, transport, links_, options.route_refresh)),
      roster_(std::make_shared<Roster>()),
      end_(std::make_shared<ClientEnd>(runtime_, roster_, router_, links_, std::move(transport))) {
    runtime_->SetWakeProducers([weak = std::weak_ptr(roster_)] {
        if (const auto roster = weak.lock()) {
            for (const auto& producer : roster->producers()) {
                producer->Wake();
            }
        }
    });
}

ClientCore::~ClientCore() {
    (void)end_->Run(std::chrono::milliseconds(0));
}

namespace {

/// What a handle holds: whoever drops the last one ends `core` by `end`. In a process that was
/// forked meanwhile it is left alone.
template <typename Core, typename End>
std::shared_ptr<Core> HandleTo(std::shared_ptr<Core> core, End end) {
    Core* const raw = core.get();
    return std::shared_ptr<Core>(raw, [core = std::move(core), end](Core*) mutable {
        if (core->process().foreign()) {
            KeepForEver(std::move(core));
        } else {
            end(std::move(core));
        }
    });
}

/// The place of a consumer that is being made: free again when it is not, as what the application's
/// options hold may throw.
class ClaimedPlace {
public:
    ClaimedPlace(Roster& roster, const Roster::GroupKey& key) : roster_(roster), key_(key) {}
    ~ClaimedPlace() {
        if (!kept_) {
            roster_.Remove(key_);
        }
    }
    ClaimedPlace(const ClaimedPlace&) = delete;
    ClaimedPlace& operator=(const ClaimedPlace&) = delete;
    void Keep() { kept_ = true; }

private:
    Roster& roster_;
    const Roster::GroupKey& key_;
    bool kept_ = false;
};

}  // namespace

Result<Producer> ClientCore::MakeProducer(const ProducerOptions& options) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    auto producer = ProducerCore::Make(runtime_, router_, links_, options);
    if (Status status = roster_->Add(producer); !status.ok()) {
        return status;
    }
    // When the last handle goes, what was taken is still sent; then the producer goes as well.
    return ProducerAccess::MakeProducer(
        HandleTo(std::move(producer),
                 [weak = std::weak_ptr(roster_)](const std::shared_ptr<ProducerCore>& last) {
                     last->BeginClose([weak, raw = last.get()] {
                         if (const auto roster = weak.lock()) {
                             roster->Remove(raw);
                         }
                     });
                 }));
}

Status ClientCore::ResolveGroup(bool broadcast, std::string* group) const {
    if (!broadcast) {
        return Status::Ok();
    }
    *group = runtime_->client_id();
    return ValidateGroup(*group).WithContext(
        "client_id, which is the consumer group of a broadcast subscription");
}

Result<Subscription> ClientCore::Subscribe(SubscriptionOptions options, Handler handler) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    if (!handler) {
        return Status::InvalidArgument("SubscriptionOptions: the handler is empty");
    }
    if (options.idempotency != nullptr && handler.form() == Handler::Form::kDelivery) {
        return Status::InvalidArgument(
            "SubscriptionOptions: idempotency needs a handler whose return ends the message; with "
            "a manual handler call the store yourself");
    }
    std::string group = options.group;
    if (Status status = ResolveGroup(options.broadcast, &group); !status.ok()) {
        return status;
    }
    const Roster::GroupKey key{options.subject, group};
    if (Status status = roster_->Claim(key); !status.ok()) {
        return status;
    }
    ClaimedPlace place(*roster_, key);
    auto chain =
        std::make_unique<HandlerChain>(runtime_, filters_, options, group, std::move(handler));
    auto subscription = std::make_shared<SubscriptionCore>(
        runtime_,
        router_,
        links_,
        std::move(options),
        group,
        std::move(chain),
        [weak = std::weak_ptr(roster_), key](const SubscriptionCore*) {
            if (const auto roster = weak.lock()) {
                roster->Remove(key);
            }
        });
    if (Status status = roster_->Add(key, subscription); !status.ok()) {
        return status;
    }
    place.Keep();
    subscription->Start();
    return SubscriptionAccess::Make(
        HandleTo(std::move(subscription), [](const std::shared_ptr<SubscriptionCore>&) {}));
}

Result<PullConsumer> ClientCore::MakePullConsumer(PullConsumerOptions options) {
    if (Status status = Validate(options); !status.ok()) {
        return status;
    }
    std::string group = options.group;
    if (Status status = ResolveGroup(options.broadcast, &group); !status.ok()) {
        return status;
    }
    const Roster::GroupKey key{options.subject, group};
    if (Status status = roster_->Claim(key); !status.ok()) {
        return status;
    }
    ClaimedPlace place(*roster_, key);
    auto puller = std::make_shared<PullCore>(runtime_,
                                             router_,
                                             links_,
                                             std::move(options),
                                             group,
                                             [weak = std::weak_ptr(roster_), key](const PullCore*) {
                                                 if (const auto roster = weak.lock()) {
                                                     roster->Remove(key);
                                                 }
                                             });
    if (Status status = roster_->Add(key, puller); !status.ok()) {
        return status;
    }
    place.Keep();
    puller->Start();
    // The last handle leaves the group, when what it pulled has ended.
    return PullConsumerAccess::Make(
        HandleTo(std::move(puller),
                 [](const std::shared_ptr<PullCore>& last) { last->BeginClose(nullptr); }));
}

Status ClientCore::WaitReady(const std::string& subject, std::chrono::milliseconds timeout) {
    if (Status status = ValidateStoredSubject(subject); !status.ok()) {
        return status;
    }
    auto watcher = std::make_shared<ReadyWatcher>(links_);
    if (Status status = roster_->Add(watcher); !status.ok()) {
        return status;
    }
    const RouteKey key{ClientRole::kProducer, subject, {}};
    router_->Watch(key, watcher);
    Status status = watcher->Wait(timeout).WithContext("subject " + subject);
    router_->Unwatch(key, watcher.get());
    roster_->Remove(watcher.get());
    return status;
}

}  // namespace qmq::internal
