#include "qmq/crc32c.h"

#include <gtest/gtest.h>

#include <string>

#include "qmq/random.h"

#include "sdk/core/src/crc32c_table.h"

namespace qmq {
namespace {

std::string RandomBytes(std::size_t size) {
    Random random(size);
    std::string bytes(size, '\0');
    for (char& byte : bytes) {
        byte = static_cast<char>(random.Next());
    }
    return bytes;
}

// RFC 3720, B.4.
TEST(Crc32cTest, GivesThePublishedValues) {
    std::string counting;
    for (int i = 0; i < 32; ++i) {
        counting.push_back(static_cast<char>(i));
    }
    EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAU);
    EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
    EXPECT_EQ(Crc32c(counting), 0x46DD794EU);
    EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);
    EXPECT_EQ(Crc32c(""), 0U);
}

// The lengths around the ends of the stretches that hardware sums side by side: 3 × 256, 3 × 4096.
TEST(Crc32cTest, HardwareAndTableAgreeOnEveryLengthAndAddress) {
    const std::string bytes = RandomBytes(40'000);
    const std::string_view all = bytes;
    for (const std::size_t around : {0U, 768U, 1'536U, 12'288U, 13'056U, 24'576U, 36'864U}) {
        for (std::size_t size = around < 20 ? 0 : around - 20; size <= around + 20; ++size) {
            for (std::size_t offset = 0; offset < 9; ++offset) {
                const std::string_view part = all.substr(offset, size);
                ASSERT_EQ(Crc32c(part), internal::Crc32cByTable(part, 0))
                    << size << " bytes at " << offset;
            }
        }
    }
}

TEST(Crc32cTest, ContinuesFromWhatCameBefore) {
    const std::string bytes = RandomBytes(2'000);
    const std::string_view all = bytes;
    const std::uint32_t whole = Crc32c(all);
    for (std::size_t cut = 0; cut <= all.size(); cut += 37) {
        EXPECT_EQ(Crc32c(all.substr(cut), Crc32c(all.substr(0, cut))), whole) << cut;
        const std::uint32_t front = internal::Crc32cByTable(all.substr(0, cut), 0);
        EXPECT_EQ(internal::Crc32cByTable(all.substr(cut), front), whole) << cut;
    }
}

}  // namespace
}  // namespace qmq
