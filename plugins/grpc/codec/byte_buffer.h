#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <string>
#include <vector>

#include "qmq/slice.h"
#include "qmq/status.h"

namespace qmq::rpc {

/// Puts the bytes of one gRPC message together. Small pieces are copied into one, for a reference
/// costs two allocations and an entry of every vector that it passes; large ones are referenced,
/// and their owners kept until the bytes are with the system.
class MessageGatherer {
public:
    /// From this size on a reference is cheaper than a copy.
    static constexpr std::size_t kReferenceBytes = 4'096;

    /// Where small things are appended.
    std::string* text() { return &text_; }
    void Append(const Slice& slice);

    std::size_t bytes() const { return piece_bytes_ + text_.size(); }
    bool empty() const { return bytes() == 0; }

    /// The message. The gatherer is empty afterwards, and keeps its memory for the next one unless
    /// that is much.
    grpc::ByteBuffer Finish();

private:
    void FlushText();

    std::vector<grpc::Slice> pieces_;
    std::size_t piece_bytes_ = 0;
    std::string text_;
};

grpc::ByteBuffer ToByteBuffer(std::string_view bytes);

/// The bytes of `buffer` in one piece of memory of their own: the one copy on the way in. What gRPC
/// read them into is larger than they are and counts against its quota, so nobody keeps that.
Result<Slice> ToContiguous(const grpc::ByteBuffer& buffer);

}  // namespace qmq::rpc
