#include <cstdint>

#include "qmq/grpc.h"

#include "plugins/grpc/codec/options_check.h"

namespace qmq {

Status Validate(const GrpcClientOptions& options) {
    rpc::OptionProblems problems("GrpcClientOptions");
    const auto range = [&](const char* field, auto value, std::int64_t low, std::int64_t high) {
        problems.Range(field, static_cast<std::int64_t>(value), low, high);
    };
    if (!options.ca_file.empty() && !options.ca_pem.empty()) {
        problems.Add("ca_file and ca_pem are both set; set one");
    }
    if (options.certificate_file.empty() != options.key_file.empty()) {
        problems.Add("certificate_file and key_file are set together or not at all");
    }
    if (!options.token.empty() && !options.token_file.empty()) {
        problems.Add("token and token_file are both set; set one");
    }
    range("max_message_bytes", options.max_message_bytes, 64 << 10, 256 << 20);
    range("connect_timeout (ms)", options.connect_timeout.count(), 10, 600'000);
    range("call_timeout (ms)", options.call_timeout.count(), 10, 3'600'000);
    range("keepalive_interval (ms)", options.keepalive_interval.count(), 1'000, 7'200'000);
    range("keepalive_timeout (ms)", options.keepalive_timeout.count(), 100, 600'000);
    return problems.Done();
}

}  // namespace qmq
