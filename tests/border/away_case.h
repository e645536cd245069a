#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "qmq/producer.h"

namespace qmq::border {

/// How the application learns of the outcome.
enum class Form : std::uint8_t { kFuture, kCallback, kCoroutine };

struct CaseOptions {
    WhenFull when_full = WhenFull::kFail;
    Form form = Form::kCallback;
    bool slow = false;  ///< What the application does with an outcome takes a millisecond for 16.
    std::uint32_t subjects = 1;
    std::size_t limit_bytes = std::size_t{16} << 20;
    std::chrono::seconds length{60};
    /// Five minutes of a clock that is told, beside a broker that is a fake; else `program`.
    bool is_virtual = false;
    std::string program;
    std::string directory;

    std::string Name() const;
};

/// What came of it.
struct CaseResult {
    std::uint64_t taken = 0;
    std::uint64_t refused = 0;    ///< Not taken: the producer was full.
    std::uint64_t persisted = 0;  ///< Of those that were taken, with the next two: all.
    std::uint64_t failed = 0;     ///< Answered kRefused: their deadline came.
    std::uint64_t unknown = 0;
    double growth_mib = 0;  ///< Most, above what the process had before, less what it held itself.
    double own_mib = 0;     ///< What the application held at that moment: futures, frames.
    double allowed_mib = 0;
    double left_mib = 0;  ///< When all was answered and memory was given back.
    std::vector<std::string> problems;

    std::string ToLine() const;
};

/// Fills a producer at full speed while its broker is away, lets the broker come back, and shuts
/// down while it is away again.
CaseResult RunCase(const CaseOptions& options);

}  // namespace qmq::border
