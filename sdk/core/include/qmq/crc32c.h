#pragma once

#include <cstdint>
#include <string_view>

namespace qmq {

/// CRC-32C (Castagnoli) of `bytes`, continuing from `crc`, the value of what came before. In
/// hardware where there is SSE 4.2.
std::uint32_t Crc32c(std::string_view bytes, std::uint32_t crc = 0);

}  // namespace qmq
