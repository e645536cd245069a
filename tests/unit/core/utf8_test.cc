#include "sdk/core/src/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace qmq::internal {
namespace {

TEST(Utf8Test, CountsCodePointsOfEachLength) {
    EXPECT_EQ(CountCodePoints(""), 0U);
    EXPECT_EQ(CountCodePoints("plain ascii text"), 16U);
    EXPECT_EQ(CountCodePoints("aé订😀"), 4U);
    EXPECT_EQ(CountCodePoints("\U0010FFFF\uD7FF\uE000"), 3U);
}

TEST(Utf8Test, KnowsWhatIsNoUtf8WhereverItStands) {
    for (const std::string_view bad : {"\x80",
                                       "\xC1\x81",
                                       "\xC3",
                                       "\xC3(",
                                       "\xE0\x80\x80",
                                       "\xE8\xAE",
                                       "\xED\xBF\xBF",
                                       "\xF0\x80\x80\x80",
                                       "\xF4\x90\x80\x80",
                                       "\xF5\x80\x80\x80",
                                       "\xFE"}) {
        EXPECT_FALSE(IsUtf8(bad));
        EXPECT_FALSE(IsUtf8(std::string("twelve bytes").append(bad)));
        EXPECT_FALSE(IsUtf8(std::string(bad).append("twelve bytes")));
    }
}

TEST(Utf8Test, CutsOnlyBetweenCharacters) {
    EXPECT_EQ(TruncateUtf8("short", 10), "short");
    EXPECT_EQ(TruncateUtf8("aé订😀", 0), "");
    EXPECT_EQ(TruncateUtf8("aé订😀", 2), "a");
    EXPECT_EQ(TruncateUtf8("aé订😀", 3), "aé");
    EXPECT_EQ(TruncateUtf8("aé订😀", 5), "aé");
    EXPECT_EQ(TruncateUtf8("aé订😀", 6), "aé订");
    EXPECT_EQ(TruncateUtf8("aé订😀", 9), "aé订");
    EXPECT_EQ(TruncateUtf8("aé订😀", 10), "aé订😀");
}

TEST(Utf8Test, BytesThatAreNoTextAreCutAnywhere) {
    const std::string continuations(20, '\x80');
    EXPECT_EQ(TruncateUtf8(continuations, 10).size(), 10U);
}

TEST(QuoteTest, ShowsTextAsItIsAndTheRestAsHex) {
    EXPECT_EQ(Quote("order 订单"), "\"order 订单\"");
    EXPECT_EQ(Quote(std::string_view("a\0\n\x7F\xFF", 5)), "\"a\\x00\\x0a\\x7f\\xff\"");
    EXPECT_EQ(Quote(std::string(100, 'x')), "\"" + std::string(64, 'x') + "…\"");
}

}  // namespace
}  // namespace qmq::internal
