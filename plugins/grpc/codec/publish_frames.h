#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/slice.h"
#include "qmq/status.h"

#include "plugins/grpc/codec/byte_buffer.h"

/// The messages of the Publish stream, read and written by hand: `PublishFrame` and `PublishReply`
/// of broker.proto. Both are a repeated field and nothing else, so that what gathers while a write
/// is under way is simply appended.
namespace qmq::rpc {

/// What a decoder lets pass, so that two bytes on the wire cannot cost a hundred in memory for
/// ever.
struct FrameLimits {
    /// Most requests, batches, receipts, commands, events and ack items in one frame, together.
    std::size_t max_item_count = 65'536;
};

/// What a piece of a frame takes of what the other side lets pass.
struct PieceSize {
    std::size_t bytes = 0;
    std::size_t items = 0;  ///< As `FrameLimits` counts them.
};

struct PublishRequest {
    std::uint64_t id = 0;
    std::vector<SendBatch> batches;
};

struct PublishResult {
    std::uint64_t id = 0;
    std::vector<BatchReceipt> receipts;
};

PieceSize RequestSize(std::uint64_t id, std::span<const SendBatch> batches);
void AppendRequest(std::uint64_t id, std::span<const SendBatch> batches, MessageGatherer* out);
/// Batches are parts of `frame`, unless it has much beside them: then the small ones are copies,
/// for each part keeps the whole frame in memory. kInvalidArgument says which byte is wrong.
Result<std::vector<PublishRequest>> DecodePublishFrame(const Slice& frame,
                                                       const FrameLimits& limits);

PieceSize ResultSize(const PublishResult& result);
void AppendResult(const PublishResult& result, std::string* out);
Result<std::vector<PublishResult>> DecodePublishReply(std::string_view frame,
                                                      const FrameLimits& limits);

}  // namespace qmq::rpc
