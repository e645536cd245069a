#include "server/store/index_cache.h"

#include <utility>

namespace qmq::store {

std::shared_ptr<const SubjectIndex> IndexCache::Find(std::uint32_t segment, std::uint32_t subject) {
    const auto found = by_key_.find(Key(segment, subject));
    if (found == by_key_.end()) {
        return nullptr;
    }
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->index;
}

void IndexCache::Add(std::uint32_t segment,
                     std::uint32_t subject,
                     std::shared_ptr<const SubjectIndex> index) {
    const std::uint64_t key = Key(segment, subject);
    if (const auto known = by_key_.find(key); known != by_key_.end()) {
        Drop(known->second);
    }
    bytes_ += index->memory_bytes();
    entries_.push_front({key, std::move(index)});
    by_key_[key] = entries_.begin();
    while (bytes_ > capacity_bytes_ && entries_.size() > 1) {
        Drop(std::prev(entries_.end()));
    }
}

void IndexCache::DropSegment(std::uint32_t segment) {
    for (auto entry = entries_.begin(); entry != entries_.end();) {
        const auto next = std::next(entry);
        if (entry->key >> 32U == segment) {
            Drop(entry);
        }
        entry = next;
    }
}

void IndexCache::Drop(std::list<Entry>::iterator entry) {
    bytes_ -= entry->index->memory_bytes();
    by_key_.erase(entry->key);
    entries_.erase(entry);
}

}  // namespace qmq::store
