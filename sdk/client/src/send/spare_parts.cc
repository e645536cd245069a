#include "sdk/client/src/send/spare_parts.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {

// Of each side.
constexpr std::size_t kMaxBatches = 4'096;
constexpr std::size_t kMaxBytes = 2U << 20;
/// And this part of what a producer may have pending.
constexpr std::size_t kPart = 8;

/// Whether nobody else holds it. What others did with it before they let go is then visible here:
/// the count alone would not say so, a change of it does.
template <typename T>
bool IsOnlyHolder(const std::shared_ptr<T>& one) {
    if (one.use_count() != 1) {
        return false;
    }
    std::shared_ptr<T> touch(one);
    touch.reset();
    return true;
}

template <typename T>
T TakeLast(std::vector<T>* from) {
    if (from->empty()) {
        return {};
    }
    T last = std::move(from->back());
    from->pop_back();
    return last;
}

}  // namespace

SpareParts::SpareParts(std::size_t max_pending_bytes)
    : max_bytes_(std::min(kMaxBytes, max_pending_bytes / kPart)) {}

void SpareParts::Clean(std::vector<BatchPtr>* batches) {
    std::erase_if(*batches, [](const BatchPtr& batch) {
        return !IsOnlyHolder(batch) || batch->place != PendingBatch::Place::kDone || batch->single;
    });
    for (const BatchPtr& batch : *batches) {
        batch->lane.reset();
        batch->frame.reset();
        batch->state.reset();
        batch->place = PendingBatch::Place::kOpen;
        batch->count = 0;
        batch->bytes = 0;
        batch->encoded.clear();
        batch->charged_capacity = 0;
    }
}

void SpareParts::Clean(std::vector<StatePtr>* states) {
    std::erase_if(*states, [](const StatePtr& state) { return !IsOnlyHolder(state); });
    for (const StatePtr& state : *states) {
        state->Reset();
    }
}

void SpareParts::Keep(std::vector<BatchPtr>* clean) {
    if (clean->empty()) {
        return;
    }
    MutexLock lock(mutex_);
    for (BatchPtr& batch : *clean) {
        if (keeps_.load(std::memory_order_relaxed) && back_batches_.size() < kMaxBatches) {
            // Out of the batch in any case: a string that is given an empty value keeps its memory.
            std::string memory = std::move(batch->encoded);
            if (back_memory_bytes_ + memory.capacity() <= max_bytes_) {
                back_memory_bytes_ += memory.capacity();
                back_memory_.push_back(std::move(memory));
            }
            back_batches_.push_back(std::move(batch));
        }
    }
}

void SpareParts::Keep(std::vector<StatePtr>* clean) {
    if (clean->empty()) {
        return;
    }
    MutexLock lock(mutex_);
    for (StatePtr& state : *clean) {
        const std::size_t bytes = state->Footprint();
        if (keeps_.load(std::memory_order_relaxed) && back_state_bytes_ + bytes <= max_bytes_) {
            back_state_bytes_ += bytes;
            back_states_.push_back(std::move(state));
        }
    }
}

BatchPtr SpareParts::TakeBatch() {
    keeps_.store(true, std::memory_order_relaxed);
    if (batches_.empty()) {
        MutexLock lock(mutex_);
        batches_.swap(back_batches_);
    }
    return TakeLast(&batches_);
}

SpareParts::StatePtr SpareParts::TakeState() {
    if (states_.empty()) {
        MutexLock lock(mutex_);
        states_.swap(back_states_);
        back_state_bytes_ = 0;
    }
    return TakeLast(&states_);
}

std::string SpareParts::TakeMemory() {
    if (memory_.empty()) {
        MutexLock lock(mutex_);
        memory_.swap(back_memory_);
        back_memory_bytes_ = 0;
    }
    return TakeLast(&memory_);
}

void SpareParts::Trim() {
    keeps_.store(false, std::memory_order_relaxed);
    batches_ = {};
    states_ = {};
    memory_ = {};
    MutexLock lock(mutex_);
    back_batches_ = {};
    back_states_ = {};
    back_memory_ = {};
    back_state_bytes_ = back_memory_bytes_ = 0;
}

}  // namespace qmq::internal
