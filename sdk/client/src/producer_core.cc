#include "sdk/client/src/producer_core.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "sdk/client/src/call_scope.h"

namespace qmq::internal {

namespace {

/// [I] Below this a delay is not worth a delay server: every client sends such a message as an
/// ordinary one.
constexpr std::chrono::milliseconds kShortestDelay{500};

/// Messages that follow each other this closely come from a loop, and there will be more.
constexpr std::chrono::microseconds kBurstGap{20};

/// Above so many open batches messages are staged. Fewer stay in the cache, and a message that goes
/// straight into its batch is copied once less.
constexpr std::size_t kFewOpen = 4;

std::string Number(std::uint64_t value) {
    return std::to_string(value);
}

}  // namespace

ProducerCore::ProducerCore(std::shared_ptr<ClientRuntime> runtime,
                           std::shared_ptr<Router> router,
                           std::shared_ptr<LinkPool> links,
                           ProducerOptions options)
    : runtime_(std::move(runtime)),
      router_(std::move(router)),
      links_(std::move(links)),
      options_(options),
      stage_(options.max_pending_bytes / 2),
      wall_(runtime_->Now(), runtime_->clock().WallNow()),
      random_(runtime_->MakeRandom()),
      timer_(runtime_->work()) {}

ProducerCore::~ProducerCore() {
    // A frame that was never answered still has its lane, and is held by the connection.
    for (const auto& [name, lane] : lanes_) {
        lane->connection.reset();
        lane->link.reset();
        lane->Clear();
    }
}

RouteKey ProducerCore::KeyOf(const SubjectQueue& subject) const {
    return {ClientRole::kProducer, subject.details->name, {}};
}

Status ProducerCore::Check(Message* message, std::chrono::milliseconds timeout) const {
    if (timeout < std::chrono::milliseconds(1) || timeout > std::chrono::hours(1)) {
        return Status::InvalidArgument("timeout of the send: " + std::to_string(timeout.count()) +
                                       " ms is not in [1 ms, 1 h]");
    }
    if (Status status = message->Validate(); !status.ok()) {
        return status;
    }
    if (const auto due = message->deliver_at(); due.has_value()) {
        if (*due - runtime_->clock().WallNow() >= kShortestDelay) {
            return Status::Unimplemented("delayed messages are not served yet: send subject " +
                                         std::string(message->subject()) +
                                         " without SetDelay and SetDeliverAt");
        }
        message->SetDeliverAt(WallTime{});
    }
    return Status::Ok();
}

SendFuture ProducerCore::Refuse(const Message& message, Status status, SendCallback callback) {
    auto state = std::make_shared<ProducerAccess::State>();
    state->queue = runtime_->callback_queue();
    state->AddId(message.id());
    if (callback) {
        state->callbacks.emplace_back(0, std::move(callback));
    }
    state->CompleteAll({SendOutcome::kRefused, std::move(status), Durability::kDefault, {}, 0, 0});
    SendFuture future = ProducerAccess::MakeFuture(state, 0);
    Finished finished;
    finished.push_back({std::move(state), std::nullopt});
    Deliver(std::move(finished));
    return future;
}

Status ProducerCore::MakeRoom(Lock& lock, std::size_t bytes, TimePoint deadline) {
    const auto has_room = [this, bytes] {
        // A message larger than the bound passes when it is alone: else it could never be sent.
        return abandoned_ || closing_ ||
               (pending_count_ < options_.max_pending_count &&
                (pending_bytes_ + bytes <= options_.max_pending_bytes || pending_count_ == 0));
    };
    if (has_room()) {
        return Status::Ok();
    }
    // What only gathers must not keep others out.
    burst_ = 0;
    PumpAll(lock);
    if (has_room()) {
        return Status::Ok();
    }
    const std::string full = "the producer is full: " + Number(pending_count_) + " messages and " +
                             Number(pending_bytes_) + " bytes are not answered (limits " +
                             Number(options_.max_pending_count) + " and " +
                             Number(options_.max_pending_bytes) + ")";
    if (options_.when_full == WhenFull::kFail) {
        return Status::ResourceExhausted(full);
    }
    if (CallScope::InsideClient(runtime_.get())) {
        return Status::ResourceExhausted(full + "; a callback or handler cannot wait for room");
    }
    ++waiters_;
    const bool came = changed_.wait_for(lock, deadline - runtime_->Now(), has_room);
    --waiters_;
    return came ? Status::Ok() : Status::ResourceExhausted(full + " for the whole timeout");
}

SubjectQueue& ProducerCore::SubjectFor(std::string_view name,
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

bool ProducerCore::Joins(const Gathered& gathered, std::size_t bytes, TimePoint deadline) const {
    if (IsFull(gathered, bytes)) {
        return false;
    }
    // A batch has one deadline, its first message's: a message may join when its own is not much
    // later, so that it is answered at most a hundredth of its time too early.
    const auto slack = std::max<std::chrono::nanoseconds>(
        {options_.linger, options_.timeout / 100, std::chrono::milliseconds(1)});
    return deadline >= gathered.deadline && deadline - gathered.deadline <= slack;
}

ProducerCore::BatchPtr ProducerCore::MakeBatch(TimePoint deadline) {
    const BackoffOptions backoff{options_.initial_backoff, options_.max_backoff};
    BatchPtr batch = spare_.TakeBatch();
    if (batch == nullptr) {
        batch = std::make_shared<PendingBatch>(deadline, backoff);
    } else {
        batch->machine = SendMachine(deadline, backoff);
    }
    return batch;
}

const std::shared_ptr<ProducerAccess::State>& ProducerCore::StateOf(PendingBatch& batch) {
    if (batch.state == nullptr) {
        batch.state = spare_.TakeState();
    }
    if (batch.state == nullptr) {
        batch.state = std::make_shared<ProducerAccess::State>();
        batch.state->queue = runtime_->callback_queue();
        batch.state->producer = weak_from_this();
    }
    return batch.state;
}

void ProducerCore::AddOutstanding(const BatchPtr& batch) {
    // Mostly the latest deadline of all.
    batch->outstanding = outstanding_.emplace_hint(
        outstanding_.end(), std::pair(batch->machine.deadline(), batch->id), batch);
    for (FlushCall* flush : flushes_) {
        flush->left += static_cast<std::size_t>(batch->generation < flush->mark);
    }
}

void ProducerCore::RemoveOutstanding(const BatchPtr& batch) {
    outstanding_.erase(batch->outstanding);
    for (FlushCall* flush : flushes_) {
        flush->left -= static_cast<std::size_t>(batch->generation < flush->mark);
    }
}

void ProducerCore::OpenFor(SubjectQueue& subject,
                           std::size_t bytes,
                           TimePoint now,
                           TimePoint deadline) {
    if (subject.open != nullptr) {
        if (Joins(subject.gathered, bytes, deadline)) {
            return;
        }
        SealOpen(subject);
    }
    BatchPtr batch = MakeBatch(deadline);
    batch->id = batch->generation = next_id_++;
    batch->subject = &subject;
    batch->opened = now;
    AddOutstanding(batch);
    open_count_.store(open_count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    subject.gathered.deadline = deadline;
    subject.open = std::move(batch);
    AssignOpen(subject);
}

WallTime ProducerCore::WallAt(TimePoint now) {
    // A reading of the wall clock serves for the messages of the next millisecond: they are told
    // by the steady one.
    if (now - wall_.first >= std::chrono::milliseconds(1)) {
        wall_ = {now, runtime_->clock().WallNow()};
    }
    return wall_.second;
}

/// Encodes a message before it is known which batch it is for.
StagedMessage* ProducerCore::Stage(const Taken& taken) {
    char generated[MessageIdGenerator::kLength];
    if (taken.message.id().empty()) {
        runtime_->ids().Next(generated);
    }
    const auto [staged, to] = stage_.Take(taken.bytes);
    const std::string_view id = EncodeMessage(
        taken.message, std::string_view(generated, sizeof(generated)), WallAt(taken.now), to);
    staged->id_at = static_cast<std::uint16_t>(id.data() - to);
    staged->id_bytes = static_cast<std::uint16_t>(id.size());
    staged->callback = std::move(taken.callback);
    return staged;
}

void ProducerCore::Append(PendingBatch& batch, const Taken& taken) {
    char generated[MessageIdGenerator::kLength];
    std::string_view id = taken.message.id();
    if (id.empty()) {
        runtime_->ids().Next(generated);
        id = std::string_view(generated, sizeof(generated));
    }
    if (batch.builder.empty()) {
        batch.builder.Reuse(spare_.TakeMemory());
        batch.builder.Expect(batch.subject->details->last_bytes);
    }
    batch.builder.Add(taken.message, id, WallAt(taken.now));
    ProducerAccess::State& state = *StateOf(batch);
    if (taken.callback) {
        state.callbacks.emplace_back(state.count, std::move(taken.callback));
    }
    state.AddId(id);
}

/// Moves what is staged for a batch that no frame takes, or not yet.
void ProducerCore::Unstage(const BatchPtr& batch) {
    Prepare(*batch);
    TakeStaged({&batch, 1});
}

/// Adds a message, `staged` or not yet, to the open batch of its subject.
void ProducerCore::Gather(SubjectQueue& subject, const Taken& taken, StagedMessage* staged) {
    Gathered& gathered = subject.gathered;
    if (staged == nullptr && !gathered.staged.empty()) {
        // Behind those that are staged, or behind those that were.
        if (stage_.HasRoom(taken.bytes)) {
            staged = Stage(taken);
        } else {
            PassOn(gathered, *subject.open);
            Unstage(subject.open);
        }
    }
    if (staged != nullptr) {
        gathered.staged.Add(staged);
    } else {
        Append(*subject.open, taken);
    }
    ++gathered.count;
    gathered.bytes += taken.bytes;
    ++pending_count_;
    pending_bytes_ += taken.bytes;
}

bool ProducerCore::IsFull(const Gathered& gathered, std::size_t next_bytes) const {
    return gathered.count >= options_.max_batch_count ||
           BatchHeader::kBytes + gathered.bytes + next_bytes > options_.max_batch_bytes;
}

/// A batch that was opened by this call: when it has not left at once, it may linger. Most batches
/// of an idle producer have left, and cost no timer.
void ProducerCore::Linger(const SubjectQueue& subject, std::uint64_t id, TimePoint deadline) {
    const bool lingers = subject.open != nullptr && subject.open->id == id;
    // A deadline may lie before those that the timer was set for.
    if (lingers || !timer_.armed() || deadline < timer_.when()) {
        ArmTimer();
    }
}

SendFuture ProducerCore::Send(Message message,
                              std::chrono::milliseconds timeout,
                              SendCallback callback) {
    // A flood over many subjects: this one's is asked for now, to be there when it is looked at.
    const bool many = open_count_.load(std::memory_order_relaxed) > kFewOpen;
    const std::size_t hash = many ? SubjectQueues::Hash(message.subject()) : 0;
    if (many) {
        subjects_.PrefetchSlot(hash);
    }
    if (Status bad = Check(&message, timeout); !bad.ok()) {
        return Refuse(message, std::move(bad), std::move(callback));
    }
    const std::size_t bytes = message.encoded_bytes();
    const TimePoint deadline = runtime_->Now() + timeout;
    Lock lock(mutex_);
    Status refused = MakeRoom(lock, bytes, deadline);
    if (closing_ || abandoned_) {
        refused = Status::Cancelled("the client has been shut down");
    }
    if (!refused.ok()) {
        lock.unlock();
        return Refuse(message, std::move(refused), std::move(callback));
    }
    const TimePoint now = deadline - timeout;
    // A clock that stands still says nothing about the rate.
    const auto gap = now - std::exchange(last_send_, now);
    burst_ = gap.count() > 0 && gap <= kBurstGap ? burst_ + 1 : 0;
    const bool wants_future = !callback;
    const Taken taken{message, bytes, now, callback};
    StagedMessage* staged = nullptr;
    if (many && stage_.HasRoom(bytes)) {
        subjects_.PrefetchSubject(hash);
        staged = Stage(taken);
    }
    bool made = false;
    SubjectQueue& subject =
        SubjectFor(message.subject(), many ? std::optional(hash) : std::nullopt, &made);
    OpenFor(subject, bytes, now, deadline);
    Gather(subject, taken, staged);
    const Gathered& gathered = subject.gathered;
    SendFuture future;
    if (wants_future) {
        future = ProducerAccess::MakeFuture(StateOf(*subject.open), gathered.count - 1);
    }
    const bool first = gathered.count == 1;
    const std::uint64_t id = first ? subject.open->id : 0;
    const Lane* const lane = gathered.lane;
    if (IsFull(gathered, bytes)) {
        SealOpen(subject);
    }
    if (lane != nullptr && CanSend(*lane, now)) {
        Pump(lock, lanes_.find(lane->link->name())->second);
        // The time that sending took is no pause of the caller's: where every answer comes inside
        // the call it would end each burst that it begins.
        last_send_ = runtime_->Now();
    }
    if (first) {
        Linger(subject, id, deadline);
    }
    if (CallScope::InsideClient(runtime_.get()) && subject.open != nullptr) {
        runtime_->NoteGathered();
    }
    if (made) {
        const RouteKey key = KeyOf(subject);
        lock.unlock();
        router_->Watch(key, weak_from_this());
    }
    return future;
}

Status ProducerCore::Flush(std::chrono::milliseconds timeout) {
    if (CallScope::InsideClient(runtime_.get())) {
        return Status::FailedPrecondition(
            "Flush was called from a callback or handler of the same client, which it would wait "
            "for");
    }
    Lock lock(mutex_);
    FlushCall flush{next_id_, outstanding_.size()};  // All are earlier than the next one.
    flushes_.push_back(&flush);
    SealAll();
    PumpAll(lock);
    ++waiters_;
    const bool done = changed_.wait_for(lock, timeout, [&flush] { return flush.left == 0; });
    --waiters_;
    std::erase(flushes_, &flush);
    if (done) {
        return Status::Ok();
    }
    std::uint64_t left = 0;
    for (const auto& [key, batch] : outstanding_) {
        left += batch->generation < flush.mark ? batch->count : 0;
    }
    return Status::DeadlineExceeded("flush: " + Number(left) + " messages are not answered after " +
                                    Number(static_cast<std::uint64_t>(timeout.count())) + " ms");
}

void ProducerCore::BeginClose(Task drained) {
    Lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    if (outstanding_.empty()) {
        lock.unlock();
        drained();
        return;
    }
    drained_.push_back(std::move(drained));
    SealAll();
    PumpAll(lock);
}

bool ProducerCore::idle() {
    Lock lock(mutex_);
    return outstanding_.empty();
}

}  // namespace qmq::internal
