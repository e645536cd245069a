#include "qmq/batch.h"

#include <algorithm>
#include <utility>

#include "qmq/crc32c.h"

#include "sdk/core/src/batch_codec.h"
#include "sdk/core/src/little_endian.h"
#include "sdk/core/src/property_block.h"
#include "sdk/core/src/utf8.h"

namespace qmq {

using internal::Defect;
using internal::Load16;
using internal::Load32;
using internal::Load64;
using internal::MessageAccess;
using internal::MessageFields;
using internal::MessageSource;
using internal::MessageTail;
using internal::Store;

namespace {

constexpr std::uint8_t kEncoding = 1;

// Writes the header in front of `bytes`, whose first `kBytes` are room for it.
void WriteHeader(std::uint32_t count, std::string_view body, char* header) {
    char* to = Store(header + 4, std::uint32_t{kEncoding});  // And three zero bytes.
    to = Store(to, count);
    Store(to, static_cast<std::uint32_t>(body.size()));
    const std::uint32_t crc = Crc32c({header + 4, BatchHeader::kBytes - 4});
    Store(header, Crc32c(body, crc));
}

BatchHeader ReadHeader(std::string_view bytes) {
    BatchHeader header;
    header.crc32c = Load32(bytes.data());
    header.encoding = static_cast<std::uint8_t>(bytes[4]);
    header.count = Load32(bytes.data() + 8);
    header.body_bytes = Load32(bytes.data() + 12);
    return header;
}

std::string Hex(std::uint32_t value) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text = "0x";
    for (int shift = 28; shift >= 0; shift -= 4) {
        text.push_back(kDigits[(value >> shift) & 15U]);
    }
    return text;
}

MessageFields FieldsOf(const Message& message, std::string_view id, WallTime now) {
    MessageFields fields = MessageAccess::Fields(message);
    if (fields.id.empty()) {
        fields.id = id;
    }
    if (fields.created == WallTime{}) {
        fields.created = now;
    }
    return fields;
}

// A batch whose header may lie elsewhere than its body.
struct Pieces {
    std::string_view header;  // `kBytes` of it.
    std::string_view body;
    std::size_t size() const { return header.size() + body.size(); }
};

Status CheckSizes(const Pieces& pieces, const BatchLimits& limits) {
    const std::string size = std::to_string(pieces.size());
    if (pieces.header.size() < BatchHeader::kBytes) {
        return Status::InvalidArgument("batch of " + size +
                                       " bytes: the header alone has 16; it is cut off");
    }
    if (pieces.size() > limits.max_batch_bytes) {
        return Status::InvalidArgument("batch of " + size + " bytes: at most " +
                                       std::to_string(limits.max_batch_bytes) +
                                       " are accepted; send smaller batches or raise the limit");
    }
    const std::size_t body_bytes = Load32(pieces.header.data() + 12);
    if (body_bytes != pieces.body.size()) {
        return Status::InvalidArgument("batch of " + size + " bytes, byte 12: the header says " +
                                       std::to_string(body_bytes) + " bytes follow it, but " +
                                       std::to_string(pieces.body.size()) + " do");
    }
    return Status::Ok();
}

Status CheckHeader(const Pieces& pieces, const BatchHeader& header, const BatchLimits& limits) {
    const std::uint32_t computed = Crc32c(pieces.body, Crc32c(pieces.header.substr(4)));
    if (computed != header.crc32c) {
        return Status::DataLoss("batch of " + std::to_string(pieces.size()) +
                                " bytes: its crc is " + Hex(header.crc32c) + ", but " +
                                Hex(computed) + " was computed; bytes were changed on the way");
    }
    if (header.encoding != kEncoding) {
        return Status::Unimplemented("batch encoding " + std::to_string(header.encoding) +
                                     " (byte 4) is unknown here; this version knows 1");
    }
    if (pieces.header[5] != 0 || pieces.header[6] != 0 || pieces.header[7] != 0) {
        return Status::InvalidArgument("batch bytes 5 to 7 are reserved and must be zero");
    }
    if (header.count == 0 || header.count > limits.max_message_count) {
        return Status::InvalidArgument("batch byte 8: a count of " + std::to_string(header.count) +
                                       " messages; 1 to " +
                                       std::to_string(limits.max_message_count) + " are accepted");
    }
    return Status::Ok();
}

Status DefectAt(std::size_t index, std::size_t offset, Defect defect) {
    return Status::InvalidArgument("message " + std::to_string(index) + " of the batch, at byte " +
                                   std::to_string(offset + BatchHeader::kBytes) + ": " +
                                   std::string(Describe(defect)));
}

enum class Depth : std::uint8_t { kHeads, kProperties };

/// `has_due_times` is set when a message has one.
Status CheckMessages(const BatchHeader& header,
                     std::string_view body,
                     Depth depth,
                     bool& has_due_times) {
    std::size_t offset = 0;
    MessageHead head;
    MessageTail tail;
    for (std::uint32_t i = 0; i < header.count; ++i) {
        if (offset == body.size()) {
            return Status::InvalidArgument("batch byte 8: a count of " +
                                           std::to_string(header.count) + " messages, but " +
                                           std::to_string(i) + " follow");
        }
        if (const Defect defect = Decode(body, offset, head, tail); defect != Defect::kNone) {
            return DefectAt(i, offset, defect);
        }
        has_due_times = has_due_times || head.deliver_at.has_value();
        if (depth == Depth::kProperties) {
            if (Status status = internal::CheckProperties(tail.properties); !status.ok()) {
                return status.WithContext("message " + std::to_string(i) + " of the batch (id " +
                                          internal::Quote(head.id) + ")");
            }
        }
        offset += head.bytes;
    }
    if (offset != body.size()) {
        return Status::InvalidArgument(
            "batch byte " + std::to_string(offset + BatchHeader::kBytes) + ": " +
            std::to_string(body.size() - offset) + " bytes follow the last of " +
            std::to_string(header.count) + " messages");
    }
    return Status::Ok();
}

Status CheckBatch(const Pieces& pieces,
                  const BatchLimits& limits,
                  Depth depth,
                  bool& has_due_times) {
    if (Status status = CheckSizes(pieces, limits); !status.ok()) {
        return status;
    }
    const BatchHeader header = ReadHeader(pieces.header);
    if (Status status = CheckHeader(pieces, header, limits); !status.ok()) {
        return status;
    }
    return CheckMessages(header, pieces.body, depth, has_due_times);
}

}  // namespace

