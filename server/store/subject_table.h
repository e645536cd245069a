#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/store/segment_index.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// The messages that a subject has in one segment: all that is kept in memory of a sealed one.
struct Extent {
    std::uint32_t segment = 0;
    /// Of its block in the segment's index file, in units of 8 bytes; zero while there is no file.
    std::uint32_t block = 0;
    std::uint64_t first_sequence = 0;
    std::uint32_t span = 0;          ///< Sequences from the first to the last one, gaps included.
    std::uint32_t stored_units = 0;  ///< Bytes of its records, in units of 8.

    std::uint64_t end_sequence() const { return first_sequence + span; }
};

/// A subject as the store sees it.
class SubjectState final : public SubjectLog {
public:
    SubjectState(std::string name, std::uint32_t id, std::uint64_t sequence_floor);

    std::uint32_t id() const { return id_; }
    void set_first_sequence(std::uint64_t sequence) { first_sequence_ = sequence; }
    void set_next_sequence(std::uint64_t sequence) { next_sequence_ = sequence; }
    const std::vector<Gap>& gaps() const { return gaps_; }
    void set_gaps(std::vector<Gap> gaps) { gaps_ = std::move(gaps); }
    /// None of them is below an earlier one.
    void AddGap(const Gap& gap);

    /// Ascending by segment.
    std::vector<Extent> extents;
    /// Of the segment that is being written, when the subject has messages there.
    SubjectIndex* open_index = nullptr;

    /// The extent of `segment`, or null.
    Extent* Find(std::uint32_t segment);
    std::uint64_t stored_bytes() const;

private:
    const std::uint32_t id_;
};

inline SubjectState& StateOf(SubjectLog& subject) {
    return static_cast<SubjectState&>(subject);
}
inline const SubjectState& StateOf(const SubjectLog& subject) {
    return static_cast<const SubjectState&>(subject);
}

/// All subjects of a shard, in the order in which they were first seen. They live as long as the
/// table. Index files are written by another thread, which uses names and nothing else.
class SubjectTable {
public:
    /// The longest name that a record can hold, and more than any check of names lets through.
    static constexpr std::size_t kMostNameBytes = 4096;

    SubjectState* Find(std::string_view name);
    /// Null when the name is too long.
    SubjectState* FindOrMake(std::string_view name);
    const std::vector<std::unique_ptr<SubjectState>>& all() const { return all_; }

    /// Where sequences of new subjects begin. Above zero after damage: see `ShardLog`.
    std::uint64_t sequence_floor = 0;

private:
    std::vector<std::unique_ptr<SubjectState>> all_;
    std::unordered_map<std::string_view, SubjectState*> by_name_;  // Keys point into the subjects.
};

/// Memory for the index of a segment: thousands of small pieces that go together, and a few that
/// grow large.
class IndexMemory : public std::pmr::memory_resource {
private:
    static constexpr std::size_t kLarge = 4096;

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return bytes < kLarge ? small_.allocate(bytes, alignment)
                              : large_->allocate(bytes, alignment);
    }
    void do_deallocate(void* piece, std::size_t bytes, std::size_t alignment) override {
        if (bytes >= kLarge) {
            large_->deallocate(piece, bytes, alignment);
        }
    }
    bool do_is_equal(const memory_resource& other) const noexcept override {
        return this == &other;
    }

    std::pmr::monotonic_buffer_resource small_;
    std::pmr::memory_resource* const large_ = std::pmr::new_delete_resource();
};

/// The index of a segment while it is in memory: of the one that is written, and of those whose
/// index file is not there yet. By subject id; of a subject whose messages were all taken back an
/// empty one stays.
class MemoryIndex : private IndexMemory,
                    public std::pmr::unordered_map<std::uint32_t, SubjectIndex> {
public:
    /// Of about so many subjects.
    explicit MemoryIndex(std::size_t subjects = 0)
        : std::pmr::unordered_map<std::uint32_t, SubjectIndex>(subjects, this) {}
    MemoryIndex(const MemoryIndex&) = delete;
    MemoryIndex& operator=(const MemoryIndex&) = delete;
};

}  // namespace qmq::store
