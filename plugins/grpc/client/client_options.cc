#include <string>

#include "qmq/grpc.h"

namespace qmq {
namespace {

/// Gathers every problem, so that a configuration is put right in one go.
class Problems {
public:
    void Add(const std::string& problem) { text_ += (text_.empty() ? "" : "; ") + problem; }
    void Range(const char* field,
               std::int64_t value,
               std::int64_t low,
               std::int64_t high,
               const char* unit) {
        if (value < low || value > high) {
            Add(std::string(field) + " is " + std::to_string(value) + " " + unit + ", range [" +
                std::to_string(low) + ", " + std::to_string(high) + "]");
        }
    }
    Status Done() const {
        return text_.empty() ? Status::Ok()
                             : Status::InvalidArgument("GrpcClientOptions: " + text_);
    }

private:
    std::string text_;
};

}  // namespace

Status Validate(const GrpcClientOptions& options) {
    Problems problems;
    if (!options.ca_file.empty() && !options.ca_pem.empty()) {
        problems.Add("ca_file and ca_pem are both set; set one");
    }
    if (options.certificate_file.empty() != options.key_file.empty()) {
        problems.Add("certificate_file and key_file are set together or not at all");
    }
    if (!options.token.empty() && !options.token_file.empty()) {
        problems.Add("token and token_file are both set; set one");
    }
    problems.Range("max_message_bytes",
                   static_cast<std::int64_t>(options.max_message_bytes),
                   64 << 10,
                   256 << 20,
                   "bytes");
    problems.Range("connect_timeout", options.connect_timeout.count(), 10, 600'000, "ms");
    problems.Range("call_timeout", options.call_timeout.count(), 10, 3'600'000, "ms");
    problems.Range(
        "keepalive_interval", options.keepalive_interval.count(), 1'000, 7'200'000, "ms");
    problems.Range("keepalive_timeout", options.keepalive_timeout.count(), 100, 600'000, "ms");
    return problems.Done();
}

}  // namespace qmq
