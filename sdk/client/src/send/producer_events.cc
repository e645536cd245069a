// What comes to a producer from elsewhere: answers, routes, links and time.

#include <algorithm>
#include <limits>
#include <utility>

#include "sdk/client/src/send/producer_core.h"

namespace qmq::internal {

namespace {

const Status& MissingReceipt() {
    static const Status status =
        Status::Internal("the transport answered with too few receipts for the frame");
    return status;
}

/// Whether the broker has said this. A frame without any such receipt was not answered: a broker
/// that refuses some of its batches as kUnavailable, because a disk of several has stopped, is
/// there.
bool IsAnswer(const BatchReceipt& receipt) {
    return receipt.outcome != SendOutcome::kUnknown &&
           receipt.status.code() != StatusCode::kUnavailable;
}

}  // namespace

void ProducerCore::Pump(const LanePtr& lane, int rounds) {
    TimePoint now = runtime_->Now();
    while (lanes_.CanSend(*lane, now)) {
        if (rounds-- == 0 && HandOver(lane)) {
            return;  // This thread has done its share.
        }
        std::shared_ptr<Frame> frame = lanes_.TakeFrame(lane, now);
        if (frame == nullptr) {
            break;
        }
        lane->pumping = true;
        const std::shared_ptr<BrokerConnection> connection = lane->connection;
        mutex_.unlock();
        if (frame->staged) {
            Encode(*frame);
        }
        SendFrame(*connection, std::move(frame));
        mutex_.lock();
        lane->pumping = false;
        now = runtime_->Now();
        lanes_.SkipTime(now);
    }
    lanes_.NoteDue(*lane, now);
}

/// Lets the work executor go on with the lane.
bool ProducerCore::HandOver(const LanePtr& lane) {
    if (lane->handed_over) {
        return true;
    }
    lane->handed_over = runtime_->work().Post([self = weak_from_this(), lane] {
        if (auto producer = self.lock()) {
            Turn turn(*producer, Origin::kClient);
            lane->handed_over = false;
            producer->lanes_.NoteNews(*lane);
        }
    });
    return lane->handed_over;
}

/// Moves staged messages to their batches without the lock, since that takes as long as thousands
/// of messages are.
void ProducerCore::Encode(Frame& frame) {
    TakeStaged(frame.batches);
    MutexLock lock(mutex_);
    for (const BatchPtr& batch : frame.batches) {
        if (batch->place == PendingBatch::Place::kEncoding) {
            batch->place = PendingBatch::Place::kInFlight;
            batcher_.Charge(*batch);
        }
    }
    encoded_.NotifyAll();
}

/// A batch in a thread's hands cannot be answered for.
void ProducerCore::WaitEncoded(const PendingBatch& batch) {
    encoded_.WaitUntil(mutex_, TimePoint::max(), [&batch] {
        return batch.place != PendingBatch::Place::kEncoding;
    });
}

void ProducerCore::SendFrame(BrokerConnection& connection, std::shared_ptr<Frame> frame) {
    for (std::size_t i = 0; i < frame->batches.size(); ++i) {
        const BatchPtr& batch = frame->batches[i];
        // Only the thread that took the batch into a frame touches its bytes; the checksum is
        // computed here, outside the lock.
        if (batch->encoded.empty()) {
            batch->encoded = batch->builder.Finish();
        }
        frame->sends[i].batch = Slice(batch, batch->encoded);
    }
    std::vector<SendBatch> sends = std::move(frame->sends);
    // An answer that never comes must not keep the producer, and by it the connection, for ever:
    // all that is outstanding may have been given up.
    connection.Send(std::move(sends),
                    [self = weak_from_this(), frame](std::vector<BatchReceipt> receipts) {
                        if (auto producer = self.lock()) {
                            producer->OnFrameDone(frame, std::move(receipts));
                        }
                    });
}

void ProducerCore::OnFrameDone(const std::shared_ptr<Frame>& frame,
                               std::vector<BatchReceipt> receipts) {
    receipts.resize(frame->batches.size(),
                    {MissingReceipt(), SendOutcome::kUnknown, Durability::kDefault, 0});
    // Told without our lock, since it may be worth a line in the application's log.
    const bool answered = std::any_of(receipts.begin(), receipts.end(), IsAnswer);
    if (answered) {
        frame->link->OnAnswered();
    } else if (!frame->counted_unanswered.exchange(true)) {
        frame->link->OnUnanswered(receipts.front().status);
    }
    Turn turn(*this, Origin::kClient);
    // An answer that comes inside of the call that sent the frame, or overtakes its end.
    const bool overtook = frame->lane->pumping;
    turn.answers().from_wire = !overtook;
    lanes_.OnFrameDone(*frame, answered);
    if (!overtook) {
        lanes_.EndBurst();  // What gathered meanwhile goes.
    }
    for (std::size_t i = 0; i < frame->batches.size(); ++i) {
        Apply(frame->batches[i], receipts[i], &turn.answers());
    }
    turn.answers().used = std::move(frame->batches);
}

void ProducerCore::Apply(const BatchPtr& batch, const BatchReceipt& receipt, Answers* answers) {
    if (batch->place == PendingBatch::Place::kDone) {
        return;  // Its deadline came first.
    }
    const SendStep step = batch->machine.OnReply(receipt, batch->count, runtime_->Now(), random_);
    switch (step.action) {
        case SendStep::Action::kWait:
            ++counts_.retried_batches;
            deadlines_.Wait(batch, step.when);
            router_->Hurry(RouteKeyOf(*batch->subject));
            return;
        case SendStep::Action::kSplit: {
            // Each message goes alone, with the same id, so that only the bad one fails. They are
            // as many as the batch had messages: this happens once.
            const std::vector<BatchPtr> singles = batcher_.Split(*batch);
            if (singles.size() != batch->count) {  // None may be left without an answer.
                for (const BatchPtr& single : singles) {
                    budget_.GiveBack(0, single->charged);
                }
                Finish(batch, batch->machine.OnDeadline(receipt.status), &receipt, answers);
                return;
            }
            ++counts_.retried_batches;
            for (const BatchPtr& single : singles) {
                deadlines_.Add(single);
            }
            budget_.GiveBack(0, std::exchange(batch->charged, 0));
            deadlines_.Remove(*batch);
            lanes_.Replace(*batch, singles);
            return;
        }
        case SendStep::Action::kFinish:
            Finish(batch, step, &receipt, answers);
            return;
    }
}

/// Gives back what a batch with its answer takes no more. Messages with callbacks count until these
/// have run, and those of coroutines that wait until these are resumed.
void ProducerCore::GiveBackRoom(PendingBatch& batch, ProducerAccess::State& state, bool complete) {
    budget_.GiveBack(0, std::exchange(batch.charged, 0));
    if (complete) {
        budget_.GiveBack(state.count - state.KeepOwed(budget_), 0);
    }
}

/// What fails at one time mostly fails for one reason, which then is in memory once. Returns what
/// it takes otherwise.
std::size_t ProducerCore::ShareReason(Status* reason) {
    if (reason->ok()) {
        return 0;
    }
    if (reason->code() == last_reason_.code() && reason->message() == last_reason_.message()) {
        *reason = last_reason_;
        return 0;
    }
    constexpr std::size_t kOverhead = 80;  // What keeps the text.
    last_reason_ = *reason;
    return kOverhead + reason->message().size();
}

void ProducerCore::Finish(const BatchPtr& batch,
                          const SendStep& step,
                          const BatchReceipt* receipt,
                          Answers* answers) {
    ProducerAccess::State::Outcome outcome;
    outcome.outcome = step.outcome;
    outcome.status = step.status;
    outcome.attempts = batch->machine.attempts();
    const std::size_t reason_bytes = ShareReason(&outcome.status);
    if (batch->lane != nullptr) {
        outcome.broker_group = batch->lane->link->name();
    }
    if (receipt != nullptr && step.outcome == SendOutcome::kPersisted) {
        outcome.durability = receipt->durability;
        outcome.first_sequence = receipt->first_sequence;
    }
    if (!batch->staged.empty()) {
        batcher_.DropStaged(batch);
    }
    (step.outcome == SendOutcome::kPersisted ? counts_.persisted
     : step.outcome == SendOutcome::kUnknown ? counts_.unknown
                                             : counts_.refused) += batch->count;
    const auto state = std::move(batch->state);
    state->reason_bytes += reason_bytes;
    bool complete = true;
    std::optional<ProducerAccess::State::Outcome> whole;
    if (batch->single) {
        complete = state->CompleteOne(batch->position, std::move(outcome));
    } else {
        whole = std::move(outcome);
    }
    GiveBackRoom(*batch, *state, complete);
    if (complete) {
        if (answers->number == 0) {  // From here on nobody takes it for told.
            answers->number = hand_outs_.Begin();
        }
        answers->batches.push_back({state, std::move(whole)});
    }
    deadlines_.Remove(*batch);
    lanes_.OnDone(*batch);
    if (deadlines_.empty() && trim_at_ == TimePoint::max()) {
        trim_at_ = runtime_->Now() + kTrimPause;
        trim_id_ = batcher_.next_id();
        arm_ = true;
    }
}

/// Gives back what is kept for later messages, when none have come for a while.
void ProducerCore::Trim(TimePoint now) {
    trim_at_ = TimePoint::max();
    const std::uint64_t id = batcher_.next_id();
    if (std::exchange(trim_id_, id) != id) {
        trim_at_ = now + kTrimPause;
    } else if (deadlines_.empty()) {  // Else its end comes back to it.
        batcher_.Trim();
        budget_.GiveBack(0, 0);  // What it has trimmed was no message's any more.
    }
}

/// What a batch that waits for a way should say at its deadline.
void ProducerCore::ExplainWait(PendingBatch& batch) {
    if (batch.lane != nullptr || batch.machine.in_flight()) {
        return;
    }
    const SubjectDetails& details = *batch.subject->details;
    if (!details.subject().route_error.ok()) {
        router_->Retry();
        batch.machine.OnNoRoute(
            details.subject().route_error.WithContext("subject " + std::string(details.name)));
        return;
    }
    for (const LanePtr& lane : details.lanes) {
        if (lane->connection == nullptr) {
            batch.machine.OnNoRoute(lane->link->last_error());
        }
    }
}

void ProducerCore::Expire(TimePoint now, Answers* answers) {
    while (const BatchPtr batch = deadlines_.Expired(now)) {
        if (batch->place == PendingBatch::Place::kEncoding) {
            WaitEncoded(*batch);
            continue;
        }
        if (batch->place == PendingBatch::Place::kOpen) {
            lanes_.Seal(*batch->subject);
        }
        ExplainWait(*batch);
        const SendStep step = batch->machine.OnDeadline(Status::Ok());
        if (batch->place == PendingBatch::Place::kInFlight) {
            const auto frame = batch->frame.lock();
            if (frame != nullptr && !frame->counted_unanswered.exchange(true)) {
                answers->silent.emplace_back(frame->link, step.status);
            }
        }
        Finish(batch, step, nullptr, answers);
    }
}

void ProducerCore::OnTimer(TimerSlot::Shot shot) {
    Turn turn(*this, Origin::kClient);
    timer_.OnFired(shot);
    arm_ = true;
    const TimePoint now = runtime_->Now();
    Expire(now, &turn.answers());
    while (const BatchPtr batch = deadlines_.Due(now)) {
        lanes_.Retry(batch);
    }
    lanes_.OnTime(now);
    if (trim_at_ <= now) {
        Trim(now);
    }
    if (idle_at_ <= now) {
        idle_at_ = TimePoint::max();  // `Arm` says when to look again.
        ForgetIdle(now - kIdlePause, 1'024);
    }
}

/// Forgets subjects that nobody uses, at most so many, which are too many or to which nobody has
/// sent after `since`.
void ProducerCore::ForgetIdle(TimePoint since, std::size_t at_most) {
    SubjectQueues& subjects = batcher_.subjects();
    for (; at_most > 0; --at_most) {
        SubjectQueue* const subject = subjects.TooIdle(since);
        if (subject == nullptr) {
            return;
        }
        router_->Unwatch(RouteKeyOf(*subject), this);
        lanes_.LeaveRoute(*subject);
        batcher_.Forget(*subject);
    }
    if (subjects.TooIdle(since) != nullptr) {  // Nobody is to wait for thousands.
        idle_at_ = runtime_->Now();
        arm_ = true;
    }
}

void ProducerCore::Wake() {
    Turn turn(*this, Origin::kClient);
    lanes_.EndBurst();
}

void ProducerCore::OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> /*connection*/) {
    Turn turn(*this, Origin::kClient);
    if (!abandoned_) {
        lanes_.OnLink(link);
    }
}

void ProducerCore::OnLinkDown(BrokerLink& link, const Status& /*status*/) {
    Turn turn(*this, Origin::kClient);
    if (!abandoned_) {
        lanes_.OnLink(link);
    }
}

void ProducerCore::OnRouteError(const RouteKey& key, const Status& status, std::uint64_t number) {
    Turn turn(*this, Origin::kClient);
    SubjectQueue* const subject = batcher_.subjects().Find(key.subject);
    if (subject != nullptr && number >= subject->details->route_number) {
        subject->details->route_error = status;
    }
}

void ProducerCore::OnRoute(const RouteKey& key, const KnownRoute& known) {
    // Links are made without our lock: a transport may call back from inside Connect.
    std::vector<LaneSet::RouteEntry> route;
    std::uint64_t max_batch_bytes = std::numeric_limits<std::uint64_t>::max();
    for (const BrokerGroup& group : *known.groups) {
        if (auto link = links_->Get(group, known.number); link != nullptr) {
            route.push_back({std::move(link), group.writable});
            max_batch_bytes = std::min(max_batch_bytes, group.limits.max_batch_bytes);
        }
    }
    Turn turn(*this, Origin::kClient);
    SubjectQueue* const subject = batcher_.subjects().Find(key.subject);
    if (subject == nullptr || abandoned_ || route.empty() ||
        known.number < subject->details->route_number) {
        return;
    }
    subject->details->route_number = known.number;
    batcher_.SetLimit(*subject, max_batch_bytes);
    RefuseTooLarge(*subject, &turn.answers());
    lanes_.OnRoute(*subject, route, weak_from_this());
}

/// Messages that were taken before it was known how large they may be.
void ProducerCore::RefuseTooLarge(SubjectQueue& subject, Answers* answers) {
    const std::uint64_t most = subject.details->max_batch_bytes;
    std::vector<BatchPtr> too_large;
    const auto look = [&](const BatchList& list) {
        for (const PendingBatch* at = list.front(); at != nullptr; at = at->link.behind) {
            if (at->count == 1 && BatchHeader::kBytes + at->bytes > most) {
                too_large.push_back(at->link.self);
            }
        }
    };
    look(subject.details->unrouted);
    if (subject.details->keys != nullptr) {
        for (const auto& queue : subject.details->keys->queues) {
            if (queue != nullptr) {
                look(queue->details->unrouted);
                look(queue->details->in_order->behind);
            }
        }
    }
    for (const BatchPtr& batch : too_large) {
        Finish(batch, batch->machine.OnDeadline(TooLarge(batch->bytes, most)), nullptr, answers);
    }
}

}  // namespace qmq::internal
