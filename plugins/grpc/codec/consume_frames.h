#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/slice.h"
#include "qmq/status.h"

#include "plugins/grpc/codec/byte_buffer.h"
#include "plugins/grpc/codec/publish_frames.h"

/// The messages of the Consume stream, read and written by hand: `ConsumeRequest` and
/// `ConsumeFrame` of broker.proto. As in publish_frames.h, one command or event after another is
/// appended.
namespace qmq::rpc {

struct AckCommand {
    std::uint64_t id = 0;
    std::vector<AckItem> items;
};
struct CloseCommand {};

struct ConsumeCommand {
    std::uint64_t subscription = 0;
    /// Nothing: a command that this build does not know.
    std::variant<std::monostate, SubscribeRequest, Credit, AckCommand, CloseCommand> command;
};

void AppendSubscribe(std::uint64_t subscription, const SubscribeRequest& request, std::string* out);
void AppendCredit(std::uint64_t subscription, const Credit& credit, std::string* out);
/// Of one item of an ack.
PieceSize AckItemSize(const AckItem& item);
void AppendAck(std::uint64_t subscription,
               std::uint64_t ack_id,
               std::span<const AckItem> items,
               std::string* out);
void AppendClose(std::uint64_t subscription, std::string* out);
Result<std::vector<ConsumeCommand>> DecodeConsumeRequest(std::string_view frame,
                                                         const FrameLimits& limits);

struct AckResult {
    std::uint64_t id = 0;
    Result<AckReply> reply = AckReply{};
};
struct ClosedEvent {
    Status status;  ///< Never ok.
};

struct ConsumeEvent {
    std::uint64_t subscription = 0;
    /// Nothing: an event that this build does not know.
    std::
        variant<std::monostate, SubscribeReply, std::vector<DeliveredBatch>, AckResult, ClosedEvent>
            event;
};

void AppendSubscribed(std::uint64_t subscription, const SubscribeReply& reply, std::string* out);
/// Of one batch of a delivery.
PieceSize DeliveredSize(const DeliveredBatch& batch);
void AppendDelivery(std::uint64_t subscription,
                    std::span<const DeliveredBatch> batches,
                    MessageGatherer* out);
PieceSize AckResultSize(std::uint64_t subscription,
                        std::uint64_t ack_id,
                        const Result<AckReply>& reply);
void AppendAckResult(std::uint64_t subscription,
                     std::uint64_t ack_id,
                     const Result<AckReply>& reply,
                     std::string* out);
void AppendClosed(std::uint64_t subscription, const Status& status, std::string* out);
/// A delivered batch comes as two parts of `frame` that follow each other: its header (16 bytes)
/// and its body.
Result<std::vector<ConsumeEvent>> DecodeConsumeFrame(const Slice& frame, const FrameLimits& limits);

}  // namespace qmq::rpc
