#include "plugins/grpc/codec/byte_buffer.h"

#include <cstring>
#include <memory>

namespace qmq::rpc {
namespace {

/// A large text is handed over rather than copied once more.
constexpr std::size_t kKeptTextBytes = 64U << 10;

grpc::Slice Reference(const Slice& slice) {
    auto* keeper = new Slice(slice);
    // gRPC takes a pointer to non-const and never writes through it.
    auto* data = const_cast<char*>(slice.data());
    return {data, slice.size(), [](void* kept) { delete static_cast<Slice*>(kept); }, keeper};
}

}  // namespace

void MessageGatherer::FlushText() {
    if (text_.empty()) {
        return;
    }
    piece_bytes_ += text_.size();
    if (text_.size() > kKeptTextBytes) {
        pieces_.push_back(Reference(Slice::Own(std::move(text_))));
        text_ = {};
    } else {
        pieces_.emplace_back(text_.data(), text_.size());
        text_.clear();
    }
}

void MessageGatherer::Append(const Slice& slice) {
    if (slice.size() < kReferenceBytes) {
        text_.append(slice.bytes());
        return;
    }
    FlushText();
    pieces_.push_back(Reference(slice));
    piece_bytes_ += slice.size();
}

grpc::ByteBuffer MessageGatherer::Finish() {
    FlushText();
    grpc::ByteBuffer buffer(pieces_.data(), pieces_.size());
    pieces_.clear();
    piece_bytes_ = 0;
    return buffer;
}

grpc::ByteBuffer ToByteBuffer(std::string_view bytes) {
    const grpc::Slice slice(bytes.data(), bytes.size());
    return {&slice, 1};
}

Result<Slice> ToContiguous(const grpc::ByteBuffer& buffer) {
    std::vector<grpc::Slice> pieces;
    if (!buffer.Valid() || !buffer.Dump(&pieces).ok()) {
        return Status::Internal("grpc: a message could not be read; it may be badly compressed");
    }
    const std::size_t size = buffer.Length();
    auto memory = std::make_shared_for_overwrite<char[]>(size);
    std::size_t filled = 0;
    for (const grpc::Slice& piece : pieces) {
        if (piece.size() > size - filled) {
            return Status::Internal("grpc: a message is longer than it says");
        }
        std::memcpy(memory.get() + filled, piece.begin(), piece.size());
        filled += piece.size();
    }
    const std::string_view view(memory.get(), filled);
    return Slice(std::move(memory), view);
}

}  // namespace qmq::rpc
