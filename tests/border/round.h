#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tests/border/pairs.h"
#include "tests/border/problems.h"

namespace qmq::border {

struct RoundOptions {
    std::uint64_t seed = 1;
    bool grpc = false;
    std::chrono::milliseconds length{3'000};
    std::string program;    ///< The program `qmq`; gRPC only.
    std::string directory;  ///< For what an embedded broker keeps.
};

/// One client after another, beside a broker that is cut, hung and restarted, for as long as the
/// round takes. Prints what it came to; the exit code of the process.
int RunRound(const RoundOptions& options);

}  // namespace qmq::border
