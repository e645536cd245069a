#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/anything/world.h"

namespace qmq::anything {

struct RunOptions {
    std::uint64_t first_seed = 1;
    std::uint64_t count = 1;
    std::uint64_t stride = 1;
    std::uint64_t most_failures = 5;
    /// A sequence that takes longer than this hangs.
    unsigned most_seconds = 60;
};

struct RunResult {
    std::uint64_t ran = 0;
    std::uint64_t failed = 0;
    std::uint64_t first_failed_seed = 0;
    Counters counters;
};

/// Runs `sequence(seed)` for each seed in a process of its own, so that one which kills or hangs
/// the process is a sequence that fails, and the others go on.
RunResult RunAll(const RunOptions& options,
                 const std::function<SequenceReport(std::uint64_t seed)>& sequence);

/// In a process of its own, too, for what it prints: how a sequence failed.
void RunApart(unsigned most_seconds, const std::function<void()>& task);

}  // namespace qmq::anything
