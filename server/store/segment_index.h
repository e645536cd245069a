#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/status.h"

#include "server/store/log_seed.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// A record with messages of one subject. On disk as it is here, field by field.
struct BatchEntry {
    std::uint64_t first_sequence = 0;
    std::uint32_t position = 0;  ///< Of the record in its segment.
    std::uint32_t record_bytes = 0;
    std::uint32_t count = 0;
    std::uint32_t first_message = 0;  ///< Its first message's place in `messages`.

    std::uint64_t end_sequence() const { return first_sequence + count; }
    friend bool operator==(const BatchEntry&, const BatchEntry&) = default;
};

struct MessageEntry {
    std::uint32_t offset = 0;  ///< In the body of its batch.
    std::uint32_t tag_mask = 0;
    friend bool operator==(const MessageEntry&, const MessageEntry&) = default;
};

/// Where the messages of one subject lie in one segment, by sequence.
struct SubjectIndex {
    using allocator_type = std::pmr::polymorphic_allocator<std::byte>;

    SubjectIndex() = default;
    explicit SubjectIndex(const allocator_type& memory) : batches(memory), messages(memory) {}
    SubjectIndex(const SubjectIndex& other, const allocator_type& memory)
        : batches(other.batches, memory),
          messages(other.messages, memory),
          stored_bytes(other.stored_bytes) {}

    std::pmr::vector<BatchEntry> batches;
    std::pmr::vector<MessageEntry> messages;
    std::uint64_t stored_bytes = 0;

    friend bool operator==(const SubjectIndex&, const SubjectIndex&) = default;

    /// False when `batch` has no message that could be found.
    bool Add(std::uint64_t first_sequence,
             std::uint32_t position,
             std::uint32_t record_bytes,
             const BatchView& batch);
    /// Takes the last batch off again.
    void RemoveLast();

    std::uint64_t first_sequence() const { return batches.front().first_sequence; }
    std::uint64_t end_sequence() const { return batches.back().end_sequence(); }
    /// The batch with `sequence`, or the first one behind it; null when there is none.
    const BatchEntry* Find(std::uint64_t sequence) const;
    std::size_t memory_bytes() const {
        return sizeof *this + batches.capacity() * sizeof(BatchEntry) +
               messages.capacity() * sizeof(MessageEntry);
    }
};

/// A part of the log that holds no readable record.
struct DamagedRange {
    LogOffset begin = 0;
    LogOffset end = 0;
};

/// What is known of a segment beside its subjects.
struct SegmentSummary {
    LogOffset base = 0;
    /// Where its last record ends.
    LogOffset used_end = 0;
    /// When its newest message or action was appended.
    RunningTime newest{};
    std::vector<DamagedRange> damaged;

    /// Whether the record at `offset` is known to be damaged, or not to be read.
    bool IsDamaged(LogOffset offset) const {
        return std::any_of(damaged.begin(), damaged.end(), [offset](const DamagedRange& range) {
            return offset >= range.begin && offset < range.end;
        });
    }
};

/// A line of an index file's directory.
struct IndexDirectoryEntry {
    std::string name;
    std::uint64_t block_position = 0;  ///< In the file.
    std::uint64_t first_sequence = 0;
    std::uint64_t end_sequence = 0;
    std::uint64_t stored_bytes = 0;
};

struct IndexDirectory {
    LogSeed seed{};
    SegmentSummary summary;
    std::vector<IndexDirectoryEntry> subjects;
};

/// Writes the index file of a sealed segment. docs/design/log-format.md.
class IndexFileWriter {
public:
    IndexFileWriter(LogSeed seed, SegmentSummary summary)
        : seed_(seed), summary_(std::move(summary)) {}
    /// Both live until `Finish`.
    void Add(std::string_view name, const SubjectIndex& index);
    /// The whole file; `block_positions` are those of the subjects in the order of `Add`.
    std::string Finish(std::vector<std::uint64_t>& block_positions) const;

private:
    LogSeed seed_;
    SegmentSummary summary_;
    std::vector<std::pair<std::string_view, const SubjectIndex*>> subjects_;
};

/// Bytes at the front of an index file that say how long its directory is.
inline constexpr std::size_t kIndexHeaderBytes = 64;
/// How many bytes the header and the directory take together, from the header. kDataLoss when it is
/// none.
Result<std::uint64_t> IndexDirectoryBytes(std::string_view header);
/// Reads header and directory. Every byte is suspect.
Result<IndexDirectory> ParseIndexDirectory(std::string_view bytes, LogOffset base);

/// Bytes at the front of a subject's block.
inline constexpr std::size_t kIndexBlockHeaderBytes = 32;
/// How many bytes the block takes, its header included.
Result<std::uint64_t> IndexBlockBytes(std::string_view header);
/// Reads the block of the subject whose messages begin at `first_sequence`.
Result<SubjectIndex> ParseIndexBlock(std::string_view bytes,
                                     LogOffset base,
                                     std::uint64_t first_sequence);

}  // namespace qmq::store
