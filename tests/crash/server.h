#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qmq/status.h"

#include "tests/support/child_process.h"

namespace qmq::testing {

/// How the program under test is started.
struct ServerSettings {
    std::string program;
    std::string data;
    /// Where its standard error is kept, and its configuration. Not on the disk under test.
    std::string work;
    std::string durability = "fsync";
    std::string plant = {};
    /// Lines of a configuration file: `qmq broker` reads it. Without any: `qmq dev`.
    std::vector<std::string> config = {};
};

/// The program under test, always on the same port and data.
class Server {
public:
    explicit Server(ServerSettings settings) : settings_(std::move(settings)) {}

    /// Until it is ready. It may be refused for want of room, and is started again, only while
    /// `may_be_refused`.
    void Start(bool may_be_refused = false);
    /// Starts and kills at once: recovery itself is interrupted.
    void StartAndKillAfter(std::chrono::milliseconds time);
    void Kill();
    /// Stops it as an operator would.
    void Stop();

    std::string uri() const { return "grpc://127.0.0.1:" + std::to_string(port_); }
    /// Starts that ended for want of room.
    std::uint64_t refused_starts() const { return refused_starts_; }
    /// All that its processes have printed on standard error so far.
    std::string Errors() const;

private:
    void Spawn();
    Status Ready();
    std::vector<std::string> Command() const;
    std::string error_file() const { return settings_.work + "/stderr"; }

    const ServerSettings settings_;
    int port_ = 0;
    std::uint64_t refused_starts_ = 0;
    std::optional<ChildProcess> child_;
};

}  // namespace qmq::testing
