#include <cstdint>
#include <string>

#include "plugins/grpc/codec/options_check.h"
#include "plugins/grpc/server/grpc_server.h"

namespace qmq::rpc {

Status Validate(const GrpcServerOptions& options) {
    OptionProblems problems("GrpcServerOptions");
    const auto range = [&](const char* field, auto value, std::int64_t low, std::int64_t high) {
        problems.Range(field, static_cast<std::int64_t>(value), low, high);
    };
    if (options.listen.empty()) {
        problems.Add("listen is empty; name at least one host:port");
    }
    if (options.tls_certificate_pem.empty() != options.tls_key_pem.empty()) {
        problems.Add("tls_certificate_pem and tls_key_pem are set together or not at all");
    }
    if (!options.tls_client_ca_pem.empty() && options.tls_certificate_pem.empty()) {
        problems.Add("tls_client_ca_pem needs tls_certificate_pem and tls_key_pem");
    }
    if (Status token = CheckToken(options.bearer_token); !token.ok()) {
        problems.Add("bearer_token: " + std::string(token.message()));
    }
    if (!options.bearer_token.empty() && options.tls_certificate_pem.empty() &&
        !options.allow_token_without_tls) {
        problems.Add(
            "a token without TLS can be read by anybody on the way; set tls_certificate_pem and "
            "tls_key_pem, or allow_token_without_tls");
    }
    if (options.group_name.empty()) {
        problems.Add("group_name is empty");
    }
    range("max_message_bytes", options.max_message_bytes, 64 << 10, 256 << 20);
    range("max_streams_per_connection", options.max_streams_per_connection, 2, 100'000);
    range("max_unanswered_per_stream", options.max_unanswered_per_stream, 1, 65'536);
    range("max_unanswered_bytes_per_stream",
          options.max_unanswered_bytes_per_stream,
          64 << 10,
          std::int64_t{4} << 30);
    range("max_subscriptions_per_stream", options.max_subscriptions_per_stream, 1, 65'536);
    range("keepalive_interval (ms)", options.keepalive_interval.count(), 1'000, 7'200'000);
    range("keepalive_timeout (ms)", options.keepalive_timeout.count(), 100, 600'000);
    return problems.Done();
}

}  // namespace qmq::rpc
