#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/executor.h"
#include "qmq/status.h"

#include "plugins/grpc/server/grpc_server.h"
#include "server/app/config.h"
#include "server/broker/broker.h"
#include "server/env/event_reporter.h"
#include "server/env/file_system.h"

namespace qmq::app {

/// A broker with its data and the port on which clients reach it: what `qmq dev` and `qmq broker`
/// run.
class ServerNode {
public:
    /// Recovers the data and begins to listen. The error says what to do: directory locked (by
    /// whom), store made with other options, port taken, disk full, TLS file unreadable.
    /// `say` takes what the engine has to tell people, line by line, until the node is destroyed.
    static Result<std::unique_ptr<ServerNode>> Start(const ServerConfig& config,
                                                     env::EventReporter::Sink say = SayOnStderr);
    /// "qmq: LINE", on standard error.
    static void SayOnStderr(std::string_view line);
    ~ServerNode();

    int grpc_port() const;
    /// What recovery found in each shard.
    std::vector<store::RecoveryReport> recovery() const { return broker_->recovery(); }

    /// Takes no new work, answers what is under way, and closes the data. kDeadlineExceeded when
    /// that took longer than the configured time: what was answered is safe all the same.
    Status Stop();

private:
    explicit ServerNode(const ServerConfig& config);

    ServerConfig config_;
    std::unique_ptr<env::FileSystem> memory_;
    std::unique_ptr<env::EventReporter> events_;
    // Destroyed in this order from the end: clients leave before the broker, the broker before its
    // threads.
    std::unique_ptr<ThreadPool> io_;
    std::unique_ptr<ThreadPool> executor_;
    std::unique_ptr<broker::Broker> broker_;
    std::unique_ptr<rpc::GrpcServer> grpc_;
};

/// Lines for people about damage that recovery found: which file, where, how many bytes, what was
/// done.
std::vector<std::string> DescribeRecovery(const std::vector<store::RecoveryReport>& reports);

}  // namespace qmq::app
