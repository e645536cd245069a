#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq::app {

/// What a server of this program needs to know. Defaults are those of `qmq broker`.
struct ServerConfig {
    std::string store_root = "/data";
    bool memory = false;
    std::uint32_t shards = 1;
    std::uint64_t segment_bytes = 64U << 20;
    std::chrono::hours retention{72};
    /// Instead of `retention`, when not zero.
    std::chrono::seconds short_retention{0};
    std::uint64_t retention_bytes = 0;
    double disk_high_water_percent = 95;
    std::chrono::milliseconds flush_interval{500};
    Durability default_durability = Durability::kFsync;
    std::vector<std::pair<std::string, Durability>> subject_durability;
    std::chrono::seconds retry_delay{5};

    std::string grpc_listen = "127.0.0.1";
    std::uint16_t grpc_port = 7777;
    std::uint32_t max_message_bytes = 4U << 20;
    std::string tls_certificate_file;
    std::string tls_key_file;
    std::string tls_client_ca_file;
    std::string token_file;
    bool allow_token_without_tls = false;

    std::chrono::seconds shutdown_timeout{10};
    /// For people: keys that other servers know and this one has no use for.
    std::vector<std::string> warnings;
};

/// Reads `key = value` lines; `#` and `!` begin a comment line. kInvalidArgument names file, line,
/// key, value and range; for an unknown key also the nearest known one. Every problem of the file
/// is reported at once.
Result<ServerConfig> ParseConfig(std::string_view text, const std::string& file_name);

/// As above, from a file. kNotFound and kPermissionDenied name it.
Result<ServerConfig> LoadConfig(const std::string& path);

/// All keys, each with its default, range and meaning, as a configuration file that could be used.
std::string DescribeConfig();

}  // namespace qmq::app
