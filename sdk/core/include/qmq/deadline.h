#pragma once

#include <chrono>
#include <cstdint>
#include <ratio>
#include <type_traits>

#include "qmq/clock.h"

namespace qmq {

/// The time that lies `timeout` after `now`. Every call that waits makes its deadline with this
/// function, because `now + timeout` overflows for a large timeout, and then "for ever" means "a
/// long time ago".
///
/// A timeout that is zero, negative or not a number gives `now`. A timeout that reaches beyond what
/// a `TimePoint` can hold gives `TimePoint::max()`, which means "no limit". A unit finer than a
/// nanosecond is rounded up, so that nobody waits too short.
template <typename Rep, typename Period>
constexpr TimePoint DeadlineAfter(TimePoint now, std::chrono::duration<Rep, Period> timeout) {
    using std::chrono::duration;
    using std::chrono::nanoseconds;
    if (!(timeout > timeout.zero())) {
        return now;
    }
    // What is left of time. Of a `now` before the clock's own beginning it is cut to what a
    // duration can hold.
    const nanoseconds left =
        now.time_since_epoch().count() < 0
            ? nanoseconds::max()
            : nanoseconds(TimePoint::max().time_since_epoch() - now.time_since_epoch());
    if constexpr (std::is_floating_point_v<Rep>) {
        const double wanted = duration<double, std::nano>(timeout).count();
        if (wanted >= static_cast<double>(left.count())) {
            return TimePoint::max();
        }
        return now + nanoseconds(static_cast<nanoseconds::rep>(wanted));
    } else if constexpr (std::ratio_less_v<Period, std::nano>) {
        const nanoseconds wanted = std::chrono::ceil<nanoseconds>(timeout);
        return wanted > left ? TimePoint::max() : now + wanted;
    } else {
        using Wide = duration<std::common_type_t<Rep, std::int64_t>, Period>;
        if (Wide(timeout) > std::chrono::duration_cast<Wide>(left)) {
            return TimePoint::max();
        }
        return now + std::chrono::duration_cast<nanoseconds>(timeout);
    }
}

}  // namespace qmq
