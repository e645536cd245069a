#include <grpcpp/client_context.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "qmq/grpc.h"
#include "qmq/process_mark.h"
#include "qmq/transport.h"
#include "qmq/v1/broker.grpc.pb.h"

#include "plugins/grpc/client/connection.h"
#include "plugins/grpc/client/endpoint.h"
#include "plugins/grpc/client/live_calls.h"
#include "plugins/grpc/client/unary_call.h"
#include "plugins/grpc/codec/channel_tuning.h"

namespace qmq {
namespace rpc {
namespace {

using DiscoverDone = UniqueFunction<void(Result<Route>)>;

/// The channel on which a transport asks for routes: kept while it works, made anew after an error,
/// so that the next question is not answered from the pause after the last one.
class RouteChannel {
public:
    RouteChannel(GrpcClientOptions options, Endpoint endpoint)
        : options_(std::move(options)), endpoint_(std::move(endpoint)) {}

    Result<Wire> Get() {
        const std::lock_guard lock(mutex_);
        if (wire_.channel == nullptr) {
            auto made = MakeWire(options_, endpoint_);
            if (!made.ok()) {
                return made.status();
            }
            wire_ = std::move(made).value();
        }
        return wire_;
    }

    void Drop(const std::shared_ptr<grpc::Channel>& failed) {
        const std::lock_guard lock(mutex_);
        if (wire_.channel == failed) {
            wire_ = {};
        }
    }

    const Endpoint& endpoint() const { return endpoint_; }

private:
    const GrpcClientOptions options_;
    const Endpoint endpoint_;
    std::mutex mutex_;
    Wire wire_;  // guarded by mutex_
};

struct DiscoverCall final : Cancelable {
    grpc::ClientContext context;
    proto::DiscoverRequest request;
    proto::DiscoverReply reply;
    Wire wire;
    std::unique_ptr<proto::Broker::Stub> stub;
    DiscoverDone done;

    void Cancel() override { context.TryCancel(); }
};

proto::DiscoverRequest ToProto(const DiscoverRequest& request) {
    proto::DiscoverRequest message;
    message.set_subject(request.subject);
    message.set_group(request.group);
    message.set_role(static_cast<proto::DiscoverRequest::Role>(request.role));
    message.set_app_code(request.app_code);
    message.set_client_id(request.client_id);
    return message;
}

Result<Route> ReadRoute(const proto::DiscoverReply& reply, const Endpoint& asked) {
    Route route;
    route.every_subject = reply.every_subject();
    std::unordered_set<std::string_view> names;
    for (const proto::BrokerGroup& group : reply.groups()) {
        if (!names.insert(group.name()).second) {
            return Status::Internal("broker " + asked.address + " names group " + group.name() +
                                    " twice");
        }
        const std::string& address = group.address().empty() ? asked.address : group.address();
        if (Status valid = CheckAddress(address); !valid.ok()) {
            return Status::Internal("broker " + asked.address + " names an address for group " +
                                    group.name() +
                                    " that is none: " + std::string(valid.message()));
        }
        BrokerLimits limits;
        if (const std::uint64_t bytes = group.limits().max_batch_bytes(); bytes > 0) {
            limits.max_batch_bytes = bytes;
        }
        route.groups.push_back({group.name(), address, group.readable(), group.writable(), limits});
    }
    return route;
}

class GrpcTransportImpl final : public Transport {
public:
    GrpcTransportImpl(GrpcClientOptions options, Endpoint endpoint, const TransportContext& context)
        : options_(options),
          clock_(context.clock),
          timers_(context.timers),
          routes_(std::make_shared<RouteChannel>(std::move(options), std::move(endpoint))) {}

    ~GrpcTransportImpl() override { calls_->CancelAndWait(); }

    void Discover(DiscoverRequest request, TimePoint deadline, DiscoverDone done) override;

    std::unique_ptr<BrokerConnection> Connect(
        const BrokerGroup& group, std::shared_ptr<ConnectionListener> listener) override {
        auto core =
            std::make_shared<ConnectionCore>(options_,
                                             Endpoint{routes_->endpoint().tls, group.address},
                                             calls_,
                                             std::move(listener));
        auto connection = std::make_unique<GrpcConnection>(core);
        core->Start(timers_, clock_);
        return connection;
    }

