#pragma once

#include <chrono>

namespace qmq {

/// For time-outs and latencies: never jumps. Meaningless outside this process.
using TimePoint = std::chrono::steady_clock::time_point;
/// For schedules and records: milliseconds since 1970 in UTC, as every peer writes them.
using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;

/// Where logic gets the time from, so that a test can hand in another. Thread-safe.
class Clock {
public:
    virtual ~Clock() = default;
    virtual TimePoint Now() const = 0;
    virtual WallTime WallNow() const = 0;
};

/// The machine's clocks. Lives as long as the process.
const Clock& SystemClock();

}  // namespace qmq
