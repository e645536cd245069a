// Taking messages, and the end of each entry into the producer.

#include "sdk/client/src/send/producer_core.h"

#include <algorithm>
#include <utility>

#include "qmq/deadline.h"

#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {

/// [I] Below this a delay is not worth a delay server: every client sends such a message as an
/// ordinary one.
constexpr std::chrono::milliseconds kShortestDelay{500};
/// What a message costs beside its bytes, at least: its id, its callback, its share in a batch.
constexpr std::size_t kMessageOverhead = 128;
/// Frames that one thread sends before the work executor goes on for it. Few for a caller of
/// `Send`, which is not to be kept by the messages of others.
constexpr int kCallerRounds = 4;
constexpr int kClientRounds = 64;

/// Subjects that one entry forgets when those that nobody uses are too many.
constexpr std::size_t kForgottenAtOnce = 64;

std::string Number(std::uint64_t value) {
    return std::to_string(value);
}

}  // namespace

std::shared_ptr<ProducerCore> ProducerCore::Make(std::shared_ptr<ClientRuntime> runtime,
                                                 std::shared_ptr<Router> router,
                                                 std::shared_ptr<LinkPool> links,
                                                 const ProducerOptions& options) {
    std::shared_ptr<ProducerCore> core(
        new ProducerCore(std::move(runtime), std::move(router), std::move(links), options));
    core->batcher_.SetWaker(core->weak_from_this());
    return core;
}

ProducerCore::ProducerCore(std::shared_ptr<ClientRuntime> runtime,
                           std::shared_ptr<Router> router,
                           std::shared_ptr<LinkPool> links,
                           const ProducerOptions& options)
    : runtime_(std::move(runtime)),
      router_(std::move(router)),
      links_(std::move(links)),
      options_(options),
      budget_(options.max_pending_count, options.max_pending_bytes),
      batcher_(*runtime_, options_, budget_),
      lanes_(*runtime_, options_, batcher_),
      timer_(runtime_->work()),
      random_(runtime_->MakeRandom()) {}

/// Nobody asks for its routes any more.
ProducerCore::~ProducerCore() {
    batcher_.subjects().ForEach(
        [this](const SubjectQueue& subject) { router_->Unwatch(RouteKeyOf(subject), this); });
}

/// `*bytes`: what the message has as it travels. `*in_time`: its delay is too short to matter.
Status ProducerCore::Check(const Message& message,
                           std::chrono::milliseconds timeout,
                           std::size_t* bytes,
                           bool* in_time) const {
    if (timeout < std::chrono::milliseconds(1) || timeout > std::chrono::hours(1)) {
        return Status::InvalidArgument("timeout of the send: " + std::to_string(timeout.count()) +
                                       " ms is not in [1 ms, 1 h]");
    }
    if (Status status = ValidateMessage(message, bytes); !status.ok()) {
        return status;
    }
    if (const auto due = DueTimeToSend(message); due.has_value()) {
        if (*due >= runtime_->clock().WallNow() + kShortestDelay) {
            return Status::Unimplemented("delayed messages are not served yet: send subject " +
                                         std::string(message.subject()) +
                                         " without SetDelay and SetDeliverAt");
        }
        *in_time = true;
    }
    return Status::Ok();
}

Status ProducerCore::TooLarge(std::size_t message_bytes, std::uint64_t max_batch_bytes) {
    return Status::InvalidArgument(
        "the message has " + Number(message_bytes) +
        " bytes as it travels, and a broker of its subject takes at most " +
        Number(max_batch_bytes - BatchHeader::kBytes));
}

/// Nothing is copied of a message that its brokers would not take. As long as they have not said
/// what that is, nobody knows.
Status ProducerCore::CheckSize(const Message& message, std::size_t bytes) {
    if (bytes + BatchHeader::kBytes <= batcher_.max_batch_bytes()) {
        return Status::Ok();  // Any broker takes it.
    }
    const SubjectQueue* const known = batcher_.subjects().Find(message.subject());
    const std::uint64_t most = known == nullptr ? 0 : known->details->max_batch_bytes;
    if (most == 0 || bytes + BatchHeader::kBytes <= most) {
        return Status::Ok();
    }
    return TooLarge(bytes, most);
}

Status ProducerCore::WaitForRoom(std::size_t bytes, TimePoint deadline) {
    blocked_.fetch_add(1);
    const Budget::Waiting waiting(budget_);
    // The machine's clock and the client's are not always the same one.
    const TimePoint until =
        DeadlineAfter(std::chrono::steady_clock::now(), deadline - runtime_->Now());
    const bool came = room_.WaitUntil(mutex_, until, [this, bytes]() QMQ_REQUIRES(mutex_) {
        return closing_ || abandoned_ || budget_.HasRoom(bytes, batcher_.staged_bytes());
    });
    blocked_.fetch_sub(1);
    return came ? Status::Ok() : Status::ResourceExhausted("for the whole timeout");
}

