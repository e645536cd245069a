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

/// Bytes of the UTF-8 sequence that starts with `first`; zero when none does. Overlong and
/// surrogate forms are left to readers.
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
    return bytes;
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

std::string Escape(std::string_view bytes) {
    std::string out;
    for (std::size_t i = 0; i < bytes.size();) {
        const std::size_t valid = ValidAt(bytes, i);
        const auto c = static_cast<unsigned char>(bytes[i]);
        if (valid > 1 || (valid == 1 && c >= 0x20 && c != 0x7F && c != '\\')) {
            out.append(bytes, i, valid);
            i += valid;
            continue;
        }
        std::array<char, 5> code{};
        std::snprintf(code.data(), code.size(), "\\x%02x", c);
        out += code.data();
        ++i;
    }
    return out;
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

}  // namespace

std::string ToTextLine(const Message& message) {
    std::string line(message.id());
    line += " attempt " + std::to_string(message.attempt());
    for (const std::string_view tag : message.tags()) {
        line += " #" + Escape(tag);
    }
    for (const Property& property : message.properties()) {
        line += " " + Escape(property.name) + "=" + Escape(property.text);
    }
    return line + " | " + Escape(message.body());
}

std::string ToJsonLine(const Message& message) {
    boost::json::object object;
    object["subject"] = message.subject();
    object["id"] = message.id();
    object["attempt"] = message.attempt();
    object["created_ms"] = message.created_time().time_since_epoch().count();
    if (!message.ordering_key().empty()) {
        object["key"] = message.ordering_key();
    }
    boost::json::array tags;
    for (const std::string_view tag : message.tags()) {
        tags.emplace_back(tag);
    }
    object["tags"] = std::move(tags);
    boost::json::object properties;
    for (const Property& property : message.properties()) {
        properties[property.name] = property.text;
    }
    object["properties"] = std::move(properties);
    if (IsUtf8(message.body())) {
        object["body"] = message.body();
    } else {
        object["body_base64"] = Base64(message.body());
    }
    return boost::json::serialize(object);
}

}  // namespace qmq::app
