#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace qmq::internal {

/// Numbers as our formats write them: little-endian, at any address.
template <typename T>
T Load(const char* from) {
    static_assert(std::endian::native == std::endian::little,
                  "the formats are little-endian: add byte swaps for this machine");
    T value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}
inline std::uint16_t Load16(const char* from) {
    return Load<std::uint16_t>(from);
}
inline std::uint32_t Load32(const char* from) {
    return Load<std::uint32_t>(from);
}
inline std::uint64_t Load64(const char* from) {
    return Load<std::uint64_t>(from);
}

/// Writes `value` and returns where it ends.
template <typename T>
char* Store(char* to, T value) {
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(to, &value, sizeof(value));
    return to + sizeof(value);
}
inline char* StoreBytes(char* to, std::string_view bytes) {
    if (!bytes.empty()) {  // memcpy from a null pointer is undefined even for no bytes.
        std::memcpy(to, bytes.data(), bytes.size());
    }
    return to + bytes.size();
}

}  // namespace qmq::internal
