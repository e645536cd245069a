#include "plugins/grpc/codec/consume_frames.h"

#include <algorithm>

#include "qmq/batch.h"

#include "plugins/grpc/codec/convert.h"
#include "plugins/grpc/codec/item_budget.h"
#include "plugins/grpc/codec/proto_wire.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {
namespace {

/// What `PutElement` and the `length` bytes behind it take.
std::size_t ElementBytes(std::uint64_t subscription, std::size_t length) {
    return MessageFieldBytes(VarintFieldBytes(subscription) + MessageFieldBytes(length));
}

/// Opens `ConsumeRequest.commands` or `ConsumeFrame.events` (both field 1) with a subscription
/// (field 1) and then `field`, whose `length` bytes the caller writes next.
void PutElement(std::string* out,
                std::uint64_t subscription,
                std::uint32_t field,
                std::size_t length) {
    PutLength(out, 1, VarintFieldBytes(subscription) + MessageFieldBytes(length));
    PutVarintField(out, 1, subscription);
    PutLength(out, field, length);
}

std::size_t ErrorTextBytes(const AckItem& item) {
    return item.error.empty() ? 0 : CleanText(item.error, kMaxErrorTextBytes).size();
}

std::uint64_t DelayMillis(const AckItem& item) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, item.delay->count()));
}

/// An optional field, whose zero is a value: the tag is written whenever it is there.
void PutOptional(std::string* out, std::uint32_t field, std::uint64_t value) {
    out->push_back(static_cast<char>(field << 3));
    PutVarint(out, value);
}

/// What is not said means this, so that most acks cost no byte for it.
constexpr Durability kUnsaidDurability = Durability::kMemory;

std::size_t AckItemBytes(const AckItem& item) {
    return VarintFieldBytes(static_cast<std::uint64_t>(item.verdict)) +
           VarintFieldBytes(item.first) + VarintFieldBytes(item.last) +
           (item.delay ? 1 + VarintBytes(DelayMillis(item)) : 0) +
           BytesFieldBytes(ErrorTextBytes(item)) + (item.durability != kUnsaidDurability ? 2 : 0);
}

void PutAckItem(std::string* out, const AckItem& item) {
    PutVarintField(out, 1, static_cast<std::uint64_t>(item.verdict));
    PutVarintField(out, 2, item.first);
    PutVarintField(out, 3, item.last);
    if (item.delay) {
        PutOptional(out, 4, DelayMillis(item));
    }
    if (!item.error.empty()) {
        PutBytesField(out, 5, CleanText(item.error, kMaxErrorTextBytes));
    }
    if (item.durability != kUnsaidDurability) {
        PutOptional(out, 6, static_cast<std::uint64_t>(item.durability));
    }
}

Status ReadVerdict(std::uint64_t number, AckVerdict* verdict) {
    if (number > static_cast<std::uint64_t>(AckVerdict::kBegin)) {
        return Status::InvalidArgument("AckItem: verdict " + std::to_string(number) +
                                       " is unknown; the highest here is 5, BEGIN");
    }
    *verdict = static_cast<AckVerdict>(number);
    return Status::Ok();
}

Status ReadDurability(std::uint64_t number, Durability* durability) {
    if (number > static_cast<std::uint64_t>(Durability::kReplicatedFsync)) {
        return Status::InvalidArgument("AckItem: durability " + std::to_string(number) +
                                       " is unknown; the highest here is 5, REPLICATED_FSYNC");
    }
    *durability = static_cast<Durability>(number);
    return Status::Ok();
}

Status ReadAckItem(std::string_view bytes, AckItem* item) {
    FieldReader reader(bytes, "AckItem");
    Status read;
    while (read.ok() && reader.Next()) {
        switch (reader.field()) {
            case 1:
                read = ReadVerdict(reader.Varint(), &item->verdict);
                break;
            case 2:
                item->first = reader.Varint();
                break;
            case 3:
                item->last = reader.Varint();
                break;
            case 4:
                item->delay = MillisFromWire(reader.Varint());
                break;
            case 5:
                item->error = std::string(reader.Bytes().substr(0, kMaxErrorTextBytes));
                break;
            case 6:
                // Zero is a value here, so what is of another type must not be read as one.
                if (reader.IsVarint()) {
                    read = ReadDurability(reader.Varint(), &item->durability);
                }
                break;
            default:
                break;
        }
    }
    return read.ok() ? reader.status() : read;
}