    /// A connection ends itself before that.
    std::chrono::milliseconds connect_timeout() const override {
        return options_.connect_timeout + std::chrono::seconds(10);
    }

private:
    const GrpcClientOptions options_;
    const Clock& clock_;
    Executor& timers_;
    const std::shared_ptr<RouteChannel> routes_;
    const std::shared_ptr<LiveCalls> calls_ = std::make_shared<LiveCalls>();
};

void GrpcTransportImpl::Discover(DiscoverRequest request, TimePoint deadline, DiscoverDone done) {
    auto call = std::make_shared<DiscoverCall>();
    call->done = std::move(done);
    std::uint64_t id = 0;
    const bool begun = calls_->Begin(call, &id);
    auto wire =
        begun ? routes_->Get() : Result<Wire>(Status::Cancelled("the client was shut down"));
    if (!wire.ok()) {
        {
            const LiveCalls::CallbackScope scope(*calls_);
            call->done(wire.status());
        }
        if (begun) {
            calls_->End(id);
        }
        return;
    }
    call->request = ToProto(request);
    call->wire = std::move(wire).value();
    call->stub = proto::Broker::NewStub(call->wire.channel);
    if (!call->wire.authorization.empty()) {
        call->context.AddMetadata(kAuthorizationKey, call->wire.authorization);
    }
    SetTimeout(&call->context, deadline - clock_.Now());
    call->stub->async()->Discover(
        &call->context,
        &call->request,
        &call->reply,
        [call, id, calls = calls_, routes = routes_](const grpc::Status& status) {
            if (!status.ok()) {
                routes->Drop(call->wire.channel);
            }
            {
                const LiveCalls::CallbackScope scope(*calls);
                call->done(status.ok() ? ReadRoute(call->reply, routes->endpoint())
                                       : ExplainCallError(status, routes->endpoint()));
                call->done = nullptr;
            }
            calls->End(id);
        });
}

/// gRPC keeps threads and locks for the whole process, which a child by fork() does not have or
/// finds held. So a child may use it only if its parent had not: else nothing is ever answered.
Status CheckGrpcIsUsable() {
    static std::atomic<const ProcessMark*> first{nullptr};
    const ProcessMark* used = first.load(std::memory_order_acquire);
    if (used == nullptr) {
        // For the life of the process: kept reachable, never freed.
        const auto* mine = new ProcessMark;
        if (!first.compare_exchange_strong(used, mine, std::memory_order_acq_rel)) {
            delete mine;
        } else {
            used = mine;
        }
    }
    return used->foreign() ? used->Refusal("the first client over gRPC") : Status::Ok();
}

class GrpcTransportFactory final : public TransportFactory {
public:
    explicit GrpcTransportFactory(GrpcClientOptions options) : options_(std::move(options)) {}

    std::vector<std::string> Schemes() const override { return {"grpc", "grpcs"}; }

    Result<std::unique_ptr<Transport>> Make(const std::string& uri,
                                            const TransportContext& context) override {
        if (Status usable = CheckGrpcIsUsable(); !usable.ok()) {
            return usable.WithContext("uri \"" + uri + "\"");
        }
        if (Status valid = Validate(options_); !valid.ok()) {
            return valid;
        }
        auto endpoint = ParseUri(uri);
        if (!endpoint.ok()) {
            return endpoint.status();
        }
        const bool has_token = !options_.token.empty() || !options_.token_file.empty();
        if (has_token && !endpoint->tls && !options_.allow_token_without_tls) {
            return Status::InvalidArgument(
                "uri \"" + uri +
                "\": a token is not sent without TLS, where anybody on the way can read it; use "
                "grpcs://, or set allow_token_without_tls");
        }
        // A file that is missing is better found now than at the first connection.
        if (auto wire = MakeWire(options_, *endpoint); !wire.ok()) {
            return wire.status();
        }
        return std::unique_ptr<Transport>(
            std::make_unique<GrpcTransportImpl>(options_, std::move(endpoint).value(), context));
    }

private:
    const GrpcClientOptions options_;
};

}  // namespace
}  // namespace rpc

std::shared_ptr<TransportFactory> GrpcTransport(GrpcClientOptions options) {
    return std::make_shared<rpc::GrpcTransportFactory>(std::move(options));
}

}  // namespace qmq
