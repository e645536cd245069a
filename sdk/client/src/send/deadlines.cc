#include "sdk/client/src/send/deadlines.h"

#include <utility>

namespace qmq::internal {

void Deadlines::Add(const BatchPtr& batch) {
    // Mostly the latest deadline of all.
    batch->outstanding = outstanding_.emplace_hint(
        outstanding_.end(), std::pair(batch->machine.deadline(), batch->id), batch);
    earlier_ = earlier_ || batch->outstanding == outstanding_.begin();
    subjects_.Use(*batch->subject);
    for (Flush* flush : flushes_) {
        flush->left += static_cast<std::size_t>(batch->generation < flush->mark);
    }
}

void Deadlines::Remove(PendingBatch& batch) {
    if (batch.place == PendingBatch::Place::kWaiting) {
        waiting_.erase(batch.waiting);
    }
    for (Flush* flush : flushes_) {
        if (batch.generation < flush->mark && --flush->left == 0) {
            flushed_ = true;
        }
    }
    subjects_.Leave(*batch.subject);
    outstanding_.erase(batch.outstanding);
}

void Deadlines::Wait(const BatchPtr& batch, TimePoint when) {
    batch->place = PendingBatch::Place::kWaiting;
    batch->waiting = waiting_.emplace(when, batch);
    earlier_ = earlier_ || batch->waiting == waiting_.begin();
}

BatchPtr Deadlines::Due(TimePoint now) {
    if (waiting_.empty() || waiting_.begin()->first > now) {
        return nullptr;
    }
    BatchPtr batch = std::move(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
    batch->place = PendingBatch::Place::kUnrouted;  // Until a lane takes it.
    return batch;
}

}  // namespace qmq::internal
