#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <utility>
#include <vector>

#include "sdk/client/src/send/subject_queue.h"

namespace qmq::internal {

/// What of a producer ends with time: every batch that is not answered with its deadline, those
/// that wait for their next attempt, and the calls of `Flush` that wait for batches. Under the
/// producer's lock.
class Deadlines {
public:
    /// A call of `Flush`: how many batches of generations before `mark` are not answered.
    struct Flush {
        std::uint64_t mark = 0;
        std::size_t left = 0;
    };

    explicit Deadlines(SubjectQueues& subjects) : subjects_(subjects) {}

    bool empty() const { return outstanding_.empty(); }
    std::size_t count() const { return outstanding_.size(); }

    void Add(const BatchPtr& batch);
    /// It is answered.
    void Remove(PendingBatch& batch);
    /// Its next attempt is at `when`.
    void Wait(const BatchPtr& batch, TimePoint when);

    /// The next batch whose deadline has come; null when there is none. It stays until `Remove`.
    BatchPtr Expired(TimePoint now) const {
        const bool any = !empty() && outstanding_.begin()->first.first <= now;
        return any ? outstanding_.begin()->second : nullptr;
    }
    /// Any batch that is not answered.
    BatchPtr First() const { return empty() ? nullptr : outstanding_.begin()->second; }
    /// The next batch whose next attempt is due, which waits no more; null when there is none.
    BatchPtr Due(TimePoint now);
    /// When something of this happens. `TimePoint::max()`: never.
    TimePoint earliest() const {
        TimePoint earliest = empty() ? TimePoint::max() : outstanding_.begin()->first.first;
        return waiting_.empty() ? earliest : std::min(earliest, waiting_.begin()->first);
    }
    /// Whether that may have come nearer since this was last asked.
    bool TakeEarlier() { return std::exchange(earlier_, false); }

    template <typename F>
    void ForEach(F&& call) const {
        for (const auto& [key, batch] : outstanding_) {
            call(batch);
        }
    }

    void Begin(Flush* flush) { flushes_.push_back(flush); }
    void End(Flush* flush) { std::erase(flushes_, flush); }
    /// Whether a flush is over since this was last asked.
    bool TakeFlushed() { return std::exchange(flushed_, false); }

private:
    SubjectQueues& subjects_;
    SlabResource nodes_;  // Of outstanding_.
    PendingBatch::Outstanding outstanding_{&nodes_};
    PendingBatch::Waiting waiting_;
    std::vector<Flush*> flushes_;
    bool flushed_ = false;
    bool earlier_ = false;
};

}  // namespace qmq::internal
