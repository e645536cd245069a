#include "sdk/client/src/producer_batch.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

namespace {

/// Batches whose staged messages are looked for at the same time.
constexpr std::size_t kAbreast = 8;
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

using BatchSpan = std::span<const std::shared_ptr<PendingBatch>>;

void PrefetchMessage(const StagedMessage* message, std::size_t bytes) {
    Prefetch(message, sizeof(StagedMessage) + bytes);
}

/// The staged messages of at most `kAbreast` batches, those of each in order. The messages of one
/// batch lie far from each other, and each says only where the one before is: so the memory is
/// asked for one of every batch at once.
void ListStaged(BatchSpan batches, std::vector<StagedMessage*>* list, DroppedMessages* dropped) {
    struct Walk {
        StagedMessage* at;
        std::size_t end;
    };
    std::array<Walk, kAbreast> walks{};
    std::size_t total = 0;
    for (std::size_t i = 0; i < batches.size(); ++i) {
        const StagedMessages& staged = batches[i]->staged;
        total += staged.count();
        walks[i] = {staged.last(), total};
        if (staged.last() != nullptr) {
            PrefetchMessage(staged.last(), batches[i]->bytes / std::max(batches[i]->count, 1U));
        }
    }
    list->resize(total);
    for (std::size_t left = total; left > 0;) {
        for (Walk& walk : walks) {
            if (walk.at == nullptr) {
                continue;
            }
            (*list)[--walk.end] = walk.at;
            dropped->Add(*walk.at);
            --left;
            const std::size_t bytes = walk.at->bytes;
            walk.at = walk.at->before;
            if (walk.at != nullptr) {
                PrefetchMessage(walk.at, bytes);
            }
        }
    }
}

void MoveStaged(PendingBatch& batch, std::span<StagedMessage* const> messages) {
    if (messages.empty()) {
        return;
    }
    ProducerAccess::State& state = *batch.state;
    batch.builder.Expect(batch.bytes + BatchHeader::kBytes);
    for (StagedMessage* const message : messages) {
        batch.builder.AddEncoded(message->encoded());
        if (message->callback) {
            state.callbacks.emplace_back(state.count, std::move(message->callback));
        }
        state.AddId(message->id());
        std::destroy_at(message);
    }
    batch.staged.Forget();
}

}  // namespace

void TakeStaged(BatchSpan batches) {
    std::vector<StagedMessage*> messages;
    while (!batches.empty()) {
        const BatchSpan some = batches.first(std::min(batches.size(), kAbreast));
        DroppedMessages dropped;
        ListStaged(some, &messages, &dropped);
        std::span<StagedMessage* const> rest(messages);
        for (const std::shared_ptr<PendingBatch>& batch : some) {
            const std::uint32_t count = batch->staged.count();
            MoveStaged(*batch, rest.first(count));
            rest = rest.subspan(count);
        }
        batches = batches.subspan(some.size());
    }
}

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
        if (batches_.size() < kMaxSpares) {
            const std::size_t bytes = batch->encoded.capacity();
            if (bytes_ + bytes <= kMaxSpareBytes) {
                bytes_ += bytes;
                memory_.push_back(std::move(batch->encoded));
            }
            batch->encoded = {};
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

SubjectQueue* SubjectQueues::Find(std::string_view name, std::size_t hash) const {
    for (std::size_t i = hash;; ++i) {
        const Slot& slot = slots_[i & (slots_.size() - 1)];
        if (slot.subject == nullptr || (slot.hash == hash && slot.subject->Is(name))) {
            return slot.subject;
        }
    }
}

SubjectQueue& SubjectQueues::Add(std::string_view name) {
    SubjectQueue& added = all_.emplace_back(name);
    if (all_.size() * 2 > slots_.size()) {
        for (const Slot& slot : std::exchange(slots_, std::vector<Slot>(slots_.size() * 2))) {
            if (slot.subject != nullptr) {
                Place(slot);
            }
        }
        SetHint();
    }
    Place({Hash(name), &added});
    return added;
}

void SubjectQueues::SetHint() {
    hint_.slots.store(slots_.data(), std::memory_order_relaxed);
    hint_.count.store(slots_.size(), std::memory_order_relaxed);
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

std::string SpareParts::TakeMemory() {
    if (memory_.empty()) {
        return {};
    }
    std::string memory = std::move(memory_.back());
    memory_.pop_back();
    bytes_ -= memory.capacity();
    return memory;
}

}  // namespace qmq::internal
