#include "plugins/grpc/codec/proto_wire.h"

namespace qmq::rpc {

bool FieldReader::Fail(const char* why) {
    status_ = Status::InvalidArgument(std::string(what_) + ": byte " + std::to_string(offset_) +
                                      " of " + std::to_string(bytes_.size()) + ": " + why);
    return false;
}

bool FieldReader::ReadVarint(std::uint64_t* value) {
    std::uint64_t result = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (offset_ == bytes_.size()) {
            return Fail("the message ends inside a number");
        }
        const auto byte = static_cast<unsigned char>(bytes_[offset_++]);
        if (shift == 63 && byte > 1) {
            return Fail("a number is larger than 64 bits");
        }
        result |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    return Fail("a number is longer than 10 bytes");
}

bool FieldReader::ReadLength() {
    std::uint64_t length = 0;
    if (!ReadVarint(&length)) {
        return false;
    }
    if (length > bytes_.size() - offset_) {
        return Fail("a length points behind the end");
    }
    value_ = bytes_.substr(offset_, static_cast<std::size_t>(length));
    offset_ += static_cast<std::size_t>(length);
    return true;
}

bool FieldReader::SkipFixed(std::size_t bytes) {
    if (bytes > bytes_.size() - offset_) {
        return Fail("the message ends inside a fixed-size number");
    }
    offset_ += bytes;
    return true;
}

bool FieldReader::Next() {
    if (!status_.ok() || offset_ == bytes_.size()) {
        return false;
    }
    std::uint64_t tag = 0;
    if (!ReadVarint(&tag)) {
        return false;
    }
    if (tag > 0xFFFFFFFFU || tag < 8) {
        return Fail("a field number out of range");
    }
    field_ = static_cast<std::uint32_t>(tag >> 3);
    switch (tag & 7) {
        case 0:
            type_ = WireType::kVarint;
            return ReadVarint(&varint_);
        case 1:
            type_ = WireType::kFixed64;
            return SkipFixed(8);
        case 2:
            type_ = WireType::kBytes;
            return ReadLength();
        case 5:
            type_ = WireType::kFixed32;
            return SkipFixed(4);
        default:
            return Fail("an unknown wire type");
    }
}

void PutVarint(std::string* out, std::uint64_t value) {
    while (value >= 0x80) {
        out->push_back(static_cast<char>(value | 0x80));
        value >>= 7;
    }
    out->push_back(static_cast<char>(value));
}

void PutVarintField(std::string* out, std::uint32_t field, std::uint64_t value) {
    if (value != 0) {
        out->push_back(static_cast<char>(field << 3));
        PutVarint(out, value);
    }
}

void PutLength(std::string* out, std::uint32_t field, std::size_t length) {
    out->push_back(static_cast<char>(field << 3 | 2));
    PutVarint(out, length);
}

void PutBytesField(std::string* out, std::uint32_t field, std::string_view bytes) {
    if (!bytes.empty()) {
        PutLength(out, field, bytes.size());
        out->append(bytes);
    }
}

namespace {

/// Bytes of the UTF-8 character at the front of `text`, or 0 when there is none.
std::size_t Utf8Length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) {
        return 1;
    }
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < length) {
        return 0;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) {
            return 0;
        }
    }
    // Overlong forms, surrogates, and what lies beyond the last code point.
    const bool refused = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F) ||
                         (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F);
    return refused ? 0 : length;
}

}  // namespace

bool IsUtf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = Utf8Length(text);
        if (length == 0) {
            return false;
        }
        text.remove_prefix(length);
    }
    return true;
}

std::string CleanText(std::string_view text, std::size_t max_bytes) {
    std::string clean;
    while (!text.empty()) {
        const std::size_t length = Utf8Length(text);
        const std::size_t taken = length == 0 ? 1 : length;
        if (clean.size() + taken > max_bytes) {
            break;
        }
        if (length == 0) {
            clean.push_back('?');
        } else {
            clean.append(text.substr(0, length));
        }
        text.remove_prefix(taken);
    }
    return clean;
}

}  // namespace qmq::rpc
