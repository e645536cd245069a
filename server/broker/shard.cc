#include "server/broker/shard.h"

#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// How often retention and idle groups are looked at.
constexpr ShardMs kTickMs = 10'000;
constexpr ShardMs kDropConsumedMs = 20;

}  // namespace

Shard::Shard(std::uint32_t index,
             const BrokerOptions& options,
             const BrokerEnvironment& environment)
    : index_(index),
      core_(options, environment),
      mover_(core_),
      delivery_(core_, mover_),
      acks_(core_, mover_, delivery_),
      members_(core_, delivery_, acks_),
      sends_(core_) {
    core_.flush = [this] { return Flush(); };
    strand_ = std::make_unique<Strand>(
        environment.executor, environment.strand_mode, [this] { EndOfRound(); });
}

Shard::~Shard() {
    Kill();
}

void Shard::Kill() {
    refusing_ = true;
    if (!dead_.exchange(true)) {
        core_.store.reset();
    }
}

Result<std::unique_ptr<Shard>> Shard::Open(std::uint32_t index,
                                           const BrokerOptions& options,
                                           const BrokerEnvironment& environment) {
    std::unique_ptr<Shard> shard(new Shard(index, options, environment));
    if (Status status = shard->OpenStore(); !status.ok()) {
        return status.WithContext("shard " + std::to_string(index));
    }
    return shard;
}

Status Shard::OpenStore() {
    store::StoreOptions options = core_.options.store;
    options.directory = core_.options.directory + "/shard-" + std::to_string(index_);
    Result<std::unique_ptr<store::ShardStore>> store = store::ShardStore::Open(
        options,
        store::StoreEnvironment{
            core_.environment.files, core_.environment.clock, *strand_, core_.environment.io},
        *this);
    if (!store.ok()) {
        return store.status();
    }
    core_.store = *std::move(store);
    AfterOpen();
    return {};
}

/// Nobody else has the shard yet, so this may run outside the strand.
void Shard::AfterOpen() {
    recovery_ = core_.store->recovery();
    for (const std::unique_ptr<Subject>& subject : core_.state.subjects()) {
        core_.OpenSubject(subject->name);
    }
    for (store::SubjectLog* log : core_.store->Subjects()) {
        core_.OpenSubject(log->name());
    }
    core_.state.DropUnknown([this](Subject& subject, std::uint64_t end) {
        core_.store->SkipTo(*subject.log, end);
        subject.readable_end = subject.log->next_sequence();
    });
    for (const std::unique_ptr<Subject>& subject : core_.state.subjects()) {
        core_.state.DropBelow(*subject);
    }
    if (env::Planted(env::PlantedBug::kForgetHandOutOnRestart)) {
        core_.state.ForEachGroup([](Group& group) {
            for (auto& [id, consumer] : group.consumers) {
                consumer->held.ForEach([&held = consumer->held](std::uint64_t pull, const Held&) {
                    held.MarkDone(pull);
                });
            }
        });
    }
    core_.state.Keep();
    members_.AfterReplay();
    synced_up_to_ = core_.store->synced();
    tick_at_ms_ = core_.Now() + kTickMs;
    Arm();
    core_.EndRound();
}

// ---- Requests.

Status Shard::Admit(std::uint32_t requests, std::uint64_t bytes) {
    if (refusing_.load(std::memory_order_acquire)) {
        return Status::Unavailable("shard " + std::to_string(index_) + " takes no requests: it " +
                                   "is stopping, or could not write");
    }
    const std::uint64_t count = queued_requests_.fetch_add(requests) + requests;
    const std::uint64_t total = queued_bytes_.fetch_add(bytes) + bytes;
    // A single request larger than the limit is taken when it is alone.
    const bool too_many = count > core_.options.max_queued_requests;
    const bool too_large = total > core_.options.max_queued_bytes && total > bytes;
    if (!too_many && !too_large) {
        return {};
    }
    TakeBackAdmission(requests, bytes);
    return Status::ResourceExhausted(
        "busy: shard " + std::to_string(index_) + " has " + std::to_string(count - requests) +
        " requests of " + std::to_string(total - bytes) + " bytes waiting; at most " +
        std::to_string(core_.options.max_queued_requests) + " of " +
        std::to_string(core_.options.max_queued_bytes) + " bytes may: try again after a back-off");
}

void Shard::TakeBackAdmission(std::uint32_t requests, std::uint64_t bytes) {
    queued_requests_.fetch_sub(requests);
    queued_bytes_.fetch_sub(bytes);
}

void Shard::Send(std::unique_ptr<SendPart> part) {
    Post([this, part = std::move(part)]() mutable { sends_.Add(std::move(part)); });
}

