#include "server/broker/shard.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// How often retention and idle groups are looked at.
constexpr ShardMs kTickMs = 10'000;
/// How soon retention is looked at again while it has more to do.
constexpr ShardMs kRetainAgainMs = 20;
/// The same while it waits for somebody to be done with what cannot be moved.
constexpr ShardMs kRetainPinnedMs = 1'000;
/// Wait before leases are looked at again that a full disk has brought back.
constexpr ShardMs kLeaseAgainMs = 1'000;

/// Whether what a start found damaged may be why what groups hold or wait for is not there. Where
/// segments have gone, a hole that nothing synced lay in is not: what goes is synced before.
bool MayHaveTakenKept(const store::RecoveryReport& found) {
    return std::any_of(
        found.corruptions.begin(), found.corruptions.end(), [&found](const auto& each) {
            const bool was_safe = each.committed || each.is_unreadable;
            return each.end > each.begin && (was_safe || found.begin == 0);
        });
}

}  // namespace

Shard::Shard(std::uint32_t index,
             const BrokerOptions& options,
             const BrokerEnvironment& environment)
    : index_(index),
      core_(index, options, environment),
      mover_(core_),
      delivery_(core_, mover_),
      keeper_(core_, delivery_),
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
        strand_->AwaitRound();  // What comes later finds it dead.
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
    Result<std::unique_ptr<store::ShardStore>> store =
        store::ShardStore::Open(options,
                                store::StoreEnvironment{core_.environment.files,
                                                        core_.environment.clock,
                                                        *strand_,
                                                        core_.environment.io,
                                                        core_.environment.events,
                                                        core_.environment.seed + index_},
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
    core_.OpenSubjects();
    core_.state.DropUnknown([this](Subject& subject, std::uint64_t end) {
        core_.store->SkipTo(*subject.log, end);
        subject.readable_end = subject.log->next_sequence();
    });
    core_.Now();  // From which all waits are counted.
    core_.state.ScheduleWaiting(core_.store->downtime());
    const bool may_be_damaged = MayHaveTakenKept(recovery_);
    for (const std::unique_ptr<Subject>& subject : core_.state.subjects()) {
        const std::uint64_t first = subject->log->first_sequence();
        core_.state.DropBelow(*subject, [&](Group& group, State::Dropped dropped) {
            // Retention would have kept these.
            if (may_be_damaged && dropped.held + dropped.waiting > 0) {
                core_.TellLosses(false);
                core_.Lose(group,
                           LossCause::kDamage,
                           dropped.held + dropped.waiting,
                           "messages that were held or waited are damaged, below sequence " +
                               std::to_string(first));
                core_.TellLosses(true);
                dropped.held = dropped.waiting = 0;
            }
            // Of a group that is still there, only a full disk takes what it needs.
            dropped_on_full_disk_ = !group.consumers.empty() && !group.in_place();
            CountDropped(group, dropped, first);
        });
    }
    dropped_on_full_disk_ = false;
    core_.state.EnterGaps();
    // Counted again, not told again: whoever dropped the segments has told.
    core_.TellLosses(false);
    core_.dirty = false;
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
    tick_at_ms_ = retain_at_ms_ = core_.Now() + kTickMs;
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
        if (count < core_.options.max_queued_requests / 2 &&
            total < core_.options.max_queued_bytes / 2) {
            busy_is_told_.store(false, std::memory_order_relaxed);
        }
        return {};
    }
    TakeBackAdmission(requests, bytes);
    if (!busy_is_told_.exchange(true)) {
        core_.Tell(env::EventKind::kLimit,
                   nullptr,
                   "requests are refused: too many wait, or too many bytes",
                   count - requests);
    }
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
        const bool asks = std::any_of(items.begin(), items.end(), [](const AckItem& item) {
            return item.durability == Durability::kDefault;
        });
        const Durability promise =
            asks ? Promise(ParseSubject(key->subject).real_subject) : Durability::kMemory;
        acks_.Add(consumer, items, promise, std::move(done));
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
    if (!failed_ && !closing_) {
        RetainIfDue();
        SyncIfWanted();
        Arm();
        if (core_.stopped.ok()) {
            delivery_.CheckNobodyIsForgotten();
        }
    }
    const bool more = delivery_.unfinished() || !core_.more_readable.empty();
    if (more && core_.stopped.ok()) {
        strand_->PostLater([] {});
    }
    const SendQueue::Answered answered = sends_.TakeAnswered();
    TakeBackAdmission(answered.requests + acks_.TakeAnswered(), answered.bytes);
    core_.EndRound();
}

/// In memory what is acked makes room for what is sent, so it goes at once and not with the next
/// tick: otherwise a sender that fills the room waits for the clock.
bool Shard::IsTooMuchInMemory() {
    const store::StoreOptions& store = core_.options.store;
    return store.drop_consumed && core_.Now() >= drop_at_ms_ &&
           core_.store->stored_bytes() >= 2 * store.segment_bytes;
}

