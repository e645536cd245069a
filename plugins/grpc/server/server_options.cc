#include <cstdint>
#include <string>

#include "plugins/grpc/codec/options_check.h"
#include "plugins/grpc/server/grpc_server.h"
#include "plugins/grpc/server/secrets.h"

namespace qmq {

Status Validate(const GrpcServerOptions& options) {
    rpc::OptionProblems problems("GrpcServerOptions");
    const auto range = [&](const char* field, auto value, std::int64_t low, std::int64_t high) {
        problems.Range(field, static_cast<std::int64_t>(value), low, high);
    };
    if (options.listen.empty()) {
        problems.Add("listen is empty; name at least one host:port");
    }
    if (options.certificate_file.empty() != options.key_file.empty()) {
        problems.Add("certificate_file and key_file are set together or not at all");
    }
    if (!options.client_ca_file.empty() && options.certificate_file.empty()) {
        problems.Add("client_ca_file needs certificate_file and key_file");
    }
    if (!options.token.empty() && !options.token_file.empty()) {
        problems.Add("token and token_file are both set; set one");
    }
    const bool has_token = !options.token.empty() || !options.token_file.empty();
    if (has_token && options.certificate_file.empty() && !options.allow_token_without_tls) {
        problems.Add(
            "a token without TLS can be read by anybody on the way; set certificate_file and "
            "key_file, or allow_token_without_tls");
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

namespace rpc {

Result<Secrets> ReadSecrets(const GrpcServerOptions& options) {
    Secrets secrets;
    secrets.token = options.token;
    for (const Status& read :
         {ReadInto(options.certificate_file, "certificate_file", &secrets.certificate),
          ReadInto(options.key_file, "key_file", &secrets.key),
          ReadInto(options.client_ca_file, "client_ca_file", &secrets.client_ca),
          ReadInto(options.token_file, "token_file", &secrets.token)}) {
        if (!read.ok()) {
            return read;
        }
    }
    if (Status clean = CleanToken(&secrets.token); !clean.ok()) {
        return clean;
    }
    return secrets;
}

}  // namespace rpc
}  // namespace qmq