// Part of the index on disk (docs/design/batch-format.md): never change it.
std::uint32_t TagBit(std::string_view tag) {
    constexpr std::uint64_t kFactor = 0x9E37'79B9'7F4A'7C15;
    std::uint64_t hash = tag.size();
    for (; tag.size() >= 8; tag.remove_prefix(8)) {
        hash = (hash ^ Load64(tag.data())) * kFactor;
        hash ^= hash >> 29U;
    }
    std::uint64_t rest = 0;
    for (std::size_t i = 0; i < tag.size(); ++i) {
        rest |= std::uint64_t{static_cast<unsigned char>(tag[i])} << (8 * i);
    }
    hash = (hash ^ rest) * kFactor;
    return std::uint32_t{1} << (hash >> 59U);
}

std::uint32_t TagMask(const MessageHead& head) {
    std::uint32_t mask = 0;
    for (std::string_view rest = head.tags; !rest.empty();) {
        const std::size_t size = Load16(rest.data());
        mask |= TagBit(rest.substr(2, size));
        rest.remove_prefix(2 + size);
    }
    return mask;
}

bool HeadHasTag(const MessageHead& head, std::string_view tag) {
    for (std::string_view rest = head.tags; !rest.empty();) {
        const std::size_t size = Load16(rest.data());
        if (rest.substr(2, size) == tag) {
            return true;
        }
        rest.remove_prefix(2 + size);
    }
    return false;
}

BatchBuilder::BatchBuilder(std::size_t expected_bytes)
    : expected_bytes_(std::max(expected_bytes, BatchHeader::kBytes)) {}

