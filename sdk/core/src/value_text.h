#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

/// The text forms of property values: those that clients in Java write and read.
namespace qmq::internal {

/// A number's text on the stack: no form is longer.
class NumberText {
public:
    /// Decimal.
    explicit NumberText(std::int64_t value);
    /// The shortest decimal that reads back as the same value, as Java's `Double.toString` lays it
    /// out: `1.0`, `1.0E10`, `NaN`, `Infinity`; without an exponent for 1e-3 <= |value| < 1e7.
    explicit NumberText(double value);
    /// The same for `Float.toString`.
    explicit NumberText(float value);

    std::string_view view() const { return {text_.data(), size_}; }

private:
    template <typename T>
    void WriteFloating(T value);
    void Put(std::string_view text);
    void Put(std::size_t count, char c);
    void LayOut(std::string_view digits, int exponent);

    std::array<char, 32> text_{};
    std::size_t size_ = 0;
};

/// Nothing when the whole of `text` is no such number, or one that does not fit. A plus sign in
/// front is accepted, as Java does.
std::optional<std::int32_t> ParseInt32(std::string_view text);
std::optional<std::int64_t> ParseInt64(std::string_view text);
std::optional<float> ParseFloat(std::string_view text);
std::optional<double> ParseDouble(std::string_view text);
/// Case-insensitive "true".
bool ParseBool(std::string_view text);

}  // namespace qmq::internal
