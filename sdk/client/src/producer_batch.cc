#include "sdk/client/src/producer_batch.h"

#include <functional>
#include <utility>

namespace qmq::internal {

namespace {

constexpr std::size_t kMaxSpares = 16'384;
constexpr std::size_t kMaxSpareBytes = 8U << 20;

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
        const std::size_t bytes = batch->encoded.capacity();
        if (batches_.size() < kMaxSpares && bytes_ + bytes <= kMaxSpareBytes) {
            bytes_ += bytes;
            batches_.push_back(std::move(batch));
        }
    }
}

void SpareParts::Keep(std::vector<StatePtr>* clean) {
    for (StatePtr& state : *clean) {
        if (states_.size() < kMaxSpares) {
            states_.push_back(std::move(state));
        }
    }
}

SubjectQueue* SubjectQueues::Find(std::string_view name) const {
    const std::size_t hash = std::hash<std::string_view>()(name);
    for (std::size_t i = hash;; ++i) {
        const Slot& slot = slots_[i & (slots_.size() - 1)];
        if (slot.subject == nullptr || (slot.hash == hash && slot.subject->name == name)) {
            return slot.subject;
        }
    }
}

SubjectQueue& SubjectQueues::Add(std::string_view name) {
    all_.push_back(std::make_unique<SubjectQueue>());
    all_.back()->name = std::string(name);
    if (all_.size() * 2 > slots_.size()) {
        for (const Slot& slot : std::exchange(slots_, std::vector<Slot>(slots_.size() * 2))) {
            if (slot.subject != nullptr) {
                Place(slot);
            }
        }
    }
    Place({std::hash<std::string_view>()(name), all_.back().get()});
    return *all_.back();
}

void SubjectQueues::Place(Slot slot) {
    std::size_t i = slot.hash;
    while (slots_[i & (slots_.size() - 1)].subject != nullptr) {
        ++i;
    }
    slots_[i & (slots_.size() - 1)] = slot;
}

SpareParts::BatchPtr SpareParts::TakeBatch() {
    if (batches_.empty()) {
        return nullptr;
    }
    BatchPtr batch = std::move(batches_.back());
    batches_.pop_back();
    bytes_ -= batch->encoded.capacity();
    batch->builder.Reuse(std::exchange(batch->encoded, {}));
    return batch;
}

SpareParts::StatePtr SpareParts::TakeState() {
    if (states_.empty()) {
        return nullptr;
    }
    StatePtr state = std::move(states_.back());
    states_.pop_back();
    return state;
}

}  // namespace qmq::internal