EncodedMessage EncodeMessage(const Message& message, std::string_view id, WallTime now, char* to) {
    return internal::Encode(FieldsOf(message, id, now), to);
}

void BatchBuilder::Begin() {
    if (count_ == 0) {
        buffer_.reserve(expected_bytes_);
        buffer_.assign(BatchHeader::kBytes, '\0');
    }
    ++count_;
}

void BatchBuilder::Add(const Message& message, std::string_view id, WallTime now) {
    Begin();
    internal::Append(FieldsOf(message, id, now), buffer_);
}

void BatchBuilder::AddEncoded(std::string_view message) {
    Begin();
    buffer_.append(message);
}

std::string BatchBuilder::Finish() {
    if (empty()) {
        buffer_.assign(BatchHeader::kBytes, '\0');
    }
    expected_bytes_ = buffer_.size();
    WriteHeader(count_, std::string_view(buffer_).substr(BatchHeader::kBytes), buffer_.data());
    count_ = 0;
    return std::exchange(buffer_, {});
}

Result<BatchView> BatchView::Parse(std::string_view bytes, const BatchLimits& limits) {
    const std::size_t header_size = std::min(bytes.size(), BatchHeader::kBytes);
    const Pieces pieces{bytes.substr(0, header_size), bytes.substr(header_size)};
    bool has_due_times = false;
    if (Status status = CheckBatch(pieces, limits, Depth::kHeads, has_due_times); !status.ok()) {
        return status;
    }
    BatchView view = Trusted(bytes);
    view.may_have_due_times_ = has_due_times;
    return view;
}

BatchView BatchView::Trusted(std::string_view bytes) {
    QMQ_CHECK(bytes.size() >= BatchHeader::kBytes, "a batch that was checked has a header");
    BatchView view;
    view.header_ = ReadHeader(bytes);
    view.body_ = bytes.substr(BatchHeader::kBytes);
    return view;
}

std::optional<MessageHead> BatchView::Iterator::Next() {
    std::optional<MessageHead> next;
    MessageTail tail;
    MessageHead& head = next.emplace();
    if (Decode(body_, offset_, head, tail) == Defect::kNone) {
        offset_ += head.bytes;
    } else {
        next.reset();
    }
    return next;
}

std::string MakeBatchHeader(std::uint32_t count, std::string_view body) {
    std::string header(BatchHeader::kBytes, '\0');
    WriteHeader(count, body, header.data());
    return header;
}

Result<MessageHead> ReadHead(std::string_view body, std::size_t offset) {
    MessageHead head;
    MessageTail tail;
    if (const Defect defect = Decode(body, offset, head, tail); defect != Defect::kNone) {
        return Status::InvalidArgument("message at byte " + std::to_string(offset) +
                                       " of a body of " + std::to_string(body.size()) +
                                       " bytes: " + std::string(Describe(defect)));
    }
    return head;
}

bool IsReadable(std::string_view body, const MessageHead& head) {
    MessageHead same;
    MessageTail tail;
    return Decode(body, head.offset, same, tail) == Defect::kNone &&
           internal::CheckProperties(tail.properties).ok();
}

Result<MessageReader> MessageReader::Make(const std::string& subject,
                                          Slice batch,
                                          std::uint32_t attempt,
                                          const BatchLimits& limits) {
    return Make(subject, Slice(), std::move(batch), attempt, limits);
}

Result<MessageReader> MessageReader::Make(const std::string& subject,
                                          const Slice& header,
                                          Slice body,
                                          std::uint32_t attempt,
                                          const BatchLimits& limits) {
    Pieces pieces{header.bytes(), body.bytes()};
    if (header.empty()) {
        const std::size_t header_size = std::min(body.size(), BatchHeader::kBytes);
        pieces = {body.bytes().substr(0, header_size), body.bytes().substr(header_size)};
    }
    bool has_due_times = false;
    if (Status status = CheckBatch(pieces, limits, Depth::kProperties, has_due_times);
        !status.ok()) {
        return status;
    }
    MessageReader reader;
    reader.body_ = pieces.body;
    reader.count_ = ReadHeader(pieces.header).count;
    reader.attempt_ = attempt;
    reader.source_ = std::make_shared<const MessageSource>(MessageSource{std::move(body), subject});
    return reader;
}

