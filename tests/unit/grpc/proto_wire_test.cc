#include "plugins/grpc/codec/proto_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace qmq::rpc {
namespace {

using testing::HasSubstr;

TEST(FieldReaderTest, ReadsNumbersOfEveryLengthAsTheyWereWritten) {
    for (unsigned bits = 1; bits <= 64; ++bits) {
        const std::uint64_t value = std::numeric_limits<std::uint64_t>::max() >> (64 - bits);
        std::string bytes;
        PutVarintField(&bytes, 3, value);
        EXPECT_EQ(bytes.size(), VarintFieldBytes(value));

        FieldReader reader(bytes, "test");
        ASSERT_TRUE(reader.Next());
        EXPECT_EQ(reader.field(), 3U);
        EXPECT_EQ(reader.Varint(), value);
        EXPECT_FALSE(reader.Next());
        EXPECT_TRUE(reader.status().ok());
    }
}

TEST(FieldReaderTest, FieldsOfFixedSizeAreSkipped) {
    const std::string bytes(
        "\x09"
        "12345678"
        "\x15"
        "1234"
        "\x18\x07",
        16);
    FieldReader reader(bytes, "test");
    ASSERT_TRUE(reader.Next());
    EXPECT_EQ(reader.Varint(), 0U);
    ASSERT_TRUE(reader.Next());
    EXPECT_EQ(reader.Bytes(), "");
    ASSERT_TRUE(reader.Next());
    EXPECT_EQ(reader.field(), 3U);
    EXPECT_EQ(reader.Varint(), 7U);
}

struct Refused {
    std::string bytes;
    const char* why;
};

class RefusedBytes : public testing::TestWithParam<Refused> {};

TEST_P(RefusedBytes, AreRefusedWithPlaceAndReason) {
    FieldReader reader(GetParam().bytes, "Thing");
    while (reader.Next()) {
    }
    EXPECT_EQ(reader.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr(GetParam().why));
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr("Thing: byte "));
}

INSTANTIATE_TEST_SUITE_P(
    All,
    RefusedBytes,
    testing::Values(Refused{"\x80", "ends inside a number"},
                    Refused{"\x08", "ends inside a number"},
                    Refused{std::string("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11),
                            "64 bits"},
                    Refused{std::string("\x0a\x05"
                                        "ab",
                                        4),
                            "points behind the end"},
                    Refused{std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),
                            "points behind the end"},
                    Refused{"\x09"
                            "1234567",
                            "fixed-size"},
                    Refused{"\x0b", "unknown wire type"},
                    Refused{std::string("\x00\x01", 2), "field number"},
                    Refused{std::string("\x80\x80\x80\x80\x10\x01", 6), "field number"}));

TEST(CleanTextTest, KeepsUtf8AndReplacesEveryOtherByte) {
    EXPECT_EQ(CleanText("grüße 票 😀", 100), "grüße 票 😀");
    EXPECT_EQ(CleanText("a\xff\xc3"
                        "(b",
                        100),
              "a?"
              "?(b");
    EXPECT_EQ(CleanText("\xed\xa0\x80", 100), "???");       // A surrogate.
    EXPECT_EQ(CleanText("\xc0\xaf", 100), "??");            // Overlong.
    EXPECT_EQ(CleanText("\xf4\x90\x80\x80", 100), "????");  // Beyond the last.
    EXPECT_EQ(CleanText("cut \xe7\xa5", 100), "cut ??");    // Cut short.
}

TEST(CleanTextTest, CutsBetweenCharacters) {
    EXPECT_EQ(CleanText("ab票", 4), "ab");
    EXPECT_EQ(CleanText("ab票", 5), "ab票");
}

TEST(IsUtf8Test, TellsTextFromBytes) {
    EXPECT_TRUE(IsUtf8("票"));
    EXPECT_FALSE(IsUtf8("\xff"));
}

}  // namespace
}  // namespace qmq::rpc