Status ReadAck(std::string_view bytes, ItemBudget* budget, AckCommand* ack) {
    FieldReader reader(bytes, "AckCommand");
    while (reader.Next()) {
        if (reader.field() == 1) {
            ack->id = reader.Varint();
        } else if (reader.field() == 2 && reader.IsBytes()) {
            if (!budget->Take()) {
                return budget->Exceeded("ConsumeRequest");
            }
            if (Status read = ReadAckItem(reader.Bytes(), &ack->items.emplace_back()); !read.ok()) {
                return read;
            }
        }
    }
    return reader.status();
}

Status ReadCredit(std::string_view bytes, Credit* credit) {
    FieldReader reader(bytes, "Credit");
    while (reader.Next()) {
        if (reader.field() == 1) {
            credit->messages = reader.Varint32();
        } else if (reader.field() == 2) {
            credit->bytes = reader.Varint();
        }
    }
    return reader.status();
}

Status ReadSubscribe(std::string_view bytes, ConsumeCommand* command) {
    proto::SubscribeRequest message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return Status::InvalidArgument("SubscribeRequest: " + std::to_string(bytes.size()) +
                                       " bytes are not a message of this type");
    }
    auto request = FromProto(message);
    if (!request.ok()) {
        return request.status();
    }
    command->command = std::move(request).value();
    return Status::Ok();
}

Status ReadCommand(std::string_view bytes, ItemBudget* budget, ConsumeCommand* command) {
    FieldReader reader(bytes, "ConsumeCommand");
    Status read;
    while (read.ok() && reader.Next()) {
        switch (reader.field()) {
            case 1:
                command->subscription = reader.Varint();
                break;
            case 2:
                read = ReadSubscribe(reader.Bytes(), command);
                break;
            case 3:
                read = ReadCredit(reader.Bytes(), &command->command.emplace<Credit>());
                break;
            case 4:
                read = ReadAck(reader.Bytes(), budget, &command->command.emplace<AckCommand>());
                break;
            case 5:
                command->command = CloseCommand{};
                break;
            default:
                break;
        }
    }
    return read.ok() ? reader.status() : read;
}

}  // namespace

void AppendSubscribe(std::uint64_t subscription,
                     const SubscribeRequest& request,
                     std::string* out) {
    const std::string message = ToProto(request).SerializeAsString();
    PutElement(out, subscription, 2, message.size());
    out->append(message);
}

void AppendCredit(std::uint64_t subscription, const Credit& credit, std::string* out) {
    PutElement(
        out, subscription, 3, VarintFieldBytes(credit.messages) + VarintFieldBytes(credit.bytes));
    PutVarintField(out, 1, credit.messages);
    PutVarintField(out, 2, credit.bytes);
}

PieceSize AckItemSize(const AckItem& item) {
    return {MessageFieldBytes(AckItemBytes(item)), 1};
}

void AppendAck(std::uint64_t subscription,
               std::uint64_t ack_id,
               std::span<const AckItem> items,
               std::string* out) {
    std::size_t bytes = VarintFieldBytes(ack_id);
    for (const AckItem& item : items) {
        bytes += MessageFieldBytes(AckItemBytes(item));
    }
    PutElement(out, subscription, 4, bytes);
    PutVarintField(out, 1, ack_id);
    for (const AckItem& item : items) {
        PutLength(out, 2, AckItemBytes(item));
        PutAckItem(out, item);
    }
}

void AppendClose(std::uint64_t subscription, std::string* out) {
    PutElement(out, subscription, 5, 0);
}

