#include "sdk/client/src/link/circuit_breaker.h"

#include <algorithm>

namespace qmq::internal {

std::int64_t CircuitBreaker::Slot(TimePoint now) const {
    const auto width = std::max<std::chrono::nanoseconds>(
        std::chrono::nanoseconds(options_.window) / static_cast<int>(kBuckets),
        std::chrono::nanoseconds(1));
    return now.time_since_epoch() / width;
}

CircuitBreaker::Bucket& CircuitBreaker::Current(TimePoint now) {
    const std::int64_t slot = Slot(now);
    Bucket& bucket = buckets_[static_cast<std::size_t>(slot) % kBuckets];
    if (bucket.slot != slot) {
        bucket = {slot, 0, 0};
    }
    return bucket;
}

bool CircuitBreaker::ShouldOpen(TimePoint now) const {
    const std::int64_t oldest = Slot(now) - static_cast<std::int64_t>(kBuckets) + 1;
    std::uint64_t successes = 0;
    std::uint64_t failures = 0;
    for (const Bucket& bucket : buckets_) {
        if (bucket.slot >= oldest) {
            successes += bucket.successes;
            failures += bucket.failures;
        }
    }
    const auto total = successes + failures;
    return total >= options_.min_count &&
           static_cast<double>(failures) >= options_.failure_ratio * static_cast<double>(total);
}

bool CircuitBreaker::WouldAllow(TimePoint now) const {
    switch (state_) {
        case State::kClosed:
            return true;
        case State::kOpen:
            return now >= open_until_;
        case State::kHalfOpen:
            return !probing_;
    }
    return true;
}

bool CircuitBreaker::Acquire(TimePoint now) {
    if (!WouldAllow(now)) {
        return false;
    }
    if (state_ != State::kClosed) {
        state_ = State::kHalfOpen;
        probing_ = true;
    }
    return true;
}

void CircuitBreaker::OnSuccess(TimePoint now) {
    if (state_ == State::kClosed) {
        ++Current(now).successes;
        return;
    }
    // Any answer proves that the broker is back, also a late one to what was sent before.
    state_ = State::kClosed;
    probing_ = false;
    buckets_ = {};
}

bool CircuitBreaker::OnFailure(TimePoint now) {
    if (state_ == State::kOpen) {
        return false;
    }
    if (state_ == State::kClosed) {
        ++Current(now).failures;
        if (!ShouldOpen(now)) {
            return false;
        }
    }
    state_ = State::kOpen;
    probing_ = false;
    open_until_ = now + options_.open_time;
    return true;
}

std::optional<TimePoint> CircuitBreaker::next_probe() const {
    if (state_ == State::kClosed) {
        return std::nullopt;
    }
    return open_until_;
}

}  // namespace qmq::internal
