#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "qmq/clock.h"
#include "qmq/random.h"

namespace qmq {

/// Makes message ids that are unique across processes, containers and restarts: 26 characters of
/// Crockford's base 32, of which the first 10 are the generator's birth in milliseconds, the next 8
/// are 40 random bits of this generator, and the last 8 a counter. So ids of one generator sort in
/// the order in which they were made. Thread-safe, lock-free.
class MessageIdGenerator {
public:
    static constexpr std::size_t kLength = 26;

    MessageIdGenerator(WallTime birth, Random& random);

    /// Writes `kLength` characters to `out`.
    void Next(char* out);
    std::string Next();

private:
    char prefix_[18];
    std::atomic<std::uint64_t> counter_{0};
};

/// An id for a process or a client: host name, process id and 80 random bits, without characters
/// that names may not have.
std::string MakeClientId();

}  // namespace qmq
