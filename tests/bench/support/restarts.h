#pragma once

#include <string>
#include <vector>

#include "tests/bench/support/broker_calls.h"
#include "tests/bench/support/server_process.h"

namespace qmq::bench {

/// Sends to `subjects` in turn until the log is `log_bytes` long. How many messages.
std::uint64_t FillLog(const ServerProcess& server,
                      const std::vector<std::string>& subjects,
                      std::uint64_t log_bytes);

/// Kills the server in the midst of sends to `subjects`, and starts it again. It is running before
/// and afterwards.
FirstAck KillUnderLoadAndStart(ServerProcess& server,
                               const std::vector<std::string>& subjects,
                               const std::string& group);

/// "12.3 [11.0 .. 14.5] ms": median, least and most. `times` is not empty.
std::string Spread(std::vector<double> times_ms);
double Median(std::vector<double> values);

}  // namespace qmq::bench
