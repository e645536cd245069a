#include "server/app/message_text.h"

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace qmq::app {

namespace {

bool IsContinuation(char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

/// Bytes of the UTF-8 sequence that starts with `first`; zero when none does.
std::size_t SequenceBytes(unsigned char first) {
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) return 2;
    if (first >= 0xE0 && first <= 0xEF) return 3;
    if (first >= 0xF0 && first <= 0xF4) return 4;
    return 0;
}

/// Length of the valid UTF-8 sequence at `position`, zero when there is none.
std::size_t ValidAt(std::string_view text, std::size_t position) {
    const std::size_t bytes = SequenceBytes(static_cast<unsigned char>(text[position]));
    if (bytes == 0 || position + bytes > text.size()) {
        return 0;
    }
    for (std::size_t i = 1; i < bytes; ++i) {
        if (!IsContinuation(text[position + i])) {
            return 0;
        }
    }
    if (bytes > 2) {
        // Overlong forms, surrogates, and what lies beyond the last code point.
        const auto first = static_cast<unsigned char>(text[position]);
        const auto second = static_cast<unsigned char>(text[position + 1]);
        if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
            (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) {
            return 0;
        }
    }
    return bytes;
}

/// Whether the valid character at `position` steers a terminal: U+0000 to U+001F, U+007F, and
/// U+0080 to U+009F, which are two bytes.
bool IsControl(std::string_view text, std::size_t position) {
    const auto first = static_cast<unsigned char>(text[position]);
    return first < 0x20 || first == 0x7F ||
           (first == 0xC2 && static_cast<unsigned char>(text[position + 1]) < 0xA0);
}

bool IsUtf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t bytes = ValidAt(text, i);
        if (bytes == 0) {
            return false;
        }
        i += bytes;
    }
    return true;
}

std::string Base64(std::string_view bytes) {
    constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < 3; ++j) {
            group = (group << 8) |
                    (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
        }
        for (std::size_t j = 0; j < 4; ++j) {
            out += i + j <= bytes.size() ? kDigits[(group >> (18 - 6 * j)) & 63U] : '=';
        }
    }
    return out;
}

boost::json::string Utf8(std::string_view text) {
    return IsUtf8(text) ? boost::json::string(text) : boost::json::string(Printable(text));
}

/// JSON escapes U+0000 to U+001F only. The others can but lie in its strings.
std::string EscapeControls(std::string_view json) {
    std::string out;
    for (std::size_t i = 0; i < json.size();) {
        const std::size_t valid = ValidAt(json, i);
        if (IsControl(json, i)) {
            std::array<char, 7> code{};
            std::snprintf(code.data(),
                          code.size(),
                          "\\u%04x",
                          static_cast<unsigned char>(json[i + valid - 1]));
            out += code.data();
        } else {
            out.append(json, i, valid);
        }
        i += valid;
    }
    return out;
}

}  // namespace

std::string Printable(std::string_view bytes) {
    std::string out;
    for (std::size_t i = 0; i < bytes.size();) {
        const std::size_t valid = ValidAt(bytes, i);
        if (valid > 0 && bytes[i] != '\\' && !IsControl(bytes, i)) {
            out.append(bytes, i, valid);
            i += valid;
            continue;
        }
        std::array<char, 5> code{};
        std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned char>(bytes[i]));
        out += code.data();
        ++i;
    }
    return out;
}

std::string ToTextLine(const Message& message) {
    std::string line = Printable(message.id());
    line += " attempt " + std::to_string(message.attempt());
    for (const std::string_view tag : message.tags()) {
        line += " #" + Printable(tag);
    }
    for (const Property& property : message.properties()) {
        line += " " + Printable(property.name) + "=" + Printable(property.text);
    }
    return line + " | " + Printable(message.body());
}

std::string ToJsonLine(const Message& message) {
    boost::json::object object;
    object["subject"] = Utf8(message.subject());
    object["id"] = Utf8(message.id());
    object["attempt"] = message.attempt();
    object["created_ms"] = message.created_time().time_since_epoch().count();
    if (!message.ordering_key().empty()) {
        object["key"] = Utf8(message.ordering_key());
    }
    boost::json::array tags;
    for (const std::string_view tag : message.tags()) {
        tags.emplace_back(Utf8(tag));
    }
    object["tags"] = std::move(tags);
    boost::json::object properties;
    boost::json::object binary;
    for (const Property& property : message.properties()) {
        if (IsUtf8(property.text)) {
            properties[Utf8(property.name)] = property.text;
        } else {
            binary[Utf8(property.name)] = Base64(property.text);
        }
    }
    object["properties"] = std::move(properties);
    if (!binary.empty()) {
        object["properties_base64"] = std::move(binary);
    }
    if (IsUtf8(message.body())) {
        object["body"] = message.body();
    } else {
        object["body_base64"] = Base64(message.body());
    }
    return EscapeControls(boost::json::serialize(object));
}

}  // namespace qmq::app
