#include "server/app/config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>

namespace qmq::app {

namespace {

/// Stores a value, or says what it may be.
using Apply = Status (*)(ServerConfig& config, std::string_view value);

struct Key {
    std::string_view name;
    std::string_view fallback;  // As it would be written.
    std::string_view meaning;
    Apply apply;
};

template <typename Number>
Status ReadNumber(std::string_view value, Number low, Number high, Number& out) {
    Number number{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() ||
        !(number >= low && number <= high)) {  // In this form not-a-number is none, too.
        std::ostringstream text;
        text << "is no number in [" << low << ", " << high << "]";
        return Status::InvalidArgument(text.str());
    }
    out = number;
    return Status::Ok();
}

template <typename Field, Field ServerConfig::*kField, auto kLow, auto kHigh>
Status Number(ServerConfig& config, std::string_view value) {
    return ReadNumber<Field>(
        value, static_cast<Field>(kLow), static_cast<Field>(kHigh), config.*kField);
}

template <typename Duration, Duration ServerConfig::*kField, long long kLow, long long kHigh>
Status Time(ServerConfig& config, std::string_view value) {
    long long count = 0;
    Status status = ReadNumber<long long>(value, kLow, kHigh, count);
    if (status.ok()) {
        config.*kField = Duration(count);
    }
    return status;
}

template <bool ServerConfig::*kField>
Status Switch(ServerConfig& config, std::string_view value) {
    if (value != "true" && value != "false") {
        return Status::InvalidArgument("is neither true nor false");
    }
    config.*kField = value == "true";
    return Status::Ok();
}

template <std::string ServerConfig::*kField>
Status Text(ServerConfig& config, std::string_view value) {
    config.*kField = value;
    return Status::Ok();
}

Status DefaultDurability(ServerConfig& config, std::string_view value) {
    Result<Durability> durability = ParseDurability(value);
    if (durability.ok()) {
        config.default_durability = *durability;
    }
    return durability.status();
}

// Keys of the reference's broker that mean the same here come first.
constexpr std::array kKeys{
    Key{"store.root", "/data", "Where the data lies.", &Text<&ServerConfig::store_root>},
    Key{"messagelog.retention.hours",
        "72",
        "Messages older than this are deleted, consumed or not. Range: [1, 87600].",
        &Time<std::chrono::hours, &ServerConfig::retention, 1, 87'600>},
    Key{"message.retry.delay.seconds",
        "5",
        "Age before a message that a client put on a retry subject is delivered. Range: [0, 3600].",
        &Time<std::chrono::seconds, &ServerConfig::retry_delay, 0, 3'600>},
    Key{"grpc.listen",
        "127.0.0.1",
        "Address that gRPC clients connect to; 0.0.0.0 or [::] for every one of this machine.",
        &Text<&ServerConfig::grpc_listen>},
    Key{"grpc.port",
        "7777",
        "Port for gRPC; 0 takes a free one and says which. Range: [0, 65535].",
        &Number<std::uint16_t, &ServerConfig::grpc_port, 0, 65'535>},
    Key{"grpc.max_message_bytes",
        "4194304",
        "Largest batch that is taken. Range: [65536, 67108864].",
        &Number<std::uint32_t, &ServerConfig::max_message_bytes, 65'536, 67'108'864>},
    Key{"grpc.tls.certificate",
        "",
        "File (PEM) with the server's certificate chain; with it all gRPC is TLS.",
        &Text<&ServerConfig::tls_certificate_file>},
    Key{"grpc.tls.key", "", "File (PEM) with its private key.", &Text<&ServerConfig::tls_key_file>},
    Key{"grpc.tls.client_ca",
        "",
        "File (PEM); with it clients must show a certificate signed by one of these (mutual TLS).",
        &Text<&ServerConfig::tls_client_ca_file>},
    Key{"grpc.token.file",
        "",
        "File with the bearer token that clients must show.",
        &Text<&ServerConfig::token_file>},
    Key{"grpc.token.allow_without_tls",
        "false",
        "Takes tokens over unencrypted connections. For a machine of your own only.",
        &Switch<&ServerConfig::allow_token_without_tls>},
    Key{"durability.default",
        "fsync",
        "What a message has been through before its sender is told: memory, page_cache or fsync.",
        &DefaultDurability},
    Key{"store.shards",
        "1",
        "Logs side by side. Fixed when the store is made. Range: [1, 64].",
        &Number<std::uint32_t, &ServerConfig::shards, 1, 64>},
    Key{"store.segment.bytes",
        "67108864",
        "Size of a log's files. Fixed when the store is made. Range: [65536, 4294967296].",
        &Number<std::uint64_t, &ServerConfig::segment_bytes, 65'536, 4'294'967'296ULL>},
    Key{"store.retention.seconds",
        "0",
        "Instead of messagelog.retention.hours, for data that lives shorter; 0: that one counts. "
        "Range: [0, 31536000].",
        &Time<std::chrono::seconds, &ServerConfig::short_retention, 0, 31'536'000>},
    Key{"store.retention.bytes",
        "0",
        "Oldest messages of a shard are deleted beyond this; 0 is no limit. Range: [0, 2^62].",
        &Number<std::uint64_t, &ServerConfig::retention_bytes, 0, 1ULL << 62>},
    Key{"store.disk.high_water.percent",
        "95",
        "Sends are refused while the disk is fuller than this. Range: [50, 100].",
        &Number<double, &ServerConfig::disk_high_water_percent, 50, 100>},
    Key{"store.flush.interval.ms",
        "500",
        "How often what nobody waits for is synced all the same. Range: [10, 60000].",
        &Time<std::chrono::milliseconds, &ServerConfig::flush_interval, 10, 60'000>},
    Key{"shutdown.timeout.seconds",
        "10",
        "How long SIGTERM waits for requests that are under way. Range: [0, 3600].",
        &Time<std::chrono::seconds, &ServerConfig::shutdown_timeout, 0, 3'600>},
};

constexpr std::string_view kSubjectDurability = "durability.subject.";

// Known to the reference's broker, without a meaning here: an existing file still works, and says
// so.
constexpr std::array<std::string_view, 25> kIgnored{"meta.server.endpoint",
                                                    "broker.port",
                                                    "sync.port",
                                                    "slave.server.http.port",
                                                    "wait.slave.wrote",
                                                    "receive.queue.size",
                                                    "slave.message.lag.time.max.seconds",
                                                    "slave.message.lag.mark_readonly",
                                                    "slave.sync.timeout",
                                                    "sync.batch.size",
                                                    "message.sync.timeout.ms",
                                                    "consumerlog.retention.hours",
                                                    "pulllog.retention.hours",
                                                    "smt.retention.hours",
                                                    "log.retention.check.interval.seconds",
                                                    "log.expired.delete.enable",
                                                    "checkpoint.retain.count",
                                                    "message.checkpoint.interval",
                                                    "action.checkpoint.interval",
                                                    "log_dispatcher.pause.millis",
                                                    "consumerlog.v2.enable",
                                                    "smt.enable",
                                                    "memtable.max_reserved",
                                                    "memtable.max_active",
                                                    "put_need_retry_message.limiter"};

std::string_view Trim(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) {
        return {};
    }
    return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// Insertions, removals and replacements that turn one into the other.
std::size_t EditDistance(std::string_view one, std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= one.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= other.size(); ++j) {
            const std::size_t replace = diagonal + (one[i - 1] == other[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row.back();
}

std::string_view NearestKey(std::string_view name) {
    return std::ranges::min_element(
               kKeys, {}, [name](const Key& key) { return EditDistance(name, key.name); })
        ->name;
}

Status ApplyLine(ServerConfig& config, std::string_view name, std::string_view value) {
    if (name.starts_with(kSubjectDurability) && name.size() > kSubjectDurability.size()) {
        Result<Durability> durability = ParseDurability(value);
        if (durability.ok()) {
            config.subject_durability.emplace_back(name.substr(kSubjectDurability.size()),
                                                   *durability);
        }
        return durability.status();
    }
    const auto* key = std::ranges::find(kKeys, name, &Key::name);
    if (key != kKeys.end()) {
        // A blank value counts as absent, as it does in the reference.
        return value.empty() ? Status::Ok() : key->apply(config, value);
    }
    if (std::ranges::find(kIgnored, name) != kIgnored.end()) {
        config.warnings.push_back("key " + std::string(name) +
                                  " has no meaning for this server and is ignored");
        return Status::Ok();
    }
    return Status::NotFound("unknown key; the nearest known one is " +
                            std::string(NearestKey(name)));
}

}  // namespace

Result<ServerConfig> ParseConfig(std::string_view text, const std::string& file_name) {
    ServerConfig config;
    std::string problems;
    int line_number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string_view line = Trim(text.substr(begin, end - begin));
        begin = end + 1;
        ++line_number;
        if (line.empty() || line.front() == '#' || line.front() == '!') {
            continue;
        }
        const std::size_t equals = line.find('=');
        const std::string_view name = Trim(line.substr(0, equals));
        const std::string_view value =
            equals == std::string_view::npos ? "" : Trim(line.substr(equals + 1));
        const Status status = equals == std::string_view::npos
                                  ? Status::InvalidArgument("is not of the form key = value")
                                  : ApplyLine(config, name, value);
        if (!status.ok()) {
            problems += (problems.empty() ? "" : "\n") + file_name + ":" +
                        std::to_string(line_number) + ": " + std::string(name) +
                        (value.empty() ? "" : " = " + std::string(value)) + ": " +
                        std::string(status.message());
        }
    }
    if (config.tls_certificate_file.empty() != config.tls_key_file.empty()) {
        problems += (problems.empty() ? "" : "\n") + file_name +
                    ": grpc.tls.certificate and grpc.tls.key belong together: give both or none";
    }
    if (!problems.empty()) {
        return Status::InvalidArgument(problems);
    }
    return config;
}

Result<ServerConfig> LoadConfig(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        const int error = errno;
        const std::string text = path + ": cannot read the configuration: " + std::strerror(error);
        return error == ENOENT ? Status::NotFound(text) : Status::PermissionDenied(text);
    }
    std::ostringstream text;
    if (file.peek() != std::ifstream::traits_type::eof()) {
        text << file.rdbuf();
    }
    if (file.bad() || !text) {  // A directory can be opened, and not be read.
        return Status::InvalidArgument(path + ": cannot read the configuration: is it a file?");
    }
    return ParseConfig(text.str(), path);
}

std::string DescribeConfig() {
    std::string text;
    for (const Key& key : kKeys) {
        text.append("# ").append(key.meaning).append("\n");
        text.append(key.name).append(" = ").append(key.fallback).append("\n\n");
    }
    text +=
        "# Durability of one subject, or of all that begin alike: durability.subject.order.* = "
        "page_cache\n";
    return text;
}

}  // namespace qmq::app