/// Whether a message that costs so much may be taken; waits for room where that is asked for.
Status ProducerCore::Admit(std::size_t bytes, TimePoint deadline, bool may_wait) {
    const std::size_t cost = bytes + kMessageOverhead;
    if (!closing_ && !abandoned_ && !budget_.HasRoom(cost, batcher_.staged_bytes())) {
        // Messages that only gather are sent first: nobody is refused because of them.
        lanes_.EndBurst();
        Advance(Origin::kCaller);
        const bool inside_callback = CallScope::InsideCallbackOf(runtime_.get());
        const bool waits_for_itself = inside_callback || !MayWaitForAnswers();
        Status waited = Status::ResourceExhausted("");
        if (budget_.HasRoom(cost, batcher_.staged_bytes())) {
            waited = Status::Ok();
        } else if (may_wait && !waits_for_itself) {
            waited = WaitForRoom(cost, deadline);
        }
        if (!waited.ok()) {
            std::string text =
                "the producer is full: " + Number(budget_.count()) + " messages and " +
                Number(budget_.bytes() + batcher_.staged_bytes()) + " bytes are pending (limits " +
                Number(budget_.max_count()) + " and " + Number(budget_.max_bytes()) + ")";
            if (may_wait) {
                text += waits_for_itself ? "; a callback cannot wait for room, because it would "
                                           "wait for itself"
                                         : " for the whole timeout";
            }
            return Status::ResourceExhausted(std::move(text));
        }
    }
    if (closing_ || abandoned_) {
        return Status::Cancelled("the client has been shut down");
    }
    return Status::Ok();
}

/// Puts a message into the open batch of its queue. Returns its subject, which was `made` now or
/// not.
SubjectQueue& ProducerCore::Gather(Batcher::Taken taken,
                                   std::optional<std::size_t> hash,
                                   SendFuture* future,
                                   bool* made) {
    SubjectQueue& subject = batcher_.SubjectFor(taken.message.subject(), hash, made);
    arm_ = arm_ || *made;  // Subjects that nobody uses are forgotten in time.
    const std::string_view key = taken.message.ordering_key();
    SubjectQueue& queue = key.empty() ? subject : batcher_.subjects().KeyQueueOf(subject, key);
    if (queue.open != nullptr && !batcher_.Joins(queue, taken)) {
        lanes_.Seal(queue);
    }
    if (queue.open == nullptr) {
        deadlines_.Add(batcher_.Open(queue, taken.now, taken.deadline));
        lanes_.OnOpened(queue);
    }
    const std::size_t bytes = taken.bytes;
    const TimePoint now = taken.now;
    batcher_.Add(queue, std::move(taken));
    if (future != nullptr) {
        *future =
            ProducerAccess::MakeFuture(batcher_.StateOf(*queue.open), queue.gathered.count - 1);
    }
    lanes_.OnGathered(queue, now);
    if (batcher_.IsFull(queue.gathered, bytes)) {
        lanes_.Seal(queue);
    }
    return subject;
}

Status ProducerCore::Take(Message& message, How how, SendCallback& callback, SendFuture* future) {
    // A flood over many subjects: this one's is asked for now, to be there when it is looked at.
    std::optional<std::size_t> hash;
    if (batcher_.many()) {
        hash = SubjectQueues::Hash(message.subject());
        batcher_.PrefetchSlot(*hash);
    }
    std::size_t bytes = 0;
    bool in_time = false;
    if (Status bad = Check(message, how.timeout, &bytes, &in_time); !bad.ok()) {
        return bad;
    }
    const TimePoint now = runtime_->Now();
    const TimePoint deadline = now + how.timeout;
    const bool inside = CallScope::InsideClient(runtime_.get());
    std::optional<RouteKey> watch;
    {
        Turn turn(*this, inside ? Origin::kInside : Origin::kCaller);
        if (Status status = CheckSize(message, bytes); !status.ok()) {
            return status;
        }
        if (Status status = Admit(bytes, deadline, how.may_wait); !status.ok()) {
            return status;
        }
        // Again: while it waited for room its brokers may have said what they take.
        if (Status status = CheckSize(message, bytes); !status.ok()) {
            return status;
        }
        // From here on it is ours, and a new one: what came with it stays with the one that came.
        const bool was_delivered = ForgetDeliveries(message);
        if (in_time) {
            message.SetDeliverAt(WallTime{});
        }
        if (was_delivered || in_time) {
            bytes = message.encoded_bytes();
        }
        lanes_.OnSend(now);
        Batcher::Taken taken{message, bytes, now, deadline, callback};
        const bool small = bytes + BatchHeader::kBytes <= batcher_.max_batch_bytes();
        if (hash.has_value() && small) {
            batcher_.PrefetchSubject(*hash);
            batcher_.Stage(&taken);
        }
        bool made = false;
        const SubjectQueue& subject = Gather(std::move(taken), hash, future, &made);
        if (made) {
            watch = RouteKeyOf(subject);
        }
    }
    if (watch.has_value()) {
        WatchRoute(*watch);
    }
    return Status::Ok();
}

