#include "plugins/grpc/server/grpc_server.h"

#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "plugins/grpc/codec/channel_tuning.h"
#include "plugins/grpc/server/broker_service.h"
#include "plugins/grpc/server/listen_address.h"

namespace qmq::rpc {
namespace {

constexpr char kServiceName[] = "qmq.v1.Broker";

class GrpcServerImpl final : public GrpcServer {
public:
    GrpcServerImpl(ServiceOptions options, broker::Broker& broker)
        : clock_(*options.clock), service_(std::move(options), broker) {}
    ~GrpcServerImpl() override { Shutdown(TimePoint()); }

    Status Serve(const GrpcServerOptions& options);

    int port() const override { return ports_.front(); }
    const std::vector<int>& ports() const override { return ports_; }
    void Shutdown(TimePoint deadline) override;

private:
    const Clock& clock_;
    BrokerService service_;
    std::unique_ptr<grpc::Server> server_;  // Destroyed before what it serves.
    std::vector<int> ports_;
    std::once_flag shut_down_;
};

std::shared_ptr<grpc::ServerCredentials> MakeCredentials(const GrpcServerOptions& options) {
    if (options.tls_certificate_pem.empty()) {
        return grpc::InsecureServerCredentials();
    }
    grpc::SslServerCredentialsOptions tls(
        options.tls_client_ca_pem.empty()
            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = options.tls_client_ca_pem;
    tls.pem_key_cert_pairs.push_back({options.tls_key_pem, options.tls_certificate_pem});
    return grpc::SslServerCredentials(tls);
}

void SetArguments(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
    const auto set = [builder](const char* name, std::int64_t value) {
        builder->AddChannelArgument(name, static_cast<int>(value));
    };
    builder->SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
    builder->SetMaxSendMessageSize(-1);
    // gRPC holds the limit against the compressed size, and then inflates to up to a thousand times
    // that.
    builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
    builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
    // Two servers on one port would share its clients between them without a word.
    set(GRPC_ARG_ALLOW_REUSEPORT, 0);
    set(GRPC_ARG_MAX_CONCURRENT_STREAMS,
        static_cast<std::int64_t>(options.max_streams_per_connection));
    set(GRPC_ARG_KEEPALIVE_TIME_MS, options.keepalive_interval.count());
    set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, options.keepalive_timeout.count());
    set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    set(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // Clients may ask for a sign of life as often as once a second.
    set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 900);
    for (const TuningArgument& tuned : kChannelTuning) {
        set(tuned.name, tuned.value);
    }
}

/// Health and reflection are the only synchronous services: they need a thread or two, and gRPC
/// would otherwise bring one for each processor and more under load.
void LimitThreads(grpc::ServerBuilder* builder) {
    builder->SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder->SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder->SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
    grpc::ResourceQuota quota("qmq");
    quota.SetMaxThreads(8);
    builder->SetResourceQuota(quota);
}

Status GrpcServerImpl::Serve(const GrpcServerOptions& options) {
    for (const std::string& address : options.listen) {
        if (Status can = CheckCanListen(address); !can.ok()) {
            return can;
        }
    }
    grpc::EnableDefaultHealthCheckService(true);
    // So that grpcurl may ask for the protocol. Every server of a process that is linked with it
    // has it: its library sees to that.
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    SetArguments(options, &builder);
    LimitThreads(&builder);
    ports_.resize(options.listen.size());
    const auto credentials = MakeCredentials(options);
    for (std::size_t i = 0; i < options.listen.size(); ++i) {
        builder.AddListeningPort(options.listen[i], credentials, &ports_[i]);
    }
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) {
        return Status::FailedPrecondition(
            "gRPC could not start a server at " + options.listen.front() +
            (options.tls_certificate_pem.empty()
                 ? ": it says why on standard error"
                 : ": the certificate and its key may not be PEM, or not belong together"));
    }
    if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
        health->SetServingStatus(kServiceName, true);
    }
    service_.streams().poller_rest().Start(*server_);
    return Status::Ok();
}

void GrpcServerImpl::Shutdown(TimePoint deadline) {
    std::call_once(shut_down_, [&] {
        if (server_ == nullptr) {
            return;
        }
        if (grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService()) {
            health->SetServingStatus(false);
        }
        service_.streams().poller_rest().Stop();
        service_.streams().DrainAll();
        const auto left = std::max(deadline - clock_.Now(), TimePoint::duration(0));
        server_->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                       gpr_time_from_nanos(left.count(), GPR_TIMESPAN)));
        server_->Wait();
    });
}

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(GrpcServerOptions options,
                                                      broker::Broker& broker) {
    if (Status valid = Validate(options); !valid.ok()) {
        return valid;
    }
    ServiceOptions service;
    service.token = options.bearer_token;
    service.group_name = options.group_name;
    service.advertised_address = options.advertised_address;
    service.max_message_bytes = options.max_message_bytes;
    service.streams = {options.max_unanswered_per_stream,
                       options.max_unanswered_bytes_per_stream,
                       options.max_subscriptions_per_stream};
    service.batch = options.batch_limits;
    service.clock = options.clock == nullptr ? &SystemClock() : options.clock;
    auto server = std::make_unique<GrpcServerImpl>(std::move(service), broker);
    if (Status serving = server->Serve(options); !serving.ok()) {
        return serving;
    }
    return std::unique_ptr<GrpcServer>(std::move(server));
}

}  // namespace qmq::rpc
