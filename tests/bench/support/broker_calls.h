#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "qmq/v1/broker.grpc.pb.h"

#include "tests/bench/support/server_process.h"

namespace qmq::bench {

/// The broker's plain calls (Send, Pull, Ack), as a client in another language would make them.
/// Failures are exceptions (std::runtime_error).
class BrokerCalls {
public:
    explicit BrokerCalls(const std::string& address);

    /// Called once, with the reason of a failure or an empty string.
    using Done = std::function<void(std::string failure)>;
    /// Sends one message.
    void SendOne(const std::string& subject, Done done);
    /// Takes one message of the group and acks it. Fails when there is none, or when the ack did
    /// not count.
    void PullAndAckOne(const std::string& subject, const std::string& group, Done done);

    /// Starts `job(i, done)` for each i below `count`, at most `in_flight` at a time; returns when
    /// all are done. Throws the first failure, once what was under way has ended.
    static void RunAll(std::size_t count,
                       std::size_t in_flight,
                       const std::function<void(std::size_t, Done)>& job);

private:
    std::unique_ptr<v1::Broker::Stub> stub_;
};

struct FirstAck {
    std::chrono::duration<double, std::milli> persisted{};  ///< A send was answered.
    std::chrono::duration<double, std::milli> acked{};      ///< And a message pulled and acked.
};

/// Starts the server, and measures from before its execution until it has answered a first send,
/// and until a consumer has pulled and acked a first message.
FirstAck StartToFirstAck(ServerProcess& server,
                         const std::string& subject,
                         const std::string& group);

}  // namespace qmq::bench
