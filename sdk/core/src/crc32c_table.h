#pragma once

#include <cstdint>
#include <string_view>

namespace qmq::internal {

/// `Crc32c` for machines without the instruction. Here so that a test runs it on the others too.
std::uint32_t Crc32cByTable(std::string_view bytes, std::uint32_t crc);

}  // namespace qmq::internal
