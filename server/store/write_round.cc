#include "server/store/write_round.h"

#include <cstring>

#include "server/store/bytes.h"

namespace qmq::store {
namespace {

constexpr std::size_t kBlockBytes = 64U << 10;
/// Below this a copy costs less than one more part in the system call.
constexpr std::size_t kCopyBelow = 1024;

}  // namespace

char* WriteRound::Allocate(std::size_t bytes) {
    if (bytes > kBlockBytes) {
        return large_.emplace_back(std::make_unique<char[]>(bytes)).get();
    }
    if (blocks_.empty() || block_used_ + bytes > kBlockBytes) {
        block_ = blocks_.empty() ? 0 : block_ + 1;
        if (block_ == blocks_.size()) {
            blocks_.push_back(std::make_unique<char[]>(kBlockBytes));
        }
        block_used_ = 0;
    }
    char* const memory = blocks_[block_].get() + block_used_;
    block_used_ += bytes;
    return memory;
}

void WriteRound::AddPart(std::string_view part) {
    if (part.empty()) {
        return;
    }
    Span& span = spans_.back();
    if (span.part_count == 0) {
        span.first_part = parts_.size();
    } else if (parts_.back().data() + parts_.back().size() == part.data()) {
        // Two pieces that lie side by side in a block are one.
        parts_.back() = {parts_.back().data(), parts_.back().size() + part.size()};
        return;
    }
    parts_.push_back(part);
    ++span.part_count;
}

void WriteRound::Add(const Record& record, LogSeed seed) {
    constexpr std::string_view kZeros("\0\0\0\0\0\0\0", 7);
    if (spans_.back().part_count == 0) {
        spans_.back().begin = record.header.offset;
    }
    records_.push_back(record.header.offset);
    const std::uint64_t front_bytes = FrontBytes(record);
    const bool copy = record.batch.size() < kCopyBelow;
    const std::uint64_t bytes = copy ? EncodedBytes(record) : front_bytes;
    char* const memory = Allocate(static_cast<std::size_t>(bytes));
    EncodeFront(record, seed, memory);
    if (copy) {
        if (!record.batch.empty()) {
            char* const to = memory + front_bytes;
            std::memcpy(to, record.batch.data(), record.batch.size());
            std::memset(to + record.batch.size(), 0, bytes - front_bytes - record.batch.size());
        }
        AddPart({memory, static_cast<std::size_t>(bytes)});
        return;
    }
    AddPart({memory, static_cast<std::size_t>(bytes)});
    AddPart(record.batch);
    AddPart(kZeros.substr(0, RoundUp(record.batch.size()) - record.batch.size()));
}

void WriteRound::Clear() {
    // A burst must not keep its memory for ever.
    constexpr std::size_t kKeptBlocks = 16;
    if (blocks_.size() > kKeptBlocks) {
        blocks_.resize(kKeptBlocks);
    }
    large_.clear();
    parts_.clear();
    records_.clear();
    spans_.assign(1, Span());
    block_ = 0;
    block_used_ = 0;
}

}  // namespace qmq::store
