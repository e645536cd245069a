#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "tests/simulation/sim_network.h"
#include "tests/support/audit.h"

namespace qmq::simulation {

struct SimulationOptions {
    std::uint64_t seed = 1;
    int producers = 3;
    int messages = 500;
    int restarts = 2;  ///< At least; half of them power cuts.
    /// Now and then the power goes right after a file has been renamed. With even seeds always.
    bool cut_after_rename = false;
    /// Parts of the world that are left out, by their names in `WorldPlan`, to find what fails.
    std::set<std::string> without = {};
    /// Prints what happens to this message, and every fault, with the virtual time.
    std::string trace = {};
};

/// What one seed did and found.
struct SimulationReport {
    testing::Audit::Verdict verdict;
    std::uint64_t hash = 0;
    std::uint64_t events = 0;
    std::chrono::nanoseconds virtual_time{};
    /// How often each kind of fault was done, and each place reached.
    std::map<std::string, std::uint64_t> faults;
    bool ok() const { return verdict.ok(); }
};

/// Runs the real client and the real broker over a simulated clock, disk and network, from one
/// seed, in one thread.
SimulationReport RunSimulation(const SimulationOptions& options);

}  // namespace qmq::simulation
