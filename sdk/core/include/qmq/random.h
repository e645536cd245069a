#pragma once

#include <cstdint>

namespace qmq {

/// Where logic gets chance from, so that one seed replays a run. Not thread-safe: each owner has
/// its own. Not for secrets.
class Random {
public:
    explicit Random(std::uint64_t seed);

    /// Seeded from the system's source of chance.
    static Random FromSystem();

    std::uint64_t Next();
    /// Uniform in [0, bound). `bound` > 0.
    std::uint64_t Below(std::uint64_t bound);
    /// Uniform in [0, 1).
    double Unit();
    /// True with probability `p`, in [0, 1].
    bool Chance(double p) { return Unit() < p; }

private:
    std::uint64_t state_[4];
};

}  // namespace qmq
