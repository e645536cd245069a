#include "sdk/core/src/value_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <system_error>

namespace qmq::internal {

namespace {

constexpr std::string_view kNotANumber = "NaN";
constexpr std::string_view kInfinity = "Infinity";

std::string_view WithoutPlus(std::string_view text) {
    const bool plus = text.size() > 1 && text[0] == '+' && text[1] != '-' && text[1] != '+';
    return plus ? text.substr(1) : text;
}

template <typename T>
std::optional<T> ParseWhole(std::string_view text) {
    text = WithoutPlus(text);
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

template <typename T>
std::optional<T> ParseFloating(std::string_view text) {
    text = WithoutPlus(text);
    const bool negative = text.starts_with('-');
    const std::string_view magnitude = negative ? text.substr(1) : text;
    if (magnitude == kNotANumber) {
        return std::numeric_limits<T>::quiet_NaN();
    }
    if (magnitude == kInfinity) {
        const T infinity = std::numeric_limits<T>::infinity();
        return negative ? -infinity : infinity;
    }
    // std::from_chars knows "inf" and "nan(chars)" as well, which no other client reads.
    if (magnitude.empty() || (magnitude[0] != '.' && (magnitude[0] < '0' || magnitude[0] > '9'))) {
        return std::nullopt;
    }
    return ParseWhole<T>(text);
}

}  // namespace

NumberText::NumberText(std::int64_t value) {
    char* begin = text_.data();
    size_ = static_cast<std::size_t>(std::to_chars(begin, begin + text_.size(), value).ptr - begin);
}

NumberText::NumberText(double value) {
    WriteFloating(value);
}

NumberText::NumberText(float value) {
    WriteFloating(value);
}

void NumberText::Put(std::string_view text) {
    std::memcpy(text_.data() + size_, text.data(), text.size());
    size_ += text.size();
}

void NumberText::Put(std::size_t count, char c) {
    std::memset(text_.data() + size_, c, count);
    size_ += count;
}

template <typename T>
void NumberText::WriteFloating(T value) {
    if (std::isnan(value)) {
        return Put(kNotANumber);
    }
    if (std::signbit(value)) {
        Put("-");
        value = -value;
    }
    if (std::isinf(value)) {
        return Put(kInfinity);
    }
    if (value == T{0}) {
        return Put("0.0");
    }
    // "d.ddde±nn": the digits without their point, and the exponent.
    std::array<char, 40> buffer{};
    char* end = buffer.data() + buffer.size();
    char* stop = std::to_chars(buffer.data(), end, value, std::chars_format::scientific).ptr;
    if (buffer[1] == 'e') {
        // Java always has two digits, and takes the nearest of these: 4.9E-324, not 5.0E-324.
        std::array<char, 40> two{};
        char* two_end = two.data() + two.size();
        char* two_stop =
            std::to_chars(two.data(), two_end, value, std::chars_format::scientific, 1).ptr;
        const std::string_view nearest(two.data(), static_cast<std::size_t>(two_stop - two.data()));
        if (ParseWhole<T>(nearest) == value) {
            buffer = two;
            stop = buffer.data() + nearest.size();
        }
    }
    char* mark = std::find(buffer.data(), stop, 'e');
    int exponent = 0;
    std::from_chars(mark[1] == '+' ? mark + 2 : mark + 1, stop, exponent);
    char* digits_end = std::remove(buffer.data(), mark, '.');
    std::string_view digits(buffer.data(), static_cast<std::size_t>(digits_end - buffer.data()));
    if (digits.size() == 2 && digits[1] == '0') {
        digits.remove_suffix(1);
    }
    LayOut(digits, exponent);
}

// Java's layout of d.ddd × 10^exponent: always a digit on both sides of the point.
void NumberText::LayOut(std::string_view digits, int exponent) {
    if (exponent < -3 || exponent >= 7) {
        Put(digits.substr(0, 1));
        Put(".");
        Put(digits.size() > 1 ? digits.substr(1) : "0");
        Put("E");
        return Put(NumberText(std::int64_t{exponent}).view());
    }
    if (exponent < 0) {
        Put("0.");
        Put(static_cast<std::size_t>(-exponent - 1), '0');
        return Put(digits);
    }
    const std::size_t whole = static_cast<std::size_t>(exponent) + 1;
    Put(digits.substr(0, whole));
    if (digits.size() <= whole) {
        Put(whole - digits.size(), '0');
        return Put(".0");
    }
    Put(".");
    Put(digits.substr(whole));
}

std::optional<std::int32_t> ParseInt32(std::string_view text) {
    return ParseWhole<std::int32_t>(text);
}
std::optional<std::int64_t> ParseInt64(std::string_view text) {
    return ParseWhole<std::int64_t>(text);
}
std::optional<float> ParseFloat(std::string_view text) {
    return ParseFloating<float>(text);
}
std::optional<double> ParseDouble(std::string_view text) {
    return ParseFloating<double>(text);
}

bool ParseBool(std::string_view text) {
    constexpr std::string_view kTrue = "true";
    return text.size() == kTrue.size() &&
           std::equal(text.begin(), text.end(), kTrue.begin(), [](char c, char lower) {
               return c == lower || c == lower - 'a' + 'A';
           });
}

}  // namespace qmq::internal
