#include "server/app/server_node.h"

#include <cstdio>
#include <fstream>
#include <future>
#include <sstream>
#include <utility>

#include "qmq/clock.h"
#include "qmq/random.h"

#include "server/env/line_writer.h"

namespace qmq::app {

namespace {

broker::BrokerOptions ToBrokerOptions(const ServerConfig& config) {
    broker::BrokerOptions options;
    options.directory = config.memory ? "memory" : config.store_root;
    options.shards = config.shards;
    options.default_durability = config.memory ? Durability::kMemory : config.default_durability;
    options.best_durability = config.memory ? Durability::kMemory : Durability::kFsync;
    if (!config.memory) {
        options.subject_durability = config.subject_durability;
    }
    options.flush_interval = config.flush_interval;
    options.retry_delay = config.retry_delay;
    options.store.segment_bytes = config.segment_bytes;
    options.store.retention =
        config.short_retention.count() > 0 ? config.short_retention : config.retention;
    options.store.retention_bytes = config.retention_bytes;
    options.store.disk_high_water_percent = config.disk_high_water_percent;
    options.store.drop_consumed = config.memory;
    options.store.limits.max_batch_bytes = config.max_message_bytes;
    return options;
}

Result<std::string> ReadFile(const std::string& path, const char* key) {
    if (path.empty()) {
        return std::string();
    }
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file || text.str().empty()) {
        return Status::InvalidArgument(std::string(key) + " = " + path +
                                       ": the file cannot be read or is empty");
    }
    return text.str();
}

Result<rpc::GrpcServerOptions> ToGrpcOptions(const ServerConfig& config) {
    rpc::GrpcServerOptions options;
    options.listen = {config.grpc_listen + ":" + std::to_string(config.grpc_port)};
    options.max_message_bytes = config.max_message_bytes;
    options.batch_limits.max_batch_bytes = config.max_message_bytes;
    options.allow_token_without_tls = config.allow_token_without_tls;
    const std::pair<const std::string*, std::pair<const char*, std::string*>> files[] = {
        {&config.tls_certificate_file, {"grpc.tls.certificate", &options.tls_certificate_pem}},
        {&config.tls_key_file, {"grpc.tls.key", &options.tls_key_pem}},
        {&config.tls_client_ca_file, {"grpc.tls.client_ca", &options.tls_client_ca_pem}},
        {&config.token_file, {"grpc.token.file", &options.bearer_token}},
    };
    for (const auto& [path, target] : files) {
        Result<std::string> text = ReadFile(*path, target.first);
        if (!text.ok()) {
            return text.status();
        }
        *target.second = *std::move(text);
    }
    while (!options.bearer_token.empty() &&
           (options.bearer_token.back() == '\n' || options.bearer_token.back() == '\r')) {
        options.bearer_token.pop_back();
    }
    if (!config.token_file.empty() && options.bearer_token.empty()) {
        // Without a token everybody would be let in.
        return Status::InvalidArgument("grpc.token.file = " + config.token_file +
                                       ": the file has nothing but a line end");
    }
    return options;
}

}  // namespace

ServerNode::ServerNode(const ServerConfig& config)
    : config_(config), memory_(config.memory ? env::MakeMemoryFileSystem() : nullptr) {}

void ServerNode::SayOnStderr(std::string_view line) {
    std::fprintf(stderr, "qmq: %s\n", std::string(line).c_str());
}

Result<std::unique_ptr<ServerNode>> ServerNode::Start(const ServerConfig& config,
                                                      env::EventReporter::Sink say) {
    Result<rpc::GrpcServerOptions> grpc_options = ToGrpcOptions(config);
    if (!grpc_options.ok()) {
        return grpc_options.status();
    }
    std::unique_ptr<ServerNode> node(new ServerNode(config));
    node->io_ =
        std::make_unique<ThreadPool>(ThreadPoolOptions{.threads = config.shards, .name = "qmq-io"});
    node->executor_ =
        std::make_unique<ThreadPool>(ThreadPoolOptions{.threads = 1, .name = "qmq-timer"});
    // Standard error may be a pipe that nobody reads.
    const auto writer = std::make_shared<env::LineWriter>(std::move(say));
    node->events_ = std::make_unique<env::EventReporter>(
        SystemClock(), *node->executor_, [writer](std::string_view line) { writer->Write(line); });
    env::FileSystem& files = node->memory_ ? *node->memory_ : env::RealFileSystem();
    Result<std::unique_ptr<broker::Broker>> broker =
        broker::Broker::Open(ToBrokerOptions(config),
                             broker::BrokerEnvironment{.files = files,
                                                       .clock = SystemClock(),
                                                       .executor = *node->executor_,
                                                       .io = *node->io_,
                                                       .seed = Random::FromSystem().Next(),
                                                       .events = *node->events_});
    if (!broker.ok()) {
        return broker.status();
    }
    node->broker_ = *std::move(broker);
    Result<std::unique_ptr<rpc::GrpcServer>> grpc =
        rpc::GrpcServer::Start(*grpc_options, *node->broker_);
    if (!grpc.ok()) {
        return grpc.status();
    }
    node->grpc_ = *std::move(grpc);
    return node;
}

ServerNode::~ServerNode() = default;

int ServerNode::grpc_port() const {
    return grpc_->port();
}

Status ServerNode::Stop() {
    const TimePoint deadline = SystemClock().Now() + config_.shutdown_timeout;
    auto closed = std::make_shared<std::promise<Status>>();
    std::future<Status> status = closed->get_future();
    // The broker first: it answers what it has while the streams are still there to carry the
    // answers.
    broker_->Close([closed](Status result) { closed->set_value(std::move(result)); });
    const bool in_time = status.wait_until(deadline) == std::future_status::ready;
    grpc_->Shutdown(deadline);
    if (!in_time) {
        return Status::DeadlineExceeded(
            "the data was not closed within " + std::to_string(config_.shutdown_timeout.count()) +
            " s; what was answered is safe, the next start recovers the rest");
    }
    return status.get();
}

std::vector<std::string> DescribeRecovery(const std::vector<store::RecoveryReport>& reports) {
    std::vector<std::string> lines;
    for (std::size_t shard = 0; shard < reports.size(); ++shard) {
        const store::RecoveryReport& report = reports[shard];
        const std::string name = "shard " + std::to_string(shard) + ": ";
        if (report.torn_tail_bytes > 0) {
            lines.push_back(name + "cut a torn tail of " + std::to_string(report.torn_tail_bytes) +
                            " bytes (never acknowledged as synced)");
        }
        for (const auto& damage : report.corruptions) {
            lines.push_back(
                name + damage.path + " at " + std::to_string(damage.file_offset) + ": " +
                std::to_string(damage.end - damage.begin) + " bytes are damaged (" + damage.reason +
                "); kept out of every read, later records were kept; see `qmq log verify`");
        }
    }
    return lines;
}

}  // namespace qmq::app
