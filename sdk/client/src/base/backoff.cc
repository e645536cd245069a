#include "sdk/client/src/base/backoff.h"

#include <algorithm>

namespace qmq::internal {

std::chrono::microseconds Backoff::Next(Random& random) {
    using std::chrono::microseconds;
    const auto initial = std::max<std::int64_t>(microseconds(options_.initial).count(), 1'000);
    const auto longest = std::max(microseconds(options_.max).count(), initial);
    // Shifting is capped: 2^30 ms is beyond every allowed maximum.
    const auto cap = std::min(longest, initial << std::min(failures_, 30U));
    ++failures_;
    const auto jitter = random.Below(static_cast<std::uint64_t>(cap));
    return microseconds(std::max<std::int64_t>(static_cast<std::int64_t>(jitter), 1'000));
}

}  // namespace qmq::internal