Result<std::vector<ConsumeCommand>> DecodeConsumeRequest(std::string_view frame,
                                                         const FrameLimits& limits) {
    std::vector<ConsumeCommand> commands;
    ItemBudget budget(limits.max_item_count);
    FieldReader reader(frame, "ConsumeRequest");
    while (reader.Next()) {
        if (reader.field() != 1 || !reader.IsBytes()) {
            continue;
        }
        if (!budget.Take()) {
            return budget.Exceeded("ConsumeRequest");
        }
        Status read = ReadCommand(reader.Bytes(), &budget, &commands.emplace_back());
        if (!read.ok()) {
            return read;
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    return commands;
}

namespace {

std::size_t DeliveredBytes(const DeliveredBatch& batch) {
    return VarintFieldBytes(batch.first_pull_sequence) + VarintFieldBytes(batch.first_sequence) +
           VarintFieldBytes(batch.count) + VarintFieldBytes(batch.attempt) +
           VarintFieldBytes(batch.from_retry ? 1 : 0) +
           BytesFieldBytes(batch.header.size() + batch.body.size());
}

void PutDelivered(const DeliveredBatch& batch, MessageGatherer* out) {
    std::string* text = out->text();
    PutVarintField(text, 1, batch.first_pull_sequence);
    PutVarintField(text, 2, batch.first_sequence);
    PutVarintField(text, 3, batch.count);
    PutVarintField(text, 4, batch.attempt);
    PutVarintField(text, 5, batch.from_retry ? 1 : 0);
    if (const std::size_t bytes = batch.header.size() + batch.body.size(); bytes > 0) {
        PutLength(text, 6, bytes);
        out->Append(batch.header);
        out->Append(batch.body);
    }
}

Status ReadDelivered(const Slice& frame, std::string_view bytes, DeliveredBatch* batch) {
    FieldReader reader(bytes, "DeliveredBatch");
    batch->attempt = 0;
    while (reader.Next()) {
        switch (reader.field()) {
            case 1:
                batch->first_pull_sequence = reader.Varint();
                break;
            case 2:
                batch->first_sequence = reader.Varint();
                break;
            case 3:
                batch->count = reader.Varint32();
                break;
            case 4:
                batch->attempt = reader.Varint32();
                break;
            case 5:
                batch->from_retry = reader.Varint() != 0;
                break;
            case 6: {
                if (reader.Bytes().size() < BatchHeader::kBytes) {
                    return Status::InvalidArgument("DeliveredBatch: a batch of " +
                                                   std::to_string(reader.Bytes().size()) +
                                                   " bytes is shorter than its header");
                }
                const auto at = static_cast<std::size_t>(reader.Bytes().data() - frame.data());
                batch->header = frame.Sub(at, BatchHeader::kBytes);
                batch->body = frame.Sub(at + BatchHeader::kBytes,
                                        reader.Bytes().size() - BatchHeader::kBytes);
                break;
            }
            default:
                break;
        }
    }
    return reader.status();
}

Status ReadDelivery(const Slice& frame,
                    std::string_view bytes,
                    ItemBudget* budget,
                    std::vector<DeliveredBatch>* batches) {
    FieldReader reader(bytes, "Delivery");
    while (reader.Next()) {
        if (reader.field() != 1 || !reader.IsBytes()) {
            continue;
        }
        if (!budget->Take()) {
            return budget->Exceeded("ConsumeFrame");
        }
        Status read = ReadDelivered(frame, reader.Bytes(), &batches->emplace_back());
        if (!read.ok()) {
            return read;
        }
    }
    return reader.status();
}

Status ReadSubscribed(std::string_view bytes, ItemBudget* budget, SubscribeReply* reply) {
    FieldReader reader(bytes, "Subscribed");
    while (reader.Next()) {
        if (reader.field() == 1) {
            reply->incarnation = reader.Varint();
        } else if (reader.field() == 2) {
            reply->held_below = reader.Varint();
        } else if (reader.field() == 3 && reader.IsBytes()) {
            if (!budget->Take()) {
                return budget->Exceeded("ConsumeFrame");
            }
            reply->warnings.emplace_back(reader.Bytes().substr(0, kMaxErrorTextBytes));
        }
    }
    return reader.status();
}

std::size_t PullRangeBytes(const PullRange& range) {
    return VarintFieldBytes(range.first) + VarintFieldBytes(range.last);
}

std::size_t AckResultBytes(std::uint64_t ack_id, const Result<AckReply>& reply) {
    std::size_t bytes = VarintFieldBytes(ack_id);
    if (!reply.ok()) {
        return bytes + MessageFieldBytes(StatusMessageBytes(reply.status()));
    }
    for (const PullRange& range : reply->not_held) {
        bytes += MessageFieldBytes(PullRangeBytes(range));
    }
    return bytes;
}

Status ReadPullRange(std::string_view bytes, PullRange* range) {
    FieldReader reader(bytes, "PullRange");
    while (reader.Next()) {
        if (reader.field() == 1) {
            range->first = reader.Varint();
        } else if (reader.field() == 2) {
            range->last = reader.Varint();
        }
    }
    if (reader.status().ok() && range->first > range->last) {
        return Status::InvalidArgument("PullRange: first " + std::to_string(range->first) +
                                       " is after last " + std::to_string(range->last));
    }
    return reader.status();
}

Status ReadAckResult(std::string_view bytes, ItemBudget* budget, AckResult* result) {
    FieldReader reader(bytes, "AckResult");
    Status refused;
    AckReply reply;
    while (reader.Next()) {
        if (reader.field() == 1) {
            result->id = reader.Varint();
        } else if (reader.field() == 3) {
            refused = ReadStatusMessage(reader.Bytes());
        } else if (reader.field() == 4 && reader.IsBytes()) {
            if (!budget->Take()) {
                return budget->Exceeded("ConsumeFrame");
            }
            PullRange range;
            if (Status read = ReadPullRange(reader.Bytes(), &range); !read.ok()) {
                return read;
            }
            reply.not_held.push_back(range);
        }
    }
    result->reply = std::move(reply);
    if (!refused.ok()) {
        result->reply = refused;
    }
    return reader.status();
}

Status ReadEvent(const Slice& frame,
                 std::string_view bytes,
                 ItemBudget* budget,
                 ConsumeEvent* event) {
    FieldReader reader(bytes, "ConsumeEvent");
    Status read;
    while (read.ok() && reader.Next()) {
        switch (reader.field()) {
            case 1:
                event->subscription = reader.Varint();
                break;
            case 2:
                read =
                    ReadSubscribed(reader.Bytes(), budget, &event->event.emplace<SubscribeReply>());
                break;
            case 3:
                read = ReadDelivery(frame,
                                    reader.Bytes(),
                                    budget,
                                    &event->event.emplace<std::vector<DeliveredBatch>>());
                break;
            case 4:
                read = ReadAckResult(reader.Bytes(), budget, &event->event.emplace<AckResult>());
                break;
            case 5:
                event->event = ClosedEvent{ReadStatusMessage(reader.Bytes())};
                break;
            default:
                break;
        }
    }
    return read.ok() ? reader.status() : read;
}

}  // namespace

void AppendSubscribed(std::uint64_t subscription, const SubscribeReply& reply, std::string* out) {
    std::string warnings;
    for (const std::string& warning : reply.warnings) {
        const std::string text = CleanText(warning, kMaxErrorTextBytes);
        PutLength(&warnings, 3, text.size());  // An empty one is there all the same.
        warnings += text;
    }
    PutElement(
        out,
        subscription,
        2,
        VarintFieldBytes(reply.incarnation) + VarintFieldBytes(reply.held_below) + warnings.size());
    PutVarintField(out, 1, reply.incarnation);
    PutVarintField(out, 2, reply.held_below);
    out->append(warnings);
}

PieceSize DeliveredSize(const DeliveredBatch& batch) {
    return {MessageFieldBytes(DeliveredBytes(batch)), 1};
}

void AppendDelivery(std::uint64_t subscription,
                    std::span<const DeliveredBatch> batches,
                    MessageGatherer* out) {
    std::size_t bytes = 0;
    for (const DeliveredBatch& batch : batches) {
        bytes += MessageFieldBytes(DeliveredBytes(batch));
    }
    PutElement(out->text(), subscription, 3, bytes);
    for (const DeliveredBatch& batch : batches) {
        PutLength(out->text(), 1, DeliveredBytes(batch));
        PutDelivered(batch, out);
    }
}

PieceSize AckResultSize(std::uint64_t subscription,
                        std::uint64_t ack_id,
                        const Result<AckReply>& reply) {
    return {ElementBytes(subscription, AckResultBytes(ack_id, reply)),
            1 + (reply.ok() ? reply->not_held.size() : 0)};
}

void AppendAckResult(std::uint64_t subscription,
                     std::uint64_t ack_id,
                     const Result<AckReply>& reply,
                     std::string* out) {
    PutElement(out, subscription, 4, AckResultBytes(ack_id, reply));
    PutVarintField(out, 1, ack_id);
    if (!reply.ok()) {
        PutLength(out, 3, StatusMessageBytes(reply.status()));
        PutStatusMessage(out, reply.status());
        return;
    }
    for (const PullRange& range : reply->not_held) {
        PutLength(out, 4, PullRangeBytes(range));
        PutVarintField(out, 1, range.first);
        PutVarintField(out, 2, range.last);
    }
}

void AppendClosed(std::uint64_t subscription, const Status& status, std::string* out) {
    PutElement(out, subscription, 5, StatusMessageBytes(status));
    PutStatusMessage(out, status);
}

Result<std::vector<ConsumeEvent>> DecodeConsumeFrame(const Slice& frame,
                                                     const FrameLimits& limits) {
    std::vector<ConsumeEvent> events;
    ItemBudget budget(limits.max_item_count);
    FieldReader reader(frame.bytes(), "ConsumeFrame");
    while (reader.Next()) {
        if (reader.field() != 1 || !reader.IsBytes()) {
            continue;
        }
        if (!budget.Take()) {
            return budget.Exceeded("ConsumeFrame");
        }
        Status read = ReadEvent(frame, reader.Bytes(), &budget, &events.emplace_back());
        if (!read.ok()) {
            return read;
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    return events;
}

}  // namespace qmq::rpc
