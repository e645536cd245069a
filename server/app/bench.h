#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "qmq/protocol.h"

#include "server/app/client_options.h"

namespace qmq::app {

/// What `qmq bench` measures. Every job checks that each message came, and ends with a failure when
/// one did not.
struct BenchArguments {
    ClientArguments client;
    std::string job = "publish";  ///< publish, consume, both, latency.
    double seconds = 3;
    std::uint64_t messages = 0;  ///< In place of seconds; the backlog of the consume job.
    std::uint32_t body_bytes = 128;
    double rate = 1'000;  ///< latency: messages a second.
    std::uint32_t connections = 1;
    std::uint32_t window =
        0;  ///< Messages in flight on each connection; 0: no bound but the producer's own.
    std::uint32_t subjects = 1;  ///< publish: spread over so many.
    std::uint32_t parallelism = 1;
    std::uint32_t prefetch = 20'000;
    std::uint32_t batch_bytes = 0;  ///< 0: as the SDK does.
    std::int64_t linger_us = -1;    ///< Negative: as the SDK does.
    std::string durability;
    bool inline_callbacks = false;
    bool json = false;
};

struct BenchResult {
    double rate = 0;  ///< Messages a second: acknowledged, consumed and acked, or for both the
                      ///< slower of the two.
    std::optional<double> p50_us;
    std::optional<double> p99_us;
    std::uint64_t messages = 0;
    double seconds = 0;
};

/// Runs one job. On an error it has said why, and ends the command.
BenchResult RunBench(const BenchArguments& arguments);

}  // namespace qmq::app
