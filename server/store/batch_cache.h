#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "qmq/slice.h"

#include "server/store/shard_store.h"

namespace qmq::store {

/// Batches in memory: the newest ones of the log, so that consumers who keep up share the very
/// bytes that were sent; and some old ones that were read in part, so that the rest of such a batch
/// is not fetched and checked again.
class BatchCache {
public:
    explicit BatchCache(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

    /// `record` ascends from call to call.
    void AddNewest(LogOffset record, Slice batch);
    /// Forgets the records at `record` and above: they were taken back.
    void RemoveFrom(LogOffset record);
    /// Makes room. What lies at `written` or above is nowhere else and stays.
    void Trim(LogOffset written);

    void AddRead(LogOffset record, Slice batch);

    /// Null when it is not here. Valid until the next change.
    const Slice* Find(LogOffset record);

private:
    struct Entry {
        LogOffset record;
        Slice batch;
    };
    static std::uint64_t Cost(const Entry& entry);

    const std::uint64_t capacity_bytes_;
    std::deque<Entry> newest_;
    std::uint64_t newest_bytes_ = 0;
    std::vector<Entry> read_;  // The most recently used last.
    std::uint64_t read_bytes_ = 0;
};

}  // namespace qmq::store
