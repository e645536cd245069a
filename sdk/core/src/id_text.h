#pragma once

#include <cstddef>
#include <cstdint>

namespace qmq::internal {

inline constexpr std::size_t kIdPrefixLength = 18;

/// Writes id number `count` of the generator with `prefix` (its birth and its random characters).
/// Here so that a test need not make 2^40 ids.
void WriteId(const char* prefix, std::uint64_t count, char* out);

}  // namespace qmq::internal