void Shard::Subscribe(ResolvedKey key,
                      SubscribeRequest request,
                      std::uint64_t session,
                      std::shared_ptr<DeliverySink> sink) {
    Post([this,
          key = std::move(key),
          request = std::move(request),
          session,
          sink = std::move(sink)]() mutable {
        members_.Subscribe(key, request, session, std::move(sink));
    });
}

void Shard::Pull(ResolvedKey key,
                 PullRequest request,
                 UniqueFunction<void(Result<PullReply>)> done) {
    Post([this,
          key = std::move(key),
          request = std::move(request),
          done = std::move(done)]() mutable { members_.Pull(key, request, std::move(done)); });
}

void Shard::Ack(SharedKey key, std::vector<AckItem> items, AckDone done) {
    Post([this, key = std::move(key), items = std::move(items), done = std::move(done)]() mutable {
        Consumer* consumer = core_.state.FindConsumer(key->names());
        if (consumer != nullptr) {
            members_.Touch(*consumer);
        }
        acks_.Add(consumer, items, std::move(done));
    });
}

void Shard::Grant(SharedKey key, std::uint64_t session, Credit credit) {
    Post([this, key = std::move(key), session, credit] {
        if (Consumer* consumer = members_.FindSession(*key, session)) {
            members_.Grant(*consumer, credit);
        }
    });
}

void Shard::Detach(SharedKey key, std::uint64_t session) {
    Post([this, key = std::move(key), session] {
        if (Consumer* consumer = members_.FindSession(*key, session)) {
            members_.Detach(*consumer);
        }
    });
}

void Shard::Leave(SharedKey key, std::uint64_t session) {
    Post([this, key = std::move(key), session] {
        if (Consumer* consumer = members_.FindSession(*key, session)) {
            members_.Leave(*consumer);
        }
    });
}

void Shard::Reset(std::string subject,
                  std::string group,
                  StartPosition position,
                  UniqueFunction<void(Status)> done) {
    Post([this,
          subject = std::move(subject),
          group = std::move(group),
          position,
          done = std::move(done)]() mutable {
        members_.Reset({subject, group}, position, std::move(done));
    });
}

// ---- Rounds.

void Shard::EndOfRound() {
    if (dead()) {
        return;
    }
    if (core_.stopped.ok()) {
        delivery_.Pump();
    }
    // A failure has been told by `OnFailed`, a full disk to whoever wanted to write.
    static_cast<void>(Flush());
    if (!failed_ && !failure_.ok()) {
        Stop(failure_);
    }
    members_.ExpirePulls();
    DropExpired();
    if (!failed_ && !closing_) {
        DropConsumed();
        SyncIfWanted();
        Arm();
    }
    if (delivery_.unfinished() && core_.stopped.ok()) {
        strand_->PostLater([] {});
    }
    const SendQueue::Answered answered = sends_.TakeAnswered();
    TakeBackAdmission(answered.requests + acks_.TakeAnswered(), answered.bytes);
    core_.EndRound();
}

/// In memory what is acked makes room for what is sent, so it goes at once and not with the next
/// tick: otherwise a sender that fills the room waits for the clock.
void Shard::DropConsumed() {
    const store::StoreOptions& store = core_.options.store;
    if (!store.drop_consumed || core_.Now() < drop_at_ms_ ||
        core_.store->stored_bytes() < 2 * store.segment_bytes) {
        return;
    }
    drop_at_ms_ = core_.Now() + kDropConsumedMs;
    static_cast<void>(core_.store->Retain());
}

Status Shard::Flush() {
    Status status;
    if (core_.dirty) {
        core_.dirty = false;
        status = core_.store->Write();
        if (status.ok()) {
            core_.state.Keep();
        } else {
            core_.state.TakeBack();
            // The same offsets are given out again.
            core_.appended_end = core_.store->written();
        }
    }
    // Messages first: each answer costs a system call or two, and a consumer waits for them.
    delivery_.OnWritten(status);
    sends_.OnWritten(status);
    acks_.OnWritten(status);
    return status;
}

void Shard::SyncIfWanted() {
    if (core_.appended_end <= synced_up_to_) {
        core_.sync_wanted = false;
        return;
    }
    if (std::exchange(core_.sync_wanted, false)) {
        synced_up_to_ = core_.appended_end;
        flush_at_ms_ = -1;
        core_.store->Sync();
        return;
    }
    if (flush_at_ms_ < 0) {
        flush_at_ms_ = core_.Now() + core_.options.flush_interval.count();
    }
}

void Shard::OnSynced(store::LogOffset synced) {
    sends_.OnSynced(synced);
    core_.OnSynced(synced);
    members_.OnSynced(synced);
}

