#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "qmq/status.h"

#include "tests/support/child_process.h"

namespace qmq::border {

/// `qmq dev`, always on the same port. In memory, where what it kept goes with the process, or in a
/// directory, as durable as the page cache.
class BrokerProcess {
public:
    explicit BrokerProcess(std::string program, std::string directory = {})
        : program_(std::move(program)), directory_(std::move(directory)) {}

    /// Until it is ready.
    Status Start();
    void Kill();
    /// As when the machine stands still: connections stay, nothing is answered.
    void Stop();
    void Continue();

    std::string uri() const { return "grpc://127.0.0.1:" + std::to_string(port_); }

private:
    const std::string program_;
    const std::string directory_;
    int port_ = 0;
    std::optional<testing::ChildProcess> child_;
};

}  // namespace qmq::border
