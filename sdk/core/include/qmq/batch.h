#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/clock.h"
#include "qmq/message.h"
#include "qmq/slice.h"
#include "qmq/status.h"

namespace qmq {

/// What decoders let pass, so that a peer's bytes cannot cost more than its sender paid for.
struct BatchLimits {
    /// Most bytes of a batch, its header included. Range: [64, 64 MiB].
    std::size_t max_batch_bytes = 4U << 20;
    /// Most messages in a batch. Range: [1, 1,000,000].
    std::uint32_t max_message_count = 65'536;
};

/// The fixed front of a batch. See docs/design/batch-format.md.
struct BatchHeader {
    static constexpr std::size_t kBytes = 16;

    std::uint32_t crc32c = 0;  ///< Of everything after this field.
    std::uint8_t encoding = 1;
    std::uint32_t count = 0;
    std::uint32_t body_bytes = 0;  ///< Bytes after the header.
};

/// The head of one message in a batch: what a broker reads of it. Views point into the batch.
struct MessageHead {
    std::string_view id;
    std::string_view
        tags;  ///< Encoded: `tag_count` times a little-endian u16 length and the bytes.
    std::string_view key;
    WallTime created{};
    std::optional<WallTime> deliver_at;
    std::uint32_t attempt = 1;
    std::uint8_t tag_count = 0;
    /// Where the whole message lies, counted from the first byte after the batch header.
    std::uint32_t offset = 0;
    std::uint32_t bytes = 0;
};

/// One bit of 32 for a tag; a message's mask has the bits of all its tags.
std::uint32_t TagBit(std::string_view tag);
std::uint32_t TagMask(const MessageHead& head);
bool HeadHasTag(const MessageHead& head, std::string_view tag);

/// `message.Validate()`; when it says ok, `*encoded_bytes` is `message.encoded_bytes()`, which it
/// has counted in any case.
Status ValidateMessage(const Message& message, std::size_t* encoded_bytes);

/// A message that came, or a copy of it, is to be sent as a new one: at its first attempt, without
/// the last error and the due time that it came with. Whether that changed anything.
bool ForgetDeliveries(Message& message);
/// `deliver_at()`, but for one that the message came with: that time has been.
std::optional<WallTime> DueTimeToSend(const Message& message);

/// What was written of a message.
struct EncodedMessage {
    std::string_view id;  ///< As it lies there.
    std::size_t bytes = 0;
};

/// Writes `message` as a batch has it, for `BatchBuilder::AddEncoded`: with `id` when it has none
/// of its own, and `now` when it has no creation time. The caller has checked `message.Validate()`;
/// `to` has room for `message.encoded_bytes()`, and an `id` that is needed has
/// `MessageIdGenerator::kLength` bytes.
EncodedMessage EncodeMessage(const Message& message, std::string_view id, WallTime now, char* to);

/// Gathers messages and encodes each once. Not thread-safe.
class BatchBuilder {
public:
    BatchBuilder() = default;
    /// With room for a batch of about `expected_bytes`, so that filling it copies nothing.
    explicit BatchBuilder(std::size_t expected_bytes);

    /// Appends `message` with `id` when it has none of its own, and `now` when it has no creation
    /// time. The caller has checked `message.Validate()`.
    void Add(const Message& message, std::string_view id, WallTime now);
    /// Appends what `EncodeMessage` has written.
    void AddEncoded(std::string_view message);

    std::uint32_t count() const { return count_; }
    /// Bytes that `Finish` would give.
    std::size_t bytes() const { return empty() ? BatchHeader::kBytes : buffer_.size(); }
    bool empty() const { return count_ == 0; }
    /// Bytes of memory that it holds.
    std::size_t capacity() const { return buffer_.capacity(); }

    /// The batch, header and checksum included. The builder is empty afterwards.
    std::string Finish();
    /// The next batch will have about so many bytes.
    void Expect(std::size_t bytes) { expected_bytes_ = std::max(bytes, BatchHeader::kBytes); }
    /// Gives an empty builder memory to fill: that of a batch which nobody needs any more.
    void Reuse(std::string memory) { buffer_ = std::move(memory); }

private:
    void Begin();

