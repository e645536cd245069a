#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "qmq/batch.h"
#include "qmq/message.h"
#include "qmq/slice.h"

/// One message as it lies in a batch (docs/design/batch-format.md): read without trust, written
/// without allocation.
namespace qmq::internal {

inline constexpr std::size_t kMessageFixedBytes = 16;  // size, flags, tag count, id size, created.
inline constexpr std::size_t kPropertyFixedBytes = 7;  // kind, name size, value size.
inline constexpr std::size_t kMaxIdBytes = 400;        // 100 characters of UTF-8.
inline constexpr std::uint8_t kFlagDeliverAt = 1;
inline constexpr std::uint8_t kFlagAttempt = 2;
inline constexpr std::uint8_t kFlagKey = 4;
inline constexpr std::uint8_t kKnownFlags = kFlagDeliverAt | kFlagAttempt | kFlagKey;

/// The first thing that is wrong with a message's bytes.
enum class Defect : std::uint8_t {
    kNone,
    kCutOff,
    kFlags,
    kTagCount,
    kIdSize,
    kAttempt,
    kTagSize,
    kKeySize,
    kFieldsBeyondEnd,
    kPropertiesBeyondEnd
};

/// What follows a message's head.
struct MessageTail {
    std::string_view properties;  // Encoded, not yet walked.
    std::string_view body;
};

/// Reads the message at `offset` of `body`. `head` and `tail` are only good when the answer is
/// kNone.
Defect Decode(std::string_view body, std::size_t offset, MessageHead& head, MessageTail& tail);
std::string_view Describe(Defect defect);

/// What is written of one message.
struct MessageFields {
    std::string_view id;
    std::string_view tags;  // Encoded.
    std::string_view key;
    std::string_view properties;        // Encoded.
    std::string_view extra_properties;  // Encoded; written behind `properties`.
    std::string_view body;
    WallTime created{};
    std::optional<WallTime> deliver_at;
    std::uint32_t attempt = 1;
    std::uint8_t tag_count = 0;
};
std::size_t EncodedBytes(const MessageFields& fields);
/// Writes it to `to`, which has `EncodedBytes` of room.
EncodedMessage Encode(const MessageFields& fields, char* to);
/// Appends it to `out`. Allocates only when `out` has to grow.
void Append(const MessageFields& fields, std::string& out);

/// What the messages of one received batch share.
struct MessageSource {
    Slice batch;
    std::string subject;
};

/// The door to `Message` for the codec.
struct MessageAccess {
    static MessageFields Fields(const Message& message);
    /// `Message::Validate`; when it says ok, `*encoded_bytes` is what `encoded_bytes()` says.
    static Status Validate(const Message& message, std::size_t* encoded_bytes);
    static bool ForgetDeliveries(Message& message);
    static bool came_with_due_time(const Message& message) { return message.due_time_came_; }
    /// Makes an empty `message` the received one.
    static void SetReceived(const std::shared_ptr<const MessageSource>& source,
                            const MessageHead& head,
                            const MessageTail& tail,
                            std::uint32_t attempt,
                            Message& message);
};

}  // namespace qmq::internal
