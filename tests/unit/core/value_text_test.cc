#include "sdk/core/src/value_text.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "qmq/random.h"

namespace qmq::internal {
namespace {

template <typename T>
struct Form {
    T value;
    std::string_view text;
};

// What Java's `Double.toString` prints (19 and later, where it is the shortest).
TEST(NumberTextTest, WritesDoublesAsJavaDoes) {
    const double infinity = std::numeric_limits<double>::infinity();
    const std::vector<Form<double>> forms = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {-1.0, "-1.0"},
        {100.0, "100.0"},
        {12.5, "12.5"},
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {0.001, "0.001"},
        {0.00123, "0.00123"},
        {0.000999, "9.99E-4"},
        {1e-4, "1.0E-4"},
        {9'999'999.0, "9999999.0"},
        {9'999'999.5, "9999999.5"},
        {1e7, "1.0E7"},
        {1.25e7, "1.25E7"},
        {123'456'789.5, "1.234567895E8"},
        {1e10, "1.0E10"},
        {1e23, "1.0E23"},
        {2e23, "2.0E23"},
        {-1.5e-300, "-1.5E-300"},
        {std::numeric_limits<double>::max(), "1.7976931348623157E308"},
        {std::numeric_limits<double>::min(), "2.2250738585072014E-308"},
        {std::numeric_limits<double>::denorm_min(), "4.9E-324"},
        {std::numeric_limits<double>::quiet_NaN(), "NaN"},
        {-std::numeric_limits<double>::quiet_NaN(), "NaN"},
        {infinity, "Infinity"},
        {-infinity, "-Infinity"},
    };
    for (const auto& [value, text] : forms) {
        EXPECT_EQ(NumberText(value).view(), text);
    }
}

TEST(NumberTextTest, WritesFloatsAsJavaDoes) {
    const std::vector<Form<float>> forms = {
        {0.0F, "0.0"},
        {1.0F, "1.0"},
        {0.1F, "0.1"},
        {3.14159274F, "3.1415927"},
        {16'777'216.0F, "1.6777216E7"},
        {1e7F, "1.0E7"},
        {1e10F, "1.0E10"},
        {1.0F / 3'000, "3.3333333E-4"},
        {std::numeric_limits<float>::max(), "3.4028235E38"},
        {std::numeric_limits<float>::denorm_min(), "1.4E-45"},
        {-std::numeric_limits<float>::infinity(), "-Infinity"},
    };
    for (const auto& [value, text] : forms) {
        EXPECT_EQ(NumberText(value).view(), text);
    }
}

TEST(NumberTextTest, WritesTheEdgesOfWholeNumbers) {
    EXPECT_EQ(NumberText(std::int64_t{0}).view(), "0");
    EXPECT_EQ(NumberText(INT64_MAX).view(), "9223372036854775807");
    EXPECT_EQ(NumberText(INT64_MIN).view(), "-9223372036854775808");
}

TEST(NumberTextTest, EveryDoubleAndFloatReadsBackAsItself) {
    constexpr std::uint64_t kSeed = 11;
    Random random(kSeed);
    for (int i = 0; i < 100'000; ++i) {
        const std::uint64_t bits = random.Next();
        const auto wide = std::bit_cast<double>(bits);
        const auto narrow = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
        if (!std::isnan(wide)) {
            ASSERT_EQ(ParseDouble(NumberText(wide).view()), wide) << NumberText(wide).view();
        }
        if (!std::isnan(narrow)) {
            ASSERT_EQ(ParseFloat(NumberText(narrow).view()), narrow) << NumberText(narrow).view();
        }
    }
}

TEST(ParseTest, ReadsWhatWritersInOtherLanguagesWrite) {
    EXPECT_EQ(ParseDouble("12.5"), 12.5);
    EXPECT_EQ(ParseDouble("1e+10"), 1e10);
    EXPECT_EQ(ParseDouble("1E10"), 1e10);
    EXPECT_EQ(ParseDouble("+1.5"), 1.5);
    EXPECT_EQ(ParseDouble("5"), 5.0);
    EXPECT_EQ(ParseDouble(".5"), 0.5);
    EXPECT_EQ(ParseDouble("-0.10000000000000001"), -0.1);
    EXPECT_EQ(ParseDouble("Infinity"), std::numeric_limits<double>::infinity());
    EXPECT_EQ(ParseDouble("-Infinity"), -std::numeric_limits<double>::infinity());
    EXPECT_TRUE(std::isnan(ParseDouble("NaN").value_or(0)));
    EXPECT_EQ(ParseFloat("0.100000001"), 0.1F);
    EXPECT_EQ(ParseInt64("+42"), 42);
    EXPECT_EQ(ParseInt32("-2147483648"), INT32_MIN);
}

TEST(ParseTest, RefusesWhatIsNoNumberOrDoesNotFit) {
    for (const std::string_view text :
         {"", " ", "+", "-", "+-1", "++1", "1 ", " 1", "0x10", "1,5", "abc", "1e", "--1"}) {
        EXPECT_EQ(ParseInt32(text), std::nullopt) << text;
        EXPECT_EQ(ParseInt64(text), std::nullopt) << text;
        EXPECT_EQ(ParseDouble(text), std::nullopt) << text;
        EXPECT_EQ(ParseFloat(text), std::nullopt) << text;
    }
    for (const std::string_view text :
         {"inf", "nan", "infinity", "NAN", "nan(1)", "1e400", "-1e-400"}) {
        EXPECT_EQ(ParseDouble(text), std::nullopt) << text;
    }
    EXPECT_EQ(ParseFloat("1e39"), std::nullopt);
    EXPECT_EQ(ParseInt32("2147483648"), std::nullopt);
    EXPECT_EQ(ParseInt64("9223372036854775808"), std::nullopt);
    EXPECT_EQ(ParseInt64("5.0"), std::nullopt);
}

TEST(ParseTest, OnlyTheWordTrueIsTrue) {
    EXPECT_TRUE(ParseBool("true"));
    EXPECT_TRUE(ParseBool("TRUE"));
    EXPECT_TRUE(ParseBool("tRuE"));
    for (const std::string_view text : {"", "false", "1", "yes", "true ", "TRU", "\x14rue"}) {
        EXPECT_FALSE(ParseBool(text)) << text;
    }
}

}  // namespace
}  // namespace qmq::internal
