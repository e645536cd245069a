#include "sdk/client/src/send/pending_batch.h"

#include <algorithm>
#include <array>
#include <vector>

#include "sdk/client/src/base/prefetch.h"

namespace qmq::internal {

namespace {

/// Batches whose staged messages are looked for at the same time.
constexpr std::size_t kAbreast = 8;

using BatchSpan = std::span<const BatchPtr>;

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

/// `unsent`: only what its answer needs.
void MoveStaged(PendingBatch& batch, std::span<StagedMessage* const> messages, bool unsent) {
    if (messages.empty()) {
        return;
    }
    ProducerAccess::State& state = *batch.state;
    if (!unsent) {
        batch.builder.Expect(batch.bytes + BatchHeader::kBytes);
    }
    for (StagedMessage* const message : messages) {
        if (!unsent) {
            batch.builder.AddEncoded(message->encoded());
        }
        if (message->callback) {
            state.callbacks.emplace_back(state.count, std::move(message->callback));
        }
        state.AddId(message->id());
        std::destroy_at(message);
    }
    batch.staged.Forget();
}

}  // namespace

void BatchList::PushBack(BatchPtr batch) {
    PendingBatch::Link& link = batch->link;
    link.list = this;
    link.before = back_;
    link.behind = nullptr;
    (back_ == nullptr ? front_ : back_->link.behind) = batch.get();
    back_ = batch.get();
    ++count_;
    link.self = std::move(batch);
}

void BatchList::PushFront(BatchPtr batch) {
    PendingBatch::Link& link = batch->link;
    link.list = this;
    link.before = nullptr;
    link.behind = front_;
    (front_ == nullptr ? back_ : front_->link.before) = batch.get();
    front_ = batch.get();
    ++count_;
    link.self = std::move(batch);
}

BatchPtr BatchList::Remove(PendingBatch& batch) {
    PendingBatch::Link& link = batch.link;
    if (link.list == nullptr) {
        return nullptr;
    }
    BatchList& list = *std::exchange(link.list, nullptr);
    (link.before == nullptr ? list.front_ : link.before->link.behind) = link.behind;
    (link.behind == nullptr ? list.back_ : link.behind->link.before) = link.before;
    link.before = link.behind = nullptr;
    --list.count_;
    return std::move(link.self);
}

void TakeStaged(BatchSpan batches, bool unsent) {
    std::vector<StagedMessage*> messages;
    while (!batches.empty()) {
        const BatchSpan some = batches.first(std::min(batches.size(), kAbreast));
        DroppedMessages dropped;
        ListStaged(some, &messages, &dropped);
        std::span<StagedMessage* const> rest(messages);
        for (const BatchPtr& batch : some) {
            const std::uint32_t count = batch->staged.count();
            MoveStaged(*batch, rest.first(count), unsent);
            rest = rest.subspan(count);
        }
        batches = batches.subspan(some.size());
    }
}

}  // namespace qmq::internal