    std::string buffer_;  // Means nothing while the builder is empty.
    std::uint32_t count_ = 0;
    std::size_t expected_bytes_ = BatchHeader::kBytes;  // As many as the batch before had.
};

/// Reads a batch. Every byte comes from outside: lengths are checked before anything is touched or
/// allocated.
class BatchView {
public:
    /// Checks sizes, encoding, limits, the checksum, and the head of every message.
    /// kInvalidArgument says which byte is wrong; kDataLoss that the checksum differs;
    /// kUnimplemented an encoding that we do not know. `bytes` outlives the view.
    static Result<BatchView> Parse(std::string_view bytes, const BatchLimits& limits);

    /// As `Parse`, for bytes that were checked before: reads the header only.
    static BatchView Trusted(std::string_view bytes);

    const BatchHeader& header() const { return header_; }
    std::uint32_t count() const { return header_.count; }
    std::string_view body() const { return body_; }
    /// False when no message has a due time, as `Parse` has seen; `Trusted` did not look.
    bool may_have_due_times() const { return may_have_due_times_; }

    /// Walks the messages in order.
    class Iterator {
    public:
        /// The next head, or nothing at the end.
        std::optional<MessageHead> Next();

    private:
        friend class BatchView;
        explicit Iterator(std::string_view body) : body_(body) {}
        std::string_view body_;
        std::size_t offset_ = 0;
    };
    Iterator begin_heads() const { return Iterator(body_); }

private:
    BatchHeader header_;
    std::string_view body_;
    bool may_have_due_times_ = true;
};

/// Makes the header of a batch whose messages are `body`, so that some messages of a batch can
/// travel as one of their own.
std::string MakeBatchHeader(std::uint32_t count, std::string_view body);

/// The head of the message that starts at `offset` of `body`. kInvalidArgument when it does not lie
/// wholly in it.
Result<MessageHead> ReadHead(std::string_view body, std::size_t offset);

/// Whether `DecodeMessages` can read the message that `head` describes in `body`. A broker takes
/// what it cannot: it reads heads only.
bool IsReadable(std::string_view body, const MessageHead& head);

/// The messages of `batch` as an application sees them. They share the memory of `batch`. `attempt`
/// is what the broker counted; a higher one in a message itself wins (a retry that other clients
/// sent back).
Result<std::vector<Message>> DecodeMessages(const std::string& subject,
                                            Slice batch,
                                            std::uint32_t attempt,
                                            const BatchLimits& limits);

/// As above, one at a time and without a vector: for the hot path.
class MessageReader {
public:
    static Result<MessageReader> Make(const std::string& subject,
                                      Slice batch,
                                      std::uint32_t attempt,
                                      const BatchLimits& limits);
    /// Of a batch in two pieces, as `DeliveredBatch` has it: an empty `header` means that `body` is
    /// the whole batch. Nothing is copied.
    static Result<MessageReader> Make(const std::string& subject,
                                      const Slice& header,
                                      Slice body,
                                      std::uint32_t attempt,
                                      const BatchLimits& limits);
    std::uint32_t count() const { return count_; }
    /// Nothing at the end.
    std::optional<Message> Next();

private:
    std::shared_ptr<const internal::MessageSource> source_;
    std::string_view body_;
    std::size_t offset_ = 0;
    std::uint32_t count_ = 0;
    std::uint32_t attempt_ = 1;
};

/// A batch of one message equal to the one that `head` describes in `body`, but for its attempt,
/// due time and the property that says why it failed. For retries and dead letters: the original's
/// id, creation time, tags, key, properties and body stay.
std::string EncodeRetry(std::string_view body,
                        const MessageHead& head,
                        std::uint32_t attempt,
                        std::optional<WallTime> deliver_at,
                        std::string_view error);

}  // namespace qmq
