#pragma once

#include <chrono>
#include <cstdint>

#include "qmq/random.h"

namespace qmq::internal {

struct BackoffOptions {
    std::chrono::milliseconds initial{20};
    std::chrono::milliseconds max{2'000};
};

/// How long to wait between attempts: exponential with full jitter, so that clients that failed
/// together do not come back together. Never zero: a refusal that comes at once must not spin.
class Backoff {
public:
    explicit Backoff(BackoffOptions options) : options_(options) {}

    std::chrono::microseconds Next(Random& random);
    void Reset() { failures_ = 0; }
    /// Failures since the last success.
    std::uint32_t failures() const { return failures_; }

private:
    BackoffOptions options_;
    std::uint32_t failures_ = 0;
};

}  // namespace qmq::internal
