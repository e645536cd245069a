#include "sdk/core/src/utf8.h"

#include <algorithm>
#include <cstring>

namespace qmq::internal {

namespace {

// How many bytes from the front are ASCII: most text is, and eight at a time are checked at once.
std::size_t AsciiBytes(std::string_view text) {
    std::size_t at = 0;
    for (; text.size() - at >= sizeof(std::uint64_t); at += sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + at, sizeof(word));
        if ((word & 0x8080'8080'8080'8080U) != 0) {
            break;
        }
    }
    while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) {
        ++at;
    }
    return at;
}

bool IsContinuation(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

}  // namespace

CodePoint ReadCodePoint(std::string_view text, std::size_t at) {
    const auto first = static_cast<unsigned char>(text[at]);
    if (first < 0x80) {
        return {first, 1};
    }
    const std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() - at < bytes) {
        return {};
    }
    std::uint32_t value = first & (0xFFU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) {
        if (!IsContinuation(text[at + i])) {
            return {};
        }
        value = (value << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
    }
    const bool overlong = (bytes == 3 && value < 0x800) || (bytes == 4 && value < 0x10000);
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (overlong || surrogate || value > 0x10FFFF) {
        return {};
    }
    return {value, bytes};
}

std::optional<std::size_t> CountCodePoints(std::string_view text) {
    std::size_t at = AsciiBytes(text);
    std::size_t count = at;
    while (at < text.size()) {
        const CodePoint point = ReadCodePoint(text, at);
        if (point.bytes == 0) {
            return std::nullopt;
        }
        at += point.bytes;
        ++count;
    }
    return count;
}

bool IsUtf8(std::string_view text) {
    return AsciiBytes(text) == text.size() || CountCodePoints(text).has_value();
}

std::string_view TruncateUtf8(std::string_view text, std::size_t max_bytes) {
    if (text.size() <= max_bytes) {
        return text;
    }
    std::size_t end = max_bytes;
    // A code point has at most three continuations; more of them are no text, and are cut anywhere.
    for (int i = 0; i < 3 && end > 0 && IsContinuation(text[end]); ++i) {
        --end;
    }
    return text.substr(0, IsContinuation(text[end]) ? max_bytes : end);
}

std::string Quote(std::string_view text) {
    constexpr std::size_t kShownBytes = 64;
    constexpr std::string_view kHex = "0123456789abcdef";
    const std::string_view shown = TruncateUtf8(text, kShownBytes);
    std::string out = "\"";
    for (std::size_t at = 0; at < shown.size();) {
        const CodePoint point = ReadCodePoint(shown, at);
        if (point.bytes == 0 || point.value < 0x20 || point.value == 0x7F) {
            const auto byte = static_cast<unsigned char>(shown[at]);
            out.append("\\x").append(1, kHex[byte >> 4U]).append(1, kHex[byte & 15U]);
            ++at;
        } else {
            out.append(shown.substr(at, point.bytes));
            at += point.bytes;
        }
    }
    return out.append(shown.size() < text.size() ? "…\"" : "\"");
}

}  // namespace qmq::internal
