#pragma once

#include <cstdint>

#include "qmq/clock.h"
#include "qmq/random.h"

#include "sdk/client/src/base/backoff.h"

namespace qmq::internal {

/// When to try again what must never be given up: a connection, a subscription, a route. A success
/// that did not last does not reset the back-off, so that a peer that accepts and drops at once is
/// not hammered.
class ReconnectMachine {
public:
    explicit ReconnectMachine(BackoffOptions options) : options_(options), backoff_(options) {}

    void OnUp(TimePoint now) {
        up_since_ = now;
        up_ = true;
    }
    /// It works, for sure: forget the failures.
    void Recovered() { backoff_.Reset(); }
    /// Lost, or never came up. When to try again.
    TimePoint OnDown(TimePoint now, Random& random);
    /// Failures in a row, this one included.
    std::uint32_t failures() const { return backoff_.failures(); }
    /// Whether this failure is worth a line in the log: the 1st, 2nd, 4th, 8th, …
    bool worth_logging() const { return (backoff_.failures() & (backoff_.failures() - 1)) == 0; }

private:
    BackoffOptions options_;
    Backoff backoff_;
    TimePoint up_since_{};
    bool up_ = false;
};

}  // namespace qmq::internal