/// Between rounds: what is dropped has no way back.
void Shard::RetainIfDue() {
    const ShardMs now = core_.Now();
    if (now < retain_at_ms_ && !IsTooMuchInMemory()) {
        return;
    }
    // A disk that cannot drop old segments is full soon, and says so then.
    const store::LogOffset before = core_.appended_end;
    const Result<bool> more = core_.store->Retain();
    const bool moves = core_.appended_end != before ||
                       core_.store->synced() < std::min(core_.moved_end, core_.appended_end);
    dropped_on_full_disk_ = core_.store->disk_is_full();
    // What was appended anew, before anything that was dropped is forgotten.
    static_cast<void>(Flush());
    DropExpired();
    drop_at_ms_ = now + kRetainAgainMs;
    retain_at_ms_ = now + (!more.ok() || !*more ? kTickMs
                           : moves              ? kRetainAgainMs
                                                : kRetainPinnedMs);
}

Status Shard::Flush() {
    Status status;
    if (core_.dirty) {
        core_.dirty = false;
        status = core_.store->Write();
        if (status.ok()) {
            core_.state.Keep();
        } else {
            TakeBack();
        }
        core_.TellLosses(status.ok());
    }
    // Messages first: each answer costs a system call or two, and a consumer waits for them.
    delivery_.OnWritten(status);
    sends_.OnWritten(status);
    acks_.OnWritten(status);
    return status;
}

/// Whoever the round has touched is looked at again: nothing else may ever come that does.
void Shard::TakeBack() {
    // The same offsets are given out again.
    core_.appended_end = core_.store->written();
    core_.moved_end = std::min(core_.moved_end, core_.appended_end);
    const State::Touched touched = core_.state.TakeBack();
    if (env::Planted(env::PlantedBug::kLeaseTimerLost)) {
        return;
    }
    for (Consumer* consumer : touched.consumers) {
        if (consumer->held.count() > 0 && consumer->lease_timer_ms < 0) {
            core_.timers.Set(*consumer, TimerKind::kLease, core_.Now() + kLeaseAgainMs);
        }
    }
    for (Group* group : touched.groups) {
        delivery_.Block(*group);
    }
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
    acks_.OnSynced(synced);
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
    acks_.Fail(status);
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
            const std::uint64_t first = log->first_sequence();
            core_.state.DropBelow(*subject, [&](Group& group, const State::Dropped& dropped) {
                CountDropped(group, dropped, first);
                // Who held too much may have room now.
                delivery_.MarkReady(group);
            });
            core_.state.Keep();
            core_.TellLosses(true);
        }
    }
}

/// What a group had not read goes with its time. What it held or waited for would have been moved,
/// had there been room.
void Shard::CountDropped(Group& group, const State::Dropped& dropped, std::uint64_t below) {
    const std::string end = "below sequence " + std::to_string(below);
    core_.Lose(group,
               LossCause::kRetention,
               dropped.unread,
               "retention took unread messages " + end + ": the group is too slow, or away");
    const std::uint64_t kept = dropped.held + dropped.waiting;
    const std::string what = std::to_string(dropped.held) + " held, " +
                             std::to_string(dropped.waiting) + " waiting, " + end;
    if (dropped_on_full_disk_) {
        core_.Lose(group, LossCause::kFullDisk, kept, "a full disk took messages: " + what);
    } else {
        core_.Lose(group, LossCause::kRetention, kept, "retention took messages: " + what);
    }
}

// ---- Time.

ShardMs Shard::NextTimer() {
    ShardMs next = core_.timers.earliest_ms();
    for (const ShardMs other :
         {flush_at_ms_, tick_at_ms_, retain_at_ms_, delivery_.retry_at_ms()}) {
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
    members_.EvictIdle();
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
    const Status unknown = status.ok() ? Status::Unavailable("the broker has stopped") : status;
    sends_.Fail(unknown);
    acks_.Fail(unknown);
    UniqueFunction<void(Status)> closed = std::move(closed_);
    closed_ = nullptr;
    closed(std::move(status));
}

// ---- Replay and snapshots.

Status Shard::OnSnapshot(std::string_view state) {
    Status status = core_.state.Load(state);
    if (!status.ok()) {
        core_.state.Clear();
    }
    return status;
}

Status Shard::CheckAction(std::string_view action) {
    return DecodeAction(action).status();
}

bool Shard::MayDrop(std::span<const Going> going) {
    return keeper_.MayDrop(going);
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
                       store::RecordTime time) {
    core_.state.ReplayMessages(
        core_.state.MakeSubject(subject.name()), first_sequence, batch, time);
}

std::string Shard::TakeSnapshot() {
    return core_.state.Save(core_.unapplied());
}

}  // namespace qmq::broker
