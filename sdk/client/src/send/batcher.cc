#include "sdk/client/src/send/batcher.h"

#include <algorithm>
#include <utility>

namespace qmq::internal {

Batcher::Batcher(ClientRuntime& runtime, const ProducerOptions& options, Budget& budget)
    : runtime_(runtime),
      options_(options),
      budget_(budget),
      stage_(options.max_pending_bytes / 2),
      subjects_(budget),
      spare_(options.max_pending_bytes),
      max_batch_bytes_(BrokerLimits().max_batch_bytes),
      wall_(runtime.Now(), runtime.clock().WallNow()) {}

SubjectQueue& Batcher::SubjectFor(std::string_view name,
                                  std::optional<std::size_t> hash,
                                  bool* made) {
    *made = false;
    if (last_subject_ != nullptr && last_subject_->Is(name)) {
        return *last_subject_;
    }
    last_subject_ = subjects_.Find(name, hash.has_value() ? *hash : SubjectQueues::Hash(name));
    if (last_subject_ == nullptr) {
        last_subject_ = &subjects_.Add(name);
        *made = true;
    }
    return *last_subject_;
}

void Batcher::Forget(SubjectQueue& subject) {
    if (last_subject_ == &subject) {
        last_subject_ = nullptr;
    }
    DropLimit(subject);
    subjects_.Remove(subject);
}

bool Batcher::Joins(const SubjectQueue& queue, const Taken& taken) const {
    const Gathered& gathered = queue.gathered;
    if (IsFull(gathered, taken.bytes)) {
        return false;
    }
    // A batch has one deadline, its first message's: a message may join when its own is not much
    // later, so that it is answered at most a hundredth of its time too early.
    const auto slack = std::max<std::chrono::nanoseconds>((taken.deadline - taken.now) / 100,
                                                          std::chrono::milliseconds(1));
    return taken.deadline >= gathered.deadline && taken.deadline - gathered.deadline <= slack;
}

const BatchPtr& Batcher::Open(SubjectQueue& queue, TimePoint now, TimePoint deadline) {
    const BackoffOptions backoff{options_.initial_backoff, options_.max_backoff};
    BatchPtr batch = spare_.TakeBatch();
    if (batch == nullptr) {
        batch = std::make_shared<PendingBatch>(deadline, backoff);
    } else {
        batch->machine = SendMachine(deadline, backoff);
    }
    batch->id = batch->generation = next_id_++;
    batch->subject = &queue;
    batch->opened = queue.details->subject().used_at = now;
    Charge(*batch);
    AddOpen(1);
    queue.gathered.deadline = deadline;
    queue.open = std::move(batch);
    return queue.open;
}

void Batcher::AddOpen(std::ptrdiff_t count) {
    // Only ever changed under the lock.
    open_count_.store(open_count() + static_cast<std::size_t>(count), std::memory_order_relaxed);
}

WallTime Batcher::WallAt(TimePoint now) {
    // A reading of the wall clock serves for the messages of the next millisecond: they are told
    // by the steady one.
    if (now - wall_.first >= std::chrono::milliseconds(1)) {
        wall_ = {now, runtime_.clock().WallNow()};
    }
    return wall_.second;
}

void Batcher::Stage(Taken* taken) {
    if (!stage_.HasRoom(taken->bytes)) {
        return;
    }
    char generated[MessageIdGenerator::kLength];
    if (taken->message.id().empty()) {
        runtime_.ids().Next(generated);
    }
    const auto [staged, to] = stage_.Take(taken->bytes);
    const EncodedMessage encoded = EncodeMessage(
        taken->message, std::string_view(generated, sizeof(generated)), WallAt(taken->now), to);
    staged->bytes = static_cast<std::uint32_t>(encoded.bytes);
    staged->id_at = static_cast<std::uint16_t>(encoded.id.data() - to);
    staged->id_bytes = static_cast<std::uint16_t>(encoded.id.size());
    staged->callback = std::move(taken->callback);
    taken->staged = staged;
}

void Batcher::Append(PendingBatch& batch, const Taken& taken) {
    char generated[MessageIdGenerator::kLength];
    std::string_view id = taken.message.id();
    if (id.empty()) {
        runtime_.ids().Next(generated);
        id = std::string_view(generated, sizeof(generated));
    }
    if (batch.builder.empty()) {
        batch.builder.Reuse(spare_.TakeMemory());
        // It counts as pending: a large message is no reason to hold so much for small ones.
        batch.builder.Expect(std::min(
            {batch.subject->details->last_bytes, options_.max_batch_bytes, spare_.max_bytes()}));
    }
    batch.builder.Add(taken.message, id, WallAt(taken.now));
    ProducerAccess::State& state = *StateOf(batch);
    if (taken.callback) {
        state.callbacks.emplace_back(state.count, std::move(taken.callback));
    }
    state.AddId(id);
    // What grows with messages. Mostly nothing has.
    const std::size_t capacity = batch.builder.capacity() + state.ids.capacity() +
                                 state.id_ends.capacity() + state.callbacks.capacity();
    if (std::exchange(batch.charged_capacity, capacity) != capacity) {
        Charge(batch);
    }
}

void Batcher::Add(SubjectQueue& queue, Taken taken) {
    Gathered& gathered = queue.gathered;
    if (taken.staged == nullptr && !gathered.staged.empty()) {
        // Behind those that are staged, or behind those that were.
        Stage(&taken);
        if (taken.staged == nullptr) {
            queue.open->count = gathered.count;
            queue.open->bytes = gathered.bytes;
            queue.open->staged = std::move(gathered.staged);
            Unstage(queue.open);
        }
    }
    if (taken.staged != nullptr) {
        gathered.staged.Add(taken.staged);
    } else {
        Append(*queue.open, taken);
    }
    ++gathered.count;
    gathered.bytes += taken.bytes;
    budget_.AddMessage();
}

bool Batcher::IsFull(const Gathered& gathered, std::size_t next_bytes) const {
    const std::uint64_t most = std::min<std::uint64_t>(options_.max_batch_bytes, max_batch_bytes_);
    return gathered.count >= options_.max_batch_count ||
           BatchHeader::kBytes + gathered.bytes + next_bytes > most;
}

BatchPtr Batcher::Close(SubjectQueue& queue) {
    BatchPtr batch = std::move(queue.open);
    queue.open = nullptr;
    if (batch == nullptr) {
        return nullptr;
    }
    AddOpen(-1);
    BatchList::Remove(*batch);
    batch->count = queue.gathered.count;
    batch->bytes = queue.gathered.bytes;
    batch->staged = std::move(queue.gathered.staged);
    queue.gathered = {};
    queue.details->last_bytes = batch->bytes + BatchHeader::kBytes;
    return batch;
}

const std::shared_ptr<ProducerAccess::State>& Batcher::StateOf(PendingBatch& batch) {
    if (batch.state != nullptr) {
        return batch.state;
    }
    batch.state = spare_.TakeState();
    if (batch.state == nullptr) {
        batch.state = std::make_shared<ProducerAccess::State>();
        batch.state->queue = runtime_.callback_queue();
        batch.state->producer = waker_;
    }
    Charge(batch);
    return batch.state;
}

void Batcher::Prepare(PendingBatch& batch) {
    (void)StateOf(batch);
    if (batch.builder.empty()) {
        batch.builder.Reuse(spare_.TakeMemory());
    }
}

void Batcher::Unstage(const BatchPtr& batch) {
    Prepare(*batch);
    TakeStaged({&batch, 1});
    Charge(*batch);
}

void Batcher::DropStaged(const BatchPtr& batch) {
    (void)StateOf(*batch);
    TakeStaged({&batch, 1}, true);
}

std::vector<BatchPtr> Batcher::Split(const PendingBatch& batch) {
    std::vector<BatchPtr> singles;
    singles.reserve(batch.count);
    const BatchView view = BatchView::Trusted(batch.encoded);
    BatchView::Iterator heads = view.begin_heads();
    std::uint32_t position = batch.position;
    for (auto head = heads.Next(); head.has_value(); head = heads.Next(), ++position) {
        const std::string_view message = view.body().substr(head->offset, head->bytes);
        auto single = std::make_shared<PendingBatch>(batch.machine.deadline(), BackoffOptions{});
        single->machine = batch.machine;
        single->id = next_id_++;
        single->generation = batch.generation;
        single->subject = batch.subject;
        single->lane = batch.lane;
        single->state = batch.state;
        single->single = true;
        single->position = position;
        single->count = 1;
        single->bytes = message.size();
        single->encoded = MakeBatchHeader(1, message);
        single->encoded.append(message);
        Charge(*single);
        singles.push_back(std::move(single));
    }
    return singles;
}

void Batcher::Charge(PendingBatch& batch) {
    budget_.Charge(&batch.charged, batch.Footprint());
    if (batch.state != nullptr) {
        budget_.Charge(&batch.state->charged, batch.state->Footprint());
    }
}

void Batcher::SetLimit(SubjectQueue& subject, std::uint64_t max_batch_bytes) {
    ++limits_[max_batch_bytes];
    DropLimit(subject);
    subject.details->max_batch_bytes = max_batch_bytes;
}

void Batcher::DropLimit(const SubjectQueue& subject) {
    const auto found = limits_.find(subject.details->max_batch_bytes);
    if (found != limits_.end() && --found->second == 0) {
        limits_.erase(found);
    }
    const std::uint64_t usual = BrokerLimits().max_batch_bytes;
    max_batch_bytes_ = limits_.empty() ? usual : std::min(usual, limits_.begin()->first);
}

}  // namespace qmq::internal
