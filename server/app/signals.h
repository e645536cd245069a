#pragma once

#include <csignal>

namespace qmq::app {

/// Catches SIGINT and SIGTERM for `Wait`. Made before any thread, so that all threads inherit the
/// mask and only `Wait` sees them.
class StopSignals {
public:
    StopSignals();
    /// Blocks until one of them comes; says which.
    int Wait() const;
    /// Whether one has come, without waiting; takes it.
    bool Pending() const;

private:
    sigset_t set_;
};

}  // namespace qmq::app
