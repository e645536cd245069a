#pragma once

#include <cstddef>

namespace qmq::internal {

inline constexpr std::size_t kCacheLine = 64;

/// Asks for memory that will be read soon. `begin` may be anything, also null.
inline void Prefetch(const void* begin, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += kCacheLine) {
        __builtin_prefetch(static_cast<const char*>(begin) + at);
    }
}

/// As above, for memory that will be written.
inline void PrefetchToWrite(const void* begin, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += kCacheLine) {
        __builtin_prefetch(static_cast<const char*>(begin) + at, 1);
    }
}

}  // namespace qmq::internal
