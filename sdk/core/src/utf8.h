#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qmq::internal {

/// One code point read from UTF-8. `bytes` is 0 when there is no valid one at that place: a lone or
/// missing continuation, an overlong form, a surrogate, or beyond U+10FFFF.
struct CodePoint {
    std::uint32_t value = 0;
    std::size_t bytes = 0;
};
CodePoint ReadCodePoint(std::string_view text, std::size_t at);

bool IsUtf8(std::string_view text);
/// Nothing when `text` is not UTF-8.
std::optional<std::size_t> CountCodePoints(std::string_view text);
/// The longest front of `text` of at most `max_bytes` that cuts no code point in two.
std::string_view TruncateUtf8(std::string_view text, std::size_t max_bytes);

/// `text` in double quotes for an error message: at most 64 bytes of it, control characters and
/// bytes that are no UTF-8 as \xNN.
std::string Quote(std::string_view text);

}  // namespace qmq::internal
