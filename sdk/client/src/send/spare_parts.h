#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/send/pending_batch.h"

namespace qmq::internal {

/// What was made for a batch and can serve another: in a flood over many subjects the allocator
/// would else be the dearest part, because the thread that frees is another than the one that
/// allocates. It keeps a bounded number of bytes: what it gives out counts as pending, so spare
/// memory of large batches must not fill a small producer with small ones.
///
/// Two sides: whoever hands out answers gives back under a lock of its own, so as not to hold up
/// those who send; who sends has what was given back at hand, and takes all of it when that is
/// used up.
class SpareParts {
public:
    using StatePtr = std::shared_ptr<ProducerAccess::State>;

    explicit SpareParts(std::size_t max_pending_bytes);
    /// Of states, and of memory, on each side.
    std::size_t max_bytes() const { return max_bytes_; }

    /// Leaves of `batches` what nobody else holds, as if new.
    static void Clean(std::vector<BatchPtr>* batches);
    static void Clean(std::vector<StatePtr>* states);
    /// Keeps what is clean, as far as there is room. Thread-safe.
    void Keep(std::vector<BatchPtr>* clean);
    void Keep(std::vector<StatePtr>* clean);

    // Under the producer's lock.

    /// Null when there is none.
    BatchPtr TakeBatch();
    StatePtr TakeState();
    /// To write messages to; empty when there is none.
    std::string TakeMemory();
    /// Gives back everything, and keeps nothing until somebody takes a batch again.
    void Trim();

private:
    const std::size_t max_bytes_;
    std::atomic<bool> keeps_{true};
    std::vector<BatchPtr> batches_;
    std::vector<StatePtr> states_;
    std::vector<std::string> memory_;

    Mutex mutex_;
    std::vector<BatchPtr> back_batches_ QMQ_GUARDED_BY(mutex_);
    std::vector<StatePtr> back_states_ QMQ_GUARDED_BY(mutex_);
    std::vector<std::string> back_memory_ QMQ_GUARDED_BY(mutex_);
    std::size_t back_state_bytes_ QMQ_GUARDED_BY(mutex_) = 0;
    std::size_t back_memory_bytes_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace qmq::internal
