#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>

#include "qmq/clock.h"

namespace qmq::internal {

struct CircuitBreakerOptions {
    /// How far back answers count.
    std::chrono::milliseconds window{10'000};
    /// Below so many answers in the window nothing is concluded.
    std::uint32_t min_count = 20;
    /// Opens when at least this part of the answers are failures.
    double failure_ratio = 0.5;
    /// How long an open breaker lets nothing through before it lets one probe through.
    std::chrono::milliseconds open_time{2'000};
};

/// Keeps traffic away from a broker group that does not answer. Closed: everything passes. Open:
/// nothing does, for a while. Half open: one probe at a time; its success closes the breaker, its
/// failure opens it again. Only a broker that cannot be reached or does not answer counts as
/// failing, not one that refuses. Not thread-safe.
class CircuitBreaker {
public:
    explicit CircuitBreaker(CircuitBreakerOptions options) : options_(options) {}

    /// Whether something could pass now.
    bool WouldAllow(TimePoint now) const;
    /// As above, and takes the probe's place in the half-open state: an `OnSuccess` or `OnFailure`
    /// must follow.
    bool Acquire(TimePoint now);
    void OnSuccess(TimePoint now);
    /// True when this one opened the breaker.
    bool OnFailure(TimePoint now);
    /// When the next probe may pass; nothing while closed.
    std::optional<TimePoint> next_probe() const;

private:
    enum class State : std::uint8_t { kClosed, kOpen, kHalfOpen };
    static constexpr std::size_t kBuckets = 10;
    struct Bucket {
        std::int64_t slot = -1;
        std::uint32_t successes = 0;
        std::uint32_t failures = 0;
    };

    Bucket& Current(TimePoint now);
    bool ShouldOpen(TimePoint now) const;
    std::int64_t Slot(TimePoint now) const;

    CircuitBreakerOptions options_;
    State state_ = State::kClosed;
    TimePoint open_until_{};
    bool probing_ = false;
    std::array<Bucket, kBuckets> buckets_{};
};

}  // namespace qmq::internal
