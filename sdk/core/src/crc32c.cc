#include "qmq/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

#include "sdk/core/src/crc32c_table.h"
#include "sdk/core/src/little_endian.h"

namespace qmq {

namespace {

constexpr std::uint32_t kPolynomial = 0x82F6'3B78;  // Castagnoli's, bits reversed.

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Table k steps over a byte that k bytes follow, so that eight look-ups step over eight bytes.
constexpr Tables MakeTables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
        }
        tables[0][byte] = crc;
    }
    for (std::size_t k = 1; k < tables.size(); ++k) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8U) ^ tables[0][before & 0xFFU];
        }
    }
    return tables;
}

constexpr Tables kTables = MakeTables();

std::uint32_t TableCrc(const char* data, std::size_t size, std::uint32_t crc) {
    for (; size >= 8; size -= 8, data += 8) {
        const std::uint64_t word = internal::Load64(data) ^ crc;
        crc = 0;
        for (std::size_t k = 0; k < 8; ++k) {
            crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFFU];
        }
    }
    for (; size > 0; --size, ++data) {
        crc = (crc >> 8U) ^ kTables[0][(crc ^ static_cast<unsigned char>(*data)) & 0xFFU];
    }
    return crc;
}

#if defined(__x86_64__)

// x^n modulo the polynomial, bits reversed like every value here.
constexpr std::uint32_t PowerOfX(std::size_t n) {
    std::uint32_t value = 0x8000'0000;
    for (std::size_t i = 0; i < n; ++i) {
        value = (value >> 1U) ^ ((value & 1U) != 0 ? kPolynomial : 0U);
    }
    return value;
}

// `crc` as it is after `kBytes` zero bytes more: a multiplication by x^(8 kBytes). The 33 that
// are missing from the power come from the instructions: 32 from crc32, 1 from the product of two
// reversed numbers.
template <std::size_t kBytes>
__attribute__((target("sse4.2,pclmul"))) std::uint64_t Shift(std::uint64_t crc) {
    static constexpr std::uint32_t kPower = PowerOfX(8 * kBytes - 33);
    const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(crc)),
                                                 _mm_cvtsi64_si128(static_cast<long long>(kPower)),
                                                 0);
    return _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(product)));
}

// The crc32 instruction takes three cycles and one can start in each, so three stretches of
// `kStretch` bytes are summed side by side and joined.
template <std::size_t kStretch>
__attribute__((target("sse4.2,pclmul"))) std::uint64_t Stretches(const char*& data,
                                                                 std::size_t& size,
                                                                 std::uint64_t crc) {
    for (; size >= 3 * kStretch; size -= 3 * kStretch, data += 3 * kStretch) {
        std::uint64_t second = 0;
        std::uint64_t third = 0;
        for (std::size_t at = 0; at < kStretch; at += 8) {
            crc = _mm_crc32_u64(crc, internal::Load64(data + at));
            second = _mm_crc32_u64(second, internal::Load64(data + kStretch + at));
            third = _mm_crc32_u64(third, internal::Load64(data + 2 * kStretch + at));
        }
        crc = Shift<kStretch>(crc) ^ second;
        crc = Shift<kStretch>(crc) ^ third;
    }
    return crc;
}

__attribute__((target("sse4.2,pclmul"))) std::uint32_t HardwareCrc(const char* data,
                                                                   std::size_t size,
                                                                   std::uint32_t start) {
    std::uint64_t crc = start;
    crc = Stretches<4096>(data, size, crc);
    crc = Stretches<256>(data, size, crc);
    for (; size >= 8; size -= 8, data += 8) {
        crc = _mm_crc32_u64(crc, internal::Load64(data));
    }
    auto narrow = static_cast<std::uint32_t>(crc);
    for (; size > 0; --size, ++data) {
        narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*data));
    }
    return narrow;
}

#endif

using Function = std::uint32_t (*)(const char*, std::size_t, std::uint32_t);

Function Choose() {
#if defined(__x86_64__)
    // Another static's constructor may come here before the compiler's own initialisation.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        return &HardwareCrc;
    }
#endif
    return &TableCrc;
}

}  // namespace

namespace internal {

std::uint32_t Crc32cByTable(std::string_view bytes, std::uint32_t crc) {
    return ~TableCrc(bytes.data(), bytes.size(), ~crc);
}

}  // namespace internal

std::uint32_t Crc32c(std::string_view bytes, std::uint32_t crc) {
    static const Function function = Choose();
    return ~function(bytes.data(), bytes.size(), ~crc);
}

}  // namespace qmq