/// Asks for the route of a subject that the caller has made, and uses until then.
void ProducerCore::WatchRoute(const RouteKey& key) {
    router_->Watch(key, weak_from_this());
    Turn turn(*this, Origin::kClient);
    SubjectQueues& subjects = batcher_.subjects();
    if (const SubjectQueue* const subject = subjects.Find(key.subject); subject != nullptr) {
        subjects.Leave(*subject);
    }
}

void ProducerCore::NoteNotTaken() {
    not_taken_.fetch_add(1, std::memory_order_relaxed);
    runtime_->callbacks().Retry();  // It may be full of what they owe.
}

Status ProducerCore::Send(Message& message, How how, SendCallback callback) {
    Status status = Take(message, how, callback, nullptr);
    if (!status.ok()) {
        NoteNotTaken();
    }
    return status;
}

SendFuture ProducerCore::Send(Message message, How how) {
    SendFuture future;
    SendCallback none;
    Status status = Take(message, how, none, &future);
    if (!status.ok()) {
        NoteNotTaken();
        return ProducerAccess::MakeRefused(message, std::move(status), runtime_->callback_queue());
    }
    return future;
}

void ProducerCore::SealAll() {
    deadlines_.ForEach([this](const BatchPtr& batch) {
        mutex_.AssertHeld();
        if (batch->place == PendingBatch::Place::kOpen) {
            lanes_.Seal(*batch->subject);
        }
    });
}

Status ProducerCore::Flush(std::chrono::milliseconds timeout) {
    if (!MayWaitForAnswers()) {
        return Status::FailedPrecondition(
            "Flush was called on a thread that brings the answers of the same client, and would "
            "wait for itself");
    }
    Turn turn(*this, Origin::kCaller);
    Deadlines::Flush flush{batcher_.next_id(), deadlines_.count()};
    deadlines_.Begin(&flush);
    SealAll();
    Advance(turn.origin);
    const TimePoint until = DeadlineAfter(std::chrono::steady_clock::now(), timeout);
    const bool done = answered_.WaitUntil(mutex_, until, [&flush] { return flush.left == 0; });
    deadlines_.End(&flush);
    if (done) {
        if (!abandoned_) {  // Then this may be a coroutine that whoever tells it has resumed.
            AwaitHandOuts();
        }
        return Status::Ok();
    }
    std::uint64_t left = 0;
    deadlines_.ForEach(
        [&](const BatchPtr& batch) { left += batch->generation < flush.mark ? batch->count : 0; });
    return Status::DeadlineExceeded("flush: " + Number(left) + " messages are not answered after " +
                                    std::to_string(timeout.count()) + " ms");
}

Producer::Stats ProducerCore::stats() {
    Producer::Stats stats;
    runtime_->callbacks().Retry();
    Turn turn(*this, Origin::kCaller);
    stats.pending_count = budget_.count();
    stats.pending_bytes = budget_.bytes() + batcher_.staged_bytes();
    stats.in_flight_batches = lanes_.in_flight_batches();
    stats.callbacks_owed = callbacks_owed();
    stats.blocked_calls = blocked_.load();
    stats.subjects = batcher_.subjects().count();
    stats.persisted_count = counts_.persisted;
    stats.unknown_count = counts_.unknown;
    stats.refused_count = counts_.refused + not_taken_.load();
    stats.retried_batches = counts_.retried_batches;
    return stats;
}

void ProducerCore::BeginClose(Task drained) {
    Turn turn(*this, Origin::kClient);
    NoteClosing();
    room_.NotifyAll();
    drained_.push_back(std::move(drained));
    SealAll();
}

void ProducerCore::NoteClosing() {
    if (!std::exchange(closing_, true)) {
        hand_outs_.Watch();
    }
}

