#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "server/store/segment_index.h"

namespace qmq::store {

/// Indexes of subjects in sealed segments, as they were last needed. The one used longest ago goes
/// first once they take more than `capacity_bytes`; the newest always stays.
class IndexCache {
public:
    explicit IndexCache(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

    /// Null when it is not here.
    std::shared_ptr<const SubjectIndex> Find(std::uint32_t segment, std::uint32_t subject);
    void Add(std::uint32_t segment,
             std::uint32_t subject,
             std::shared_ptr<const SubjectIndex> index);
    void DropSegment(std::uint32_t segment);
    std::uint64_t bytes() const { return bytes_; }

private:
    struct Entry {
        std::uint64_t key;
        std::shared_ptr<const SubjectIndex> index;
    };
    static std::uint64_t Key(std::uint32_t segment, std::uint32_t subject) {
        return (std::uint64_t{segment} << 32U) | subject;
    }
    void Drop(std::list<Entry>::iterator entry);

    const std::uint64_t capacity_bytes_;
    std::uint64_t bytes_ = 0;
    std::list<Entry> entries_;  // The most recently used first.
    std::unordered_map<std::uint64_t, std::list<Entry>::iterator> by_key_;
};

}  // namespace qmq::store
