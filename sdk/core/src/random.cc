#include "qmq/random.h"

#include <bit>
#include <random>

#include "qmq/check.h"

namespace qmq {

namespace {

/// Spreads a seed over the state, so that seeds 1 and 2 have nothing in common (splitmix64).
std::uint64_t Mix(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15ULL;
    std::uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
}

}  // namespace

Random::Random(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
        word = Mix(seed);
    }
}

Random Random::FromSystem() {
    std::random_device device;
    return Random((std::uint64_t{device()} << 32) | device());
}

// xoshiro256**: small, fast, and the same on every machine, which the standard's distributions are
// not.
std::uint64_t Random::Next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

std::uint64_t Random::Below(std::uint64_t bound) {
    QMQ_CHECK(bound > 0, "Random::Below(0)");
    // Values above the last whole multiple of bound would make small results more likely.
    const std::uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    std::uint64_t value = Next();
    while (value >= limit) {
        value = Next();
    }
    return value % bound;
}

double Random::Unit() {
    return static_cast<double>(Next() >> 11) * 0x1.0p-53;
}

}  // namespace qmq