ProducerCore::Left ProducerCore::Abandon() {
    Left left;
    {
        Turn turn(*this, Origin::kClient);
        left = AbandonAll(&turn.answers());
    }
    MutexLock lock(mutex_);
    AwaitHandOuts();
    return left;
}

ProducerCore::Left ProducerCore::AbandonAll(Answers* answers) {
    Left left;
    NoteClosing();
    abandoned_ = true;
    timer_.Cancel();
    lanes_.Clear();
    const Status why = Status::Cancelled("the client was shut down before the answer");
    while (const BatchPtr batch = deadlines_.First()) {
        if (batch->place == PendingBatch::Place::kEncoding) {
            WaitEncoded(*batch);
            continue;
        }
        if (batch->place == PendingBatch::Place::kOpen) {
            lanes_.Seal(*batch->subject);
        }
        const SendStep step = batch->machine.OnDeadline(why);
        auto& count = step.outcome == SendOutcome::kUnknown ? left.unknown : left.refused;
        count += batch->count;
        Finish(batch, step, nullptr, answers);
    }
    lanes_.Clear();
    room_.NotifyAll();
    return left;
}

/// What has been answered so far, futures and owed callbacks are told of.
void ProducerCore::AwaitHandOuts() {
    const std::uint64_t last = hand_outs_.last();
    hand_outs_.Watch();
    (void)answered_.WaitUntil(
        mutex_, TimePoint::max(), [this, last] { return !hand_outs_.AnyUpTo(last); });
    hand_outs_.Unwatch();
}

bool ProducerCore::idle() {
    MutexLock lock(mutex_);
    return deadlines_.empty();
}

std::string ProducerCore::FindStuck() {
    MutexLock lock(mutex_);
    const TimePoint timer = timer_.armed() ? timer_.when() : TimePoint::max();
    const TimePoint now = runtime_->Now();
    std::string stuck = abandoned_ ? std::string() : lanes_.FindStuck(now, timer);
    if (const TimePoint due = deadlines_.earliest(); stuck.empty() && due < timer) {
        stuck = "no timer is set for a deadline or a next attempt";
    }
    return stuck;
}

std::uint64_t ProducerCore::looked_at() {
    MutexLock lock(mutex_);
    return lanes_.looked_at();
}

/// The end of every entry: lanes with news are pumped, the timer is set, and what is to be handed
/// out is handed out without the lock.
void ProducerCore::Settle(Turn& turn) {
    Advance(turn.origin);
    if (turn.origin == Origin::kInside && batcher_.open_count() > 0) {
        runtime_->NoteGathered();
    }
    if (budget_.TakeFreed() && blocked_.load() > 0) {
        room_.NotifyAll();
    }
    if (deadlines_.TakeFlushed()) {
        answered_.NotifyAll();
    }
    if (IsDrained() && !drained_.empty()) {
        turn.answers().drained = std::exchange(drained_, {});
    }
    mutex_.unlock();
    if (turn.answers_.has_value() && !turn.answers_->empty()) {
        HandOut(std::move(*turn.answers_));
    }
}

/// Sends what can be sent now. Mostly there is nothing, which must cost nothing.
void ProducerCore::Advance(Origin origin) {
    if (lanes_.has_news()) {
        PumpAll(origin);
    }
    if (batcher_.subjects().has_excess()) {
        ForgetIdle(TimePoint::min(), kForgottenAtOnce);
    }
    if (const bool earlier = deadlines_.TakeEarlier(); earlier || lanes_.has_due() || arm_) {
        Arm();
    }
}

void ProducerCore::PumpAll(Origin origin) {
    const int rounds = origin == Origin::kClient ? kClientRounds : kCallerRounds;
    while (lanes_.has_news()) {
        if (const LanePtr lane = lanes_.TakeNews(); lane != nullptr) {
            Pump(lane, rounds);
        }
    }
}

void ProducerCore::Arm() {
    arm_ = false;
    if (abandoned_) {
        return;
    }
    if (batcher_.subjects().count() > SubjectQueues::kFew && idle_at_ == TimePoint::max()) {
        idle_at_ = runtime_->Now() + kIdlePause;
    }
    const TimePoint refused = timer_.refused() ? timer_.when() : TimePoint::max();
    const TimePoint due =
        std::min({lanes_.TakeDue(), deadlines_.earliest(), idle_at_, trim_at_, refused});
    if (due == TimePoint::max() || (timer_.armed() && timer_.when() <= due)) {
        return;
    }
    timer_.ArmBy(due, *this, &ProducerCore::OnTimer);
    arm_ = timer_.refused();  // Then the next entry tries again.
}

}  // namespace qmq::internal
