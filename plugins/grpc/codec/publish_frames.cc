#include "plugins/grpc/codec/publish_frames.h"

#include "plugins/grpc/codec/item_budget.h"
#include "plugins/grpc/codec/proto_wire.h"
#include "plugins/grpc/codec/status_map.h"

namespace qmq::rpc {
namespace {

std::size_t BatchBytes(const SendBatch& batch) {
    return BytesFieldBytes(batch.subject.size()) +
           VarintFieldBytes(static_cast<std::uint64_t>(batch.durability)) +
           BytesFieldBytes(batch.batch.size());
}

std::size_t RequestContentBytes(std::uint64_t id, std::span<const SendBatch> batches) {
    std::size_t bytes = VarintFieldBytes(id);
    for (const SendBatch& batch : batches) {
        bytes += MessageFieldBytes(BatchBytes(batch));
    }
    return bytes;
}

Status ReadDurability(std::uint64_t number, Durability* durability) {
    if (number > static_cast<std::uint64_t>(Durability::kReplicatedFsync)) {
        return Status::InvalidArgument("durability " + std::to_string(number) +
                                       " is unknown; the highest here is 5, replicated_fsync");
    }
    *durability = static_cast<Durability>(number);
    return Status::Ok();
}

/// `bytes` lies in `frame`; the same as a slice of it.
Slice SubSlice(const Slice& frame, std::string_view bytes) {
    return bytes.empty()
               ? Slice()
               : frame.Sub(static_cast<std::size_t>(bytes.data() - frame.data()), bytes.size());
}

Status ReadBatch(const Slice& frame, std::string_view bytes, SendBatch* batch) {
    FieldReader reader(bytes, "SubjectBatch");
    while (reader.Next()) {
        switch (reader.field()) {
            case 1:
                batch->subject = reader.String();
                break;
            case 2:
                if (Status read = ReadDurability(reader.Varint(), &batch->durability); !read.ok()) {
                    return read;
                }
                break;
            case 3:
                batch->batch = SubSlice(frame, reader.Bytes());
                break;
            default:
                break;
        }
    }
    return reader.status();
}

Status ReadRequest(const Slice& frame,
                   std::string_view bytes,
                   ItemBudget* budget,
                   PublishRequest* request) {
    FieldReader reader(bytes, "PublishRequest");
    while (reader.Next()) {
        if (reader.field() == 1) {
            request->id = reader.Varint();
        } else if (reader.field() == 2 && reader.IsBytes()) {
            if (!budget->Take()) {
                return budget->Exceeded("PublishFrame");
            }
            Status read = ReadBatch(frame, reader.Bytes(), &request->batches.emplace_back());
            if (!read.ok()) {
                return read;
            }
        }
    }
    return reader.status();
}

/// A batch may be kept for long, and only its own bytes are counted where it is. So one that is
/// small beside its frame is copied: beside a much larger one, which may be gone long before it or
/// be refused, or where all batches together are little of the frame. In a frame of many that are
/// about as large each keeps about its share.
void CopySmallOnes(const Slice& frame, std::vector<PublishRequest>* requests) {
    constexpr std::size_t kMuchLarger = 16;
    std::size_t largest = 0;
    std::size_t all = 0;
    for (const PublishRequest& request : *requests) {
        for (const SendBatch& batch : request.batches) {
            largest = std::max(largest, batch.batch.size());
            all += batch.batch.size();
        }
    }
    const bool is_little = all < frame.size() / 4;
    for (PublishRequest& request : *requests) {
        for (SendBatch& batch : request.batches) {
            if (is_little || batch.batch.size() < largest / kMuchLarger) {
                batch.batch = Slice::Own(std::string(batch.batch.bytes()));
            }
        }
    }
}

}  // namespace

PieceSize RequestSize(std::uint64_t id, std::span<const SendBatch> batches) {
    return {MessageFieldBytes(RequestContentBytes(id, batches)), 1 + batches.size()};
}

void AppendRequest(std::uint64_t id, std::span<const SendBatch> batches, MessageGatherer* out) {
    PutLength(out->text(), 1, RequestContentBytes(id, batches));
    PutVarintField(out->text(), 1, id);
    for (const SendBatch& batch : batches) {
        PutLength(out->text(), 2, BatchBytes(batch));
        PutBytesField(out->text(), 1, batch.subject);
        PutVarintField(out->text(), 2, static_cast<std::uint64_t>(batch.durability));
        if (!batch.batch.empty()) {
            PutLength(out->text(), 3, batch.batch.size());
            out->Append(batch.batch);
        }
    }
}

Result<std::vector<PublishRequest>> DecodePublishFrame(const Slice& frame,
                                                       const FrameLimits& limits) {
    std::vector<PublishRequest> requests;
    ItemBudget budget(limits.max_item_count);
    FieldReader reader(frame.bytes(), "PublishFrame");
    while (reader.Next()) {
        if (reader.field() != 1 || !reader.IsBytes()) {
            continue;
        }
        if (!budget.Take()) {
            return budget.Exceeded("PublishFrame");
        }
        Status read = ReadRequest(frame, reader.Bytes(), &budget, &requests.emplace_back());
        if (!read.ok()) {
            return read;
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    CopySmallOnes(frame, &requests);
    return requests;
}

namespace {

std::size_t ReceiptBytes(const BatchReceipt& receipt) {
    return VarintFieldBytes(static_cast<std::uint64_t>(receipt.outcome)) +
           VarintFieldBytes(static_cast<std::uint64_t>(receipt.durability)) +
           VarintFieldBytes(receipt.first_sequence) +
           (receipt.status.ok() ? 0 : MessageFieldBytes(StatusMessageBytes(receipt.status)));
}

std::size_t ResultContentBytes(const PublishResult& result) {
    std::size_t bytes = VarintFieldBytes(result.id);
    for (const BatchReceipt& receipt : result.receipts) {
        bytes += MessageFieldBytes(ReceiptBytes(receipt));
    }
    return bytes;
}

void PutReceipt(std::string* out, const BatchReceipt& receipt) {
    PutVarintField(out, 1, static_cast<std::uint64_t>(receipt.outcome));
    PutVarintField(out, 2, static_cast<std::uint64_t>(receipt.durability));
    PutVarintField(out, 3, receipt.first_sequence);
    if (!receipt.status.ok()) {
        PutLength(out, 4, StatusMessageBytes(receipt.status));
        PutStatusMessage(out, receipt.status);
    }
}

Status ReadReceipt(std::string_view bytes, BatchReceipt* receipt) {
    FieldReader reader(bytes, "BatchReceipt");
    receipt->outcome = SendOutcome::kPersisted;
    while (reader.Next()) {
        switch (reader.field()) {
            case 1:
                // A word we do not know promises nothing.
                receipt->outcome = reader.Varint() > 2 ? SendOutcome::kUnknown
                                                       : static_cast<SendOutcome>(reader.Varint());
                break;
            case 2:
                if (Status read = ReadDurability(reader.Varint(), &receipt->durability);
                    !read.ok()) {
                    return read;
                }
                break;
            case 3:
                receipt->first_sequence = reader.Varint();
                break;
            case 4:
                receipt->status = ReadStatusMessage(reader.Bytes());
                break;
            default:
                break;
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    if (receipt->status.ok() != (receipt->outcome == SendOutcome::kPersisted)) {
        return Status::InvalidArgument("BatchReceipt: outcome " +
                                       std::string(ToString(receipt->outcome)) +
                                       " contradicts status " + receipt->status.ToString());
    }
    return Status::Ok();
}

Status ReadResult(std::string_view bytes, ItemBudget* budget, PublishResult* result) {
    FieldReader reader(bytes, "PublishResult");
    while (reader.Next()) {
        if (reader.field() == 1) {
            result->id = reader.Varint();
        } else if (reader.field() == 2 && reader.IsBytes()) {
            if (!budget->Take()) {
                return budget->Exceeded("PublishReply");
            }
            Status read = ReadReceipt(reader.Bytes(), &result->receipts.emplace_back());
            if (!read.ok()) {
                return read;
            }
        }
    }
    return reader.status();
}

}  // namespace

PieceSize ResultSize(const PublishResult& result) {
    return {MessageFieldBytes(ResultContentBytes(result)), 1 + result.receipts.size()};
}

void AppendResult(const PublishResult& result, std::string* out) {
    PutLength(out, 1, ResultContentBytes(result));
    PutVarintField(out, 1, result.id);
    for (const BatchReceipt& receipt : result.receipts) {
        PutLength(out, 2, ReceiptBytes(receipt));
        PutReceipt(out, receipt);
    }
}

Result<std::vector<PublishResult>> DecodePublishReply(std::string_view frame,
                                                      const FrameLimits& limits) {
    std::vector<PublishResult> results;
    ItemBudget budget(limits.max_item_count);
    FieldReader reader(frame, "PublishReply");
    while (reader.Next()) {
        if (reader.field() != 1 || !reader.IsBytes()) {
            continue;
        }
        if (!budget.Take()) {
            return budget.Exceeded("PublishReply");
        }
        Status read = ReadResult(reader.Bytes(), &budget, &results.emplace_back());
        if (!read.ok()) {
            return read;
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    return results;
}

}  // namespace qmq::rpc
