#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qmq/status.h"

/// Protobuf's wire format, as far as the messages of the two streams need it: broker.proto says
/// what they are, the generated classes in the tests say whether this reads and writes the same.
namespace qmq::rpc {

enum class WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

/// Walks the fields of one message. Every byte comes from a peer: lengths are checked before
/// anything is touched. The first mistake ends the walk and stays in `status()`.
///
///     while (reader.Next()) switch (reader.field()) { case 1: id = reader.Varint(); break; … }
///
/// A field that is not read, or not of the type that the accessor asks for, is skipped, as protobuf
/// wants it of fields that are unknown.
class FieldReader {
public:
    /// `what` names the message in errors, and lives longer than the reader.
    FieldReader(std::string_view bytes, const char* what) : bytes_(bytes), what_(what) {}

    /// Goes to the next field. False at the end and after a mistake.
    bool Next();
    std::uint32_t field() const { return field_; }
    bool IsVarint() const { return type_ == WireType::kVarint; }
    bool IsBytes() const { return type_ == WireType::kBytes; }

    /// The value of the field; zero or nothing when it is of another type.
    std::uint64_t Varint() const { return IsVarint() ? varint_ : 0; }
    std::uint32_t Varint32() const { return static_cast<std::uint32_t>(Varint()); }
    std::string_view Bytes() const { return IsBytes() ? value_ : std::string_view(); }
    std::string String() const { return std::string(Bytes()); }

    const Status& status() const { return status_; }

private:
    bool ReadVarint(std::uint64_t* value);
    bool ReadLength();
    bool SkipFixed(std::size_t bytes);
    bool Fail(const char* why);

    std::string_view bytes_;
    const char* what_;
    std::size_t offset_ = 0;
    std::uint32_t field_ = 0;
    WireType type_ = WireType::kVarint;
    std::uint64_t varint_ = 0;
    std::string_view value_;
    Status status_;
};

/// Bytes that `value` takes as a varint: 1 to 10.
constexpr std::size_t VarintBytes(std::uint64_t value) {
    std::size_t bytes = 1;
    while (value >= 0x80) {
        value >>= 7;
        ++bytes;
    }
    return bytes;
}

/// Bytes of a field, its tag included. All fields here have numbers below 16, so a tag is one byte.
/// As proto3 does, zero and empty are not written.
constexpr std::size_t VarintFieldBytes(std::uint64_t value) {
    return value == 0 ? 0 : 1 + VarintBytes(value);
}
constexpr std::size_t BytesFieldBytes(std::size_t length) {
    return length == 0 ? 0 : 1 + VarintBytes(length) + length;
}
/// A message field is written even when it is empty: it is there or not.
constexpr std::size_t MessageFieldBytes(std::size_t length) {
    return 1 + VarintBytes(length) + length;
}

void PutVarint(std::string* out, std::uint64_t value);
void PutVarintField(std::string* out, std::uint32_t field, std::uint64_t value);
/// The tag and length of a field whose `length` bytes the caller writes next.
void PutLength(std::string* out, std::uint32_t field, std::size_t length);
void PutBytesField(std::string* out, std::uint32_t field, std::string_view bytes);

/// `text` with what is not valid UTF-8 replaced by '?', and cut at `max_bytes` between two
/// characters: a protobuf `string` must be UTF-8, and texts of errors come from anywhere.
std::string CleanText(std::string_view text, std::size_t max_bytes);
bool IsUtf8(std::string_view text);

/// The longest error text that travels.
inline constexpr std::size_t kMaxErrorTextBytes = 4'096;

}  // namespace qmq::rpc
