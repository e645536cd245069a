#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/support/child_process.h"

namespace qmq::bench {

/// What the system says of a process.
struct ProcessFigures {
    std::uint64_t resident_bytes = 0;  ///< Now.
    std::uint64_t peak_bytes = 0;      ///< Most so far.
    std::uint64_t open_files = 0;      ///< Descriptors: files, sockets and the rest.
};

struct ServerProcessOptions {
    std::string program;  ///< The program `qmq`.
    std::string data;     ///< Its data directory.
    std::string durability = "fsync";
};

/// `qmq dev` as a child process on a free port. Failures are exceptions (std::runtime_error): these
/// are measurements, whose only answer to one is to say so and end. Not thread-safe. Killed on
/// destruction.
class ServerProcess {
public:
    explicit ServerProcess(ServerProcessOptions options);

    /// Returns when clients can connect. The time counts from before the program is executed.
    void Start();
    /// SIGTERM; returns when it has ended. Throws when it did not end well.
    void Stop();
    /// SIGKILL; returns when it has ended.
    void Kill();

    /// When `Start` was called last.
    std::chrono::steady_clock::time_point started() const { return started_; }
    /// host:port
    const std::string& address() const { return address_; }
    std::string uri() const { return "grpc://" + address_; }
    ProcessFigures Figures() const;
    /// Bytes of all files below the data directory.
    std::uint64_t DataBytes() const;

private:
    ServerProcessOptions options_;
    std::chrono::steady_clock::time_point started_;
    std::string address_;
    std::optional<testing::ChildProcess> child_;
};

}  // namespace qmq::bench