std::optional<Message> MessageReader::Next() {
    std::optional<Message> next;
    MessageHead head;
    MessageTail tail;
    if (Decode(body_, offset_, head, tail) == Defect::kNone) {
        offset_ += head.bytes;
        const std::uint32_t attempt = std::max(attempt_, head.attempt);
        MessageAccess::SetReceived(source_, head, tail, attempt, next.emplace());
    }
    return next;
}

Result<std::vector<Message>> DecodeMessages(const std::string& subject,
                                            Slice batch,
                                            std::uint32_t attempt,
                                            const BatchLimits& limits) {
    Result<MessageReader> reader = MessageReader::Make(subject, std::move(batch), attempt, limits);
    if (!reader.ok()) {
        return reader.status();
    }
    std::vector<Message> messages;
    messages.reserve(reader->count());
    while (std::optional<Message> message = reader->Next()) {
        messages.push_back(std::move(*message));
    }
    return messages;
}

std::string EncodeRetry(std::string_view body,
                        const MessageHead& head,
                        std::uint32_t attempt,
                        std::optional<WallTime> deliver_at,
                        std::string_view error) {
    MessageHead original;
    MessageTail tail;
    const Defect defect = Decode(body, head.offset, original, tail);
    QMQ_CHECK(defect == Defect::kNone, internal::Describe(defect));
    std::string properties(tail.properties);
    internal::EraseProperty(internal::kLastErrorName, properties);
    MessageFields fields;
    fields.id = original.id;
    fields.tags = original.tags;
    fields.tag_count = original.tag_count;
    fields.key = original.key;
    fields.created = original.created;
    fields.body = tail.body;
    fields.attempt = attempt;
    fields.deliver_at = deliver_at;
    // Properties that cannot be walked stay as they came, for the consumer to report.
    if (!error.empty() && internal::CheckProperties(properties).ok()) {
        internal::AppendProperty(internal::kLastErrorName,
                                 PropertyKind::kString,
                                 internal::TruncateUtf8(error, internal::kMaxErrorBytes),
                                 properties);
    }
    fields.properties = properties;
    std::string batch(BatchHeader::kBytes, '\0');
    batch.reserve(BatchHeader::kBytes + EncodedBytes(fields));
    internal::Append(fields, batch);
    WriteHeader(1, std::string_view(batch).substr(BatchHeader::kBytes), batch.data());
    return batch;
}

Status ValidateMessage(const Message& message, std::size_t* encoded_bytes) {
    return internal::MessageAccess::Validate(message, encoded_bytes);
}

std::optional<WallTime> DueTimeToSend(const Message& message) {
    return internal::MessageAccess::came_with_due_time(message) ? std::nullopt
                                                                : message.deliver_at();
}

bool ForgetDeliveries(Message& message) {
    return internal::MessageAccess::ForgetDeliveries(message);
}

namespace internal {

MessageFields MessageAccess::Fields(const Message& message) {
    const Message::Views parts = message.Parts();
    MessageFields fields;
    fields.id = parts.id;
    fields.tags = parts.tags;
    fields.key = parts.key;
    fields.properties = parts.properties;
    fields.body = parts.body;
    fields.created = message.created_;
    fields.deliver_at = message.deliver_at();
    fields.attempt = message.attempt_;
    fields.tag_count = message.tag_count_;
    return fields;
}

void MessageAccess::SetReceived(const std::shared_ptr<const MessageSource>& source,
                                const MessageHead& head,
                                const MessageTail& tail,
                                std::uint32_t attempt,
                                Message& message) {
    message.views_ = {source->subject, head.id, head.tags, head.key, tail.properties, tail.body};
    message.source_ = source;
    message.created_ = head.created;
    message.deliver_at_ = head.deliver_at.value_or(WallTime{});
    message.due_time_came_ = head.deliver_at.has_value();
    message.attempt_ = attempt;
    message.tag_count_ = head.tag_count;
}

}  // namespace internal

}  // namespace qmq