void Shard::OnFailed(const Status& status) {
    // It may come from inside an append or a write, whose caller is not done yet.
    refusing_ = true;
    failure_ = Status::Unavailable("shard " + std::to_string(index_) +
                                   " has stopped writing: " + status.ToString());
    core_.stopped = failure_;
}

void Shard::Stop(const Status& status) {
    failed_ = true;
    sends_.Fail(status);
    members_.CloseAll(status);
    if (closing_) {
        FinishClose(status);
    }
}

void Shard::OnDropped(store::SubjectLog& subject) {
    dropped_.push_back(&subject);
}

void Shard::DropExpired() {
    for (store::SubjectLog* log : std::exchange(dropped_, {})) {
        if (Subject* subject = core_.state.FindSubject(log->name())) {
            core_.state.DropBelow(*subject);
            core_.state.Keep();
        }
    }
}

// ---- Time.

ShardMs Shard::NextTimer() {
    ShardMs next = core_.timers.earliest_ms();
    for (const ShardMs other : {flush_at_ms_, tick_at_ms_, delivery_.retry_at_ms()}) {
        if (other >= 0 && (next < 0 || other < next)) {
            next = other;
        }
    }
    return next;
}

/// One timer of the executor for the whole shard: the earliest.
void Shard::Arm() {
    const ShardMs next = NextTimer();
    if (next < 0 || (timer_ != 0 && timer_at_ms_ <= next)) {
        return;
    }
    if (timer_ != 0) {
        strand_->Cancel(timer_);
    }
    timer_at_ms_ = next;
    timer_ = strand_->PostAt(core_.ToTimePoint(next), [this] {
        if (!dead()) {
            OnTimer();
        }
    });
}

void Shard::OnTimer() {
    timer_ = 0;
    timer_at_ms_ = -1;
    if (failed_ || closing_) {
        return;
    }
    const ShardMs now = core_.Now();
    while (const std::optional<Timer> timer = core_.timers.Take(now)) {
        members_.OnTimer(*timer);
    }
    if (delivery_.retry_at_ms() >= 0 && delivery_.retry_at_ms() <= now) {
        delivery_.RetryBlocked();
    }
    if (flush_at_ms_ >= 0 && flush_at_ms_ <= now) {
        flush_at_ms_ = -1;
        core_.sync_wanted = true;
    }
    if (tick_at_ms_ <= now) {
        tick_at_ms_ = now + kTickMs;
        Tick();
    }
}

void Shard::Tick() {
    // A disk that cannot drop old segments is full soon, and says so then.
    static_cast<void>(core_.store->Retain());
    members_.EvictIdle();
    // Retries wait by the wall clock, timers run by the other. Should somebody set the first, due
    // retries are found here.
    core_.state.ForEachGroup([this](Group& group) {
        if (!group.waiting.empty()) {
            delivery_.MarkReady(group);
        }
    });
}

// ---- The end.

void Shard::Close(UniqueFunction<void(Status)> done) {
    Post([this, done = std::move(done)]() mutable {
        if (closing_) {
            done(Status::FailedPrecondition("the broker is closed already"));
            return;
        }
        closing_ = true;
        refusing_ = true;
        closed_ = std::move(done);
        static_cast<void>(Flush());
        const Status stopping = Status::Unavailable("the broker is stopping");
        if (core_.stopped.ok()) {
            core_.stopped = stopping;
        }
        if (failed_) {
            FinishClose(core_.stopped);
            return;
        }
        members_.CloseAll(stopping);
        core_.store->Close([this](Status status) {
            if (!dead()) {
                FinishClose(std::move(status));
            }
        });
    });
}

void Shard::FinishClose(Status status) {
    if (!closed_) {
        return;
    }
    // What the last sync did not cover was never promised to be safe.
    sends_.Fail(status.ok() ? Status::Unavailable("the broker has stopped") : status);
    UniqueFunction<void(Status)> closed = std::move(closed_);
    closed_ = nullptr;
    closed(std::move(status));
}

// ---- Replay and snapshots.

Status Shard::OnSnapshot(std::string_view state) {
    return core_.state.Load(state);
}

Status Shard::OnAction(std::string_view action, store::LogOffset end) {
    Result<Action> decoded = DecodeAction(action);
    if (!decoded.ok()) {
        return decoded.status().WithContext("record that ends at " + std::to_string(end));
    }
    core_.state.Apply(*decoded);
    return {};
}

void Shard::OnMessages(store::SubjectLog& subject,
                       std::uint64_t first_sequence,
                       const BatchView& batch,
                       WallTime stored) {
    core_.state.ReplayMessages(core_.state.MakeSubject(subject.name()),
                               first_sequence,
                               batch,
                               stored.time_since_epoch().count());
}

std::string Shard::TakeSnapshot() {
    return core_.state.Save(core_.unapplied());
}

}  // namespace qmq::broker
