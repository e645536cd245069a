#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "server/store/record.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// The records that were appended since the last write, as parts that go to the disk in one call a
/// segment. Large batches are not copied: their owner keeps them until `Clear`.
class WriteRound {
public:
    /// Encodes `record`, which lies at `record.header.offset`, and keeps `record.batch` by
    /// reference when it is large.
    void Add(const Record& record, LogSeed seed);
    /// What follows goes to another segment.
    void NextSegment() { spans_.emplace_back(); }

    struct Span {
        LogOffset begin = 0;  ///< Where the first part goes.
        std::size_t first_part = 0;
        std::size_t part_count = 0;
    };
    /// One a segment; those without parts have nothing to write.
    const std::vector<Span>& spans() const { return spans_; }
    std::span<const std::string_view> parts(const Span& span) const {
        return std::span(parts_).subspan(span.first_part, span.part_count);
    }
    /// Where each record begins.
    const std::vector<LogOffset>& records() const { return records_; }
    bool empty() const { return records_.empty(); }

    void Clear();

private:
    char* Allocate(std::size_t bytes);
    void AddPart(std::string_view part);

    std::vector<std::string_view> parts_;
    std::vector<Span> spans_ = std::vector<Span>(1);
    std::vector<LogOffset> records_;
    // Fronts of records and small batches, in pieces that never move while the round lives.
    std::vector<std::unique_ptr<char[]>> blocks_;
    std::size_t block_ = 0;
    std::size_t block_used_ = 0;
    std::vector<std::unique_ptr<char[]>> large_;
};

}  // namespace qmq::store
