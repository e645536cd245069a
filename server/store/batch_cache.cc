#include "server/store/batch_cache.h"

#include <algorithm>
#include <utility>

namespace qmq::store {
namespace {

/// What an entry costs beside the bytes of its batch: our part, and an allocation of somebody's.
constexpr std::uint64_t kEntryCost = 96;
constexpr std::size_t kMostReadEntries = 64;

}  // namespace

std::uint64_t BatchCache::Cost(const Entry& entry) {
    return entry.batch.size() + kEntryCost;
}

void BatchCache::AddNewest(LogOffset record, Slice batch) {
    newest_.push_back({record, std::move(batch)});
    newest_bytes_ += Cost(newest_.back());
}

void BatchCache::RemoveFrom(LogOffset record) {
    while (!newest_.empty() && newest_.back().record >= record) {
        newest_bytes_ -= Cost(newest_.back());
        newest_.pop_back();
    }
}

void BatchCache::Trim(LogOffset written) {
    while (newest_bytes_ > capacity_bytes_ && newest_.front().record < written) {
        newest_bytes_ -= Cost(newest_.front());
        newest_.pop_front();
    }
}

void BatchCache::AddRead(LogOffset record, Slice batch) {
    read_.push_back({record, std::move(batch)});
    read_bytes_ += Cost(read_.back());
    while (read_.size() > 1 && (read_.size() > kMostReadEntries || read_bytes_ > capacity_bytes_)) {
        read_bytes_ -= Cost(read_.front());
        read_.erase(read_.begin());
    }
}

const Slice* BatchCache::Find(LogOffset record) {
    if (!newest_.empty() && record >= newest_.front().record) {
        const auto found = std::lower_bound(
            newest_.begin(), newest_.end(), record, [](const Entry& entry, LogOffset wanted) {
                return entry.record < wanted;
            });
        return found != newest_.end() && found->record == record ? &found->batch : nullptr;
    }
    const auto found = std::find_if(
        read_.begin(), read_.end(), [&](const Entry& entry) { return entry.record == record; });
    if (found == read_.end()) {
        return nullptr;
    }
    std::rotate(found, found + 1, read_.end());
    return &read_.back().batch;
}

}  // namespace qmq::store
