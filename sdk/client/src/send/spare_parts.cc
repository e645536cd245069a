#include "sdk/client/src/send/spare_parts.h"

#include <utility>

namespace qmq::internal {

namespace {

constexpr std::size_t kMaxBatches = 8'192;
constexpr std::size_t kMaxStateBytes = 4U << 20;
constexpr std::size_t kMaxMemoryBytes = 4U << 20;

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
std::shared_ptr<T> TakeLast(std::vector<std::shared_ptr<T>>* from) {
    if (from->empty()) {
        return nullptr;
    }
    std::shared_ptr<T> last = std::move(from->back());
    from->pop_back();
    return last;
}

}  // namespace

void SpareParts::Clean(std::vector<BatchPtr>* batches) {
    std::erase_if(*batches, [](const BatchPtr& batch) {
        return !IsOnlyHolder(batch) || batch->place != PendingBatch::Place::kDone || batch->single;
    });
    for (const BatchPtr& batch : *batches) {
        batch->lane.reset();
        batch->state.reset();
        batch->place = PendingBatch::Place::kOpen;
        batch->count = 0;
        batch->bytes = 0;
        batch->encoded.clear();
    }
}

void SpareParts::Clean(std::vector<StatePtr>* states) {
    std::erase_if(*states, [](const StatePtr& state) { return !IsOnlyHolder(state); });
    for (const StatePtr& state : *states) {
        state->Reset();
    }
}

void SpareParts::Keep(std::vector<BatchPtr>* clean) {
    for (BatchPtr& batch : *clean) {
        if (batches_.size() < kMaxBatches) {
            // Out of the batch in any case: a string that is given an empty value keeps its memory.
            std::string memory = std::move(batch->encoded);
            if (memory_bytes_ + memory.capacity() <= kMaxMemoryBytes) {
                memory_bytes_ += memory.capacity();
                memory_.push_back(std::move(memory));
            }
            batches_.push_back(std::move(batch));
        }
    }
}

void SpareParts::Keep(std::vector<StatePtr>* clean) {
    for (StatePtr& state : *clean) {
        const std::size_t bytes = state->Footprint();
        if (state_bytes_ + bytes <= kMaxStateBytes) {
            state_bytes_ += bytes;
            states_.push_back(std::move(state));
        }
    }
}

BatchPtr SpareParts::TakeBatch() {
    return TakeLast(&batches_);
}

SpareParts::StatePtr SpareParts::TakeState() {
    StatePtr state = TakeLast(&states_);
    if (state != nullptr) {
        state_bytes_ -= state->Footprint();
    }
    return state;
}

std::string SpareParts::TakeMemory() {
    if (memory_.empty()) {
        return {};
    }
    std::string memory = std::move(memory_.back());
    memory_.pop_back();
    memory_bytes_ -= memory.capacity();
    return memory;
}

}  // namespace qmq::internal
