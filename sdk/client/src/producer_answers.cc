// What became of a producer's batches, and what time does to them.

#include <algorithm>
#include <utility>

#include "sdk/client/src/producer_core.h"

namespace qmq::internal {

namespace {

const Status& MissingReceipt() {
    static const Status status =
        Status::Internal("the transport answered with too few receipts for the frame");
    return status;
}

bool IsNoAnswer(const BatchReceipt& receipt) {
    return receipt.outcome == SendOutcome::kUnknown ||
           receipt.status.code() == StatusCode::kUnavailable;
}

}  // namespace

void ProducerCore::OnFrameDone(const std::shared_ptr<Frame>& frame,
                               std::vector<BatchReceipt> receipts) {
    Finished finished;
    bool from_wire = false;
    {
        Lock lock(mutex_);
        Lane& lane = *frame->lane;
        --lane.in_flight;
        lane.in_flight_batches -= static_cast<std::uint32_t>(frame->batches.size());
        from_wire = !lane.pumping;
        if (from_wire) {
            burst_ = 0;  // What gathered meanwhile goes.
        }
        receipts.resize(frame->batches.size(),
                        {MissingReceipt(), SendOutcome::kUnknown, Durability::kDefault, 0});
        const auto lost = std::find_if(receipts.begin(), receipts.end(), IsNoAnswer);
        if (lost == receipts.end()) {
            lane.link->OnAnswered();
            lane.blocked_until = {};
        } else {
            lane.link->OnUnanswered(lost->status);
        }
        for (std::size_t i = 0; i < frame->batches.size(); ++i) {
            Apply(frame->batches[i], receipts[i], &finished);
        }
        AssignStranded();
        Pump(lock, frame->lane);
        if (!waiting_.empty() || stranded_) {
            ArmTimer();
        }
    }
    Deliver(std::move(finished), from_wire, std::move(frame->batches));
}

void ProducerCore::Apply(const BatchPtr& batch, const BatchReceipt& receipt, Finished* finished) {
    if (batch->place == PendingBatch::Place::kDone) {
        return;  // Its deadline came first.
    }
    const SendStep step = batch->machine.OnReply(receipt, batch->count, runtime_->Now(), random_);
    switch (step.action) {
        case SendStep::Action::kWait:
            batch->place = PendingBatch::Place::kWaiting;
            waiting_.emplace(step.when, batch);
            router_->Hurry(KeyOf(*batch->subject));
            return;
        case SendStep::Action::kSplit:
            Split(batch);
            return;
        case SendStep::Action::kFinish:
            Finish(batch, step, &receipt, finished);
            return;
    }
}

/// The broker refused the batch for what is in it. Each message goes alone, with the same id, so
/// that only the bad one fails. They share one frame where they fit, and are as many as the batch
/// had messages: this happens once.
void ProducerCore::Split(const BatchPtr& batch) {
    const BatchView view = BatchView::Trusted(batch->encoded);
    BatchView::Iterator heads = view.begin_heads();
    std::uint32_t position = batch->position;
    for (auto head = heads.Next(); head.has_value(); head = heads.Next(), ++position) {
        const std::string_view message = view.body().substr(head->offset, head->bytes);
        auto single = std::make_shared<PendingBatch>(batch->machine.deadline(), BackoffOptions{});
        single->machine = batch->machine;
        single->id = next_id_++;
        single->generation = batch->generation;
        single->subject = batch->subject;
        single->lane = batch->lane;
        single->state = batch->state;
        single->single = true;
        single->position = position;
        single->count = 1;
        single->bytes = message.size();
        single->encoded = MakeBatchHeader(1, message);
        single->encoded.append(message);
        AddOutstanding(single);
        Place(single, false);
    }
    batch->place = PendingBatch::Place::kDone;
    RemoveOutstanding(batch);
}

void ProducerCore::Finish(const BatchPtr& batch,
                          const SendStep& step,
                          const BatchReceipt* receipt,
                          Finished* finished) {
    ProducerAccess::State::Outcome outcome;
    outcome.outcome = step.outcome;
    outcome.status = step.status;
    outcome.attempts = batch->machine.attempts();
    if (batch->lane != nullptr) {
        outcome.broker_group = batch->lane->link->name();
    }
    if (receipt != nullptr && step.outcome == SendOutcome::kPersisted) {
        outcome.durability = receipt->durability;
        outcome.first_sequence = receipt->first_sequence;
    }
    if (!batch->staged.empty()) {
        Unstage(batch);  // It was never sent.
    }
    if (!batch->single) {
        finished->push_back({std::move(batch->state), std::move(outcome)});
    } else if (batch->state->CompleteOne(batch->position, std::move(outcome))) {
        finished->push_back({std::move(batch->state), std::nullopt});
    }
    pending_count_ -= batch->count;
    pending_bytes_ -= batch->bytes;
    batch->place = PendingBatch::Place::kDone;
    RemoveOutstanding(batch);
}

/// Makes futures ready and posts the callbacks of all of them as one task. Without the lock.
/// `answered` are the batches of a frame, of which those that nobody holds any more are kept.
void ProducerCore::Deliver(Finished finished, bool from_wire, std::vector<BatchPtr> answered) {
    std::vector<SpareParts::StatePtr> with_callbacks;
    std::vector<SpareParts::StatePtr> ready;
    for (FinishedBatch& one : finished) {
        if (one.whole.has_value()) {
            one.state->CompleteAll(std::move(*one.whole));
        }
        (one.state->Publish() ? with_callbacks : ready).push_back(std::move(one.state));
    }
    if (!with_callbacks.empty()) {
        Task callbacks = [self = weak_from_this(), states = std::move(with_callbacks)]() mutable {
            for (const auto& state : states) {
                state->RunCallbacks();
            }
            SpareParts::Clean(&states);
            if (auto producer = self.lock()) {
                Lock lock(producer->mutex_);
                producer->spare_.Keep(&states);
            }
        };
        if (from_wire && runtime_->inline_callbacks()) {
            runtime_->callbacks().PostOrRun(std::move(callbacks));
        } else {
            runtime_->callbacks().Post(std::move(callbacks));
        }
    }
    SpareParts::Clean(&ready);
    SpareParts::Clean(&answered);
    std::vector<Task> drained;
    {
        Lock lock(mutex_);
        spare_.Keep(&ready);
        spare_.Keep(&answered);
        if (waiters_ > 0) {
            changed_.notify_all();
        }
        if (closing_ && outstanding_.empty()) {
            drained.swap(drained_);
        }
    }
    for (Task& task : drained) {
        task();
    }
}

void ProducerCore::ArmTimer() {
    const TimePoint now = runtime_->Now();
    TimePoint next = TimePoint::max();
    if (!outstanding_.empty()) {
        next = outstanding_.begin()->first.first;
    }
    if (!waiting_.empty()) {
        next = std::min(next, waiting_.begin()->first);
    }
    for (const auto& [name, lane] : lanes_) {
        if (lane->blocked_until != TimePoint{}) {
            next = std::min(next, lane->blocked_until);
        }
        // Where there is no room an answer makes some, and sends what has lingered.
        if (!lane->open.empty() && HasSlot(*lane, now)) {
            next = std::min(next, lane->open.front()->opened + options_.linger);
        }
    }
    if (next == TimePoint::max()) {
        return;
    }
    timer_.ArmBy(next, [this] {
        return [self = weak_from_this()] {
            if (auto producer = self.lock()) {
                producer->OnTimer();
            }
        };
    });
}

/// What a stranded batch should say at its deadline.
void ProducerCore::NoteLanguish(const BatchPtr& batch) {
    if (batch->lane != nullptr || batch->machine.in_flight()) {
        return;
    }
    if (!batch->subject->details->route_error.ok()) {
        batch->machine.OnNoRoute(batch->subject->details->route_error.WithContext(
            "subject " + batch->subject->details->name));
        return;
    }
    for (const LanePtr& lane : batch->subject->details->lanes) {
        if (lane->connection == nullptr) {
            batch->machine.OnNoRoute(lane->link->last_error());
        }
    }
}

void ProducerCore::Expire(Lock& lock, TimePoint now, Finished* finished) {
    while (!outstanding_.empty() && outstanding_.begin()->first.first <= now) {
        const BatchPtr batch = outstanding_.begin()->second;
        if (batch->place == PendingBatch::Place::kEncoding) {
            WaitEncoded(lock, *batch);
            continue;
        }
        if (batch->place == PendingBatch::Place::kOpen) {
            SealOpen(*batch->subject);
        }
        NoteLanguish(batch);
        const SendStep step = batch->machine.OnDeadline(Status::Ok());
        if (batch->place == PendingBatch::Place::kInFlight) {
            batch->lane->link->OnUnanswered(step.status);
        }
        Finish(batch, step, nullptr, finished);
    }
    for (const auto& [name, lane] : lanes_) {
        lane->DropDone();
    }
}

void ProducerCore::OnTimer() {
    Finished finished;
    {
        Lock lock(mutex_);
        timer_.OnFired();
        const TimePoint now = runtime_->Now();
        Expire(lock, now, &finished);
        while (!waiting_.empty() && waiting_.begin()->first <= now) {
            const BatchPtr batch = waiting_.begin()->second;
            waiting_.erase(waiting_.begin());
            if (batch->place == PendingBatch::Place::kWaiting) {
                Place(batch, true);
            }
        }
        for (const auto& [name, lane] : lanes_) {
            if (lane->blocked_until != TimePoint{} && lane->blocked_until <= now) {
                lane->blocked_until = {};
            }
        }
        AssignStranded();
        PumpAll(lock);
        ArmTimer();
    }
    Deliver(std::move(finished));
}

ProducerCore::Left ProducerCore::Abandon() {
    Finished finished;
    Left left;
    {
        Lock lock(mutex_);
        closing_ = abandoned_ = true;
        timer_.Cancel();
        SealAll();
        const Status why = Status::Cancelled("the client was shut down before the answer");
        while (!outstanding_.empty()) {
            const BatchPtr batch = outstanding_.begin()->second;
            if (batch->place == PendingBatch::Place::kEncoding) {
                WaitEncoded(lock, *batch);
                continue;
            }
            const SendStep step = batch->machine.OnDeadline(why);
            auto& count = step.outcome == SendOutcome::kUnknown ? left.unknown : left.refused;
            count += batch->count;
            Finish(batch, step, nullptr, &finished);
        }
        waiting_.clear();
        for (const auto& [name, lane] : lanes_) {
            lane->connection = nullptr;
            lane->Clear();
        }
        changed_.notify_all();
    }
    Deliver(std::move(finished));
    return left;
}

}  // namespace qmq::internal
