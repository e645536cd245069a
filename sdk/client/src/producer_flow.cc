// Batches on their way through the lanes of a producer.

#include <algorithm>
#include <utility>

#include "sdk/client/src/producer_core.h"

namespace qmq::internal {

namespace {

/// Below so many unanswered frames a lane sends whatever is there: one on its way and one behind it
/// keep a broker busy, and nobody waits for company that does not come.
constexpr std::uint32_t kEagerFrames = 2;
/// So many messages in quick succession are the begin of a flood: the others gather, for the linger
/// at most, or until somebody waits for one of them. Without this a transport that answers inside
/// the call would never see a batch of two.
constexpr std::uint32_t kBurstMessages = 8;
/// So many open batches are worth to linger, whatever is answered: to send each of thousands with a
/// message or two costs more than it saves.
constexpr std::size_t kFewBatches = 64;
/// A frame is closed when it has reached this; one large batch may exceed it.
constexpr std::uint64_t kFrameBytes = 1U << 20;
constexpr std::size_t kFrameBatches = 64;
/// With so many batches unanswered a lane waits: what it would send next gathers meanwhile. So a
/// flood over thousands of subjects, too fast for batches of one message each, makes larger ones.
constexpr std::uint32_t kMaxInFlightBatches = 128;
/// Frames that one thread sends before somebody else goes on for it, so that a caller of `Send` is
/// not kept for ever by the messages of others.
constexpr int kPumpRounds = 64;

}  // namespace

/// Null when there is none. The batch has then all that was gathered for it.
ProducerCore::BatchPtr ProducerCore::CloseOpen(SubjectQueue& subject) {
    BatchPtr batch = std::move(subject.open);
    subject.open = nullptr;
    if (batch == nullptr) {
        return nullptr;
    }
    open_count_.store(open_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    PassOn(subject.gathered, *batch);
    subject.gathered = {};
    subject.details->last_bytes = batch->bytes + BatchHeader::kBytes;
    return batch;
}

void ProducerCore::SealOpen(SubjectQueue& subject) {
    BatchPtr batch = CloseOpen(subject);
    if (batch == nullptr) {
        return;
    }
    if (batch->lane == nullptr) {
        batch->place = PendingBatch::Place::kStranded;
        subject.details->stranded.push_back(std::move(batch));
        stranded_ = true;
        return;
    }
    batch->place = PendingBatch::Place::kQueued;
    batch->lane->DropOpen();
    batch->lane->queue.push_back(std::move(batch));
}

void ProducerCore::SealAll() {
    for (SubjectQueue& subject : subjects_.all()) {
        SealOpen(subject);
    }
}

bool ProducerCore::HasSlot(const Lane& lane, TimePoint now) const {
    return lane.connection != nullptr && !lane.pumping &&
           lane.in_flight < options_.max_in_flight_frames &&
           lane.in_flight_batches < kMaxInFlightBatches && now >= lane.blocked_until;
}

bool ProducerCore::CanSend(const Lane& lane, TimePoint now) const {
    return HasSlot(lane, now) && (!lane.queue.empty() || MayTakeOpen(lane, IsEager(lane), now));
}

/// Whether the oldest open batch may go. One that has lingered takes messages until there is room.
bool ProducerCore::MayTakeOpen(const Lane& lane, bool eager, TimePoint now) const {
    return !lane.open.empty() && (eager || now - lane.open.front()->opened >= options_.linger);
}

/// Whether what is gathered goes without waiting for more.
bool ProducerCore::IsEager(const Lane& lane) const {
    return options_.linger.count() == 0 ||
           (lane.in_flight < kEagerFrames && burst_ < kBurstMessages &&
            lane.open_count <= kFewBatches);
}

void ProducerCore::Kick() {
    Lock lock(mutex_);
    burst_ = 0;
    PumpAll(lock);
}

/// What taking the batches behind the oldest open one will look at.
void ProducerCore::PrefetchOpen(const Lane& lane) {
    constexpr std::size_t kFar = 8;
    constexpr std::size_t kNear = 4;
    if (lane.open.size() > kFar) {
        Prefetch(lane.open[kFar].get(), sizeof(PendingBatch));
        Prefetch(lane.open[kNear]->subject, sizeof(SubjectQueue));
    }
}

std::shared_ptr<Frame> ProducerCore::TakeFrame(const LanePtr& lane) {
    if (!lane->link->Acquire()) {
        (void)IsResting(*lane);
        Evacuate(*lane);
        return nullptr;
    }
    auto frame = std::make_shared<Frame>();
    frame->lane = lane;
    std::uint64_t bytes = 0;
    const auto take = [&](BatchPtr batch) {
        if (batch->staged.empty()) {
            batch->place = PendingBatch::Place::kInFlight;
        } else {
            batch->place = PendingBatch::Place::kEncoding;
            frame->staged = true;
            Prepare(*batch);
        }
        batch->machine.OnSent();
        bytes += batch->bytes;
        frame->batches.push_back(std::move(batch));
    };
    const auto has_room = [&] {
        return bytes < kFrameBytes && frame->batches.size() < kFrameBatches;
    };
    const bool eager = IsEager(*lane);
    const TimePoint now = runtime_->Now();
    while (has_room() && !lane->queue.empty()) {
        BatchPtr batch = std::move(lane->queue.front());
        lane->queue.pop_front();
        if (batch->place == PendingBatch::Place::kQueued) {
            take(std::move(batch));
        }
    }
    while (has_room() && MayTakeOpen(*lane, eager, now)) {
        PrefetchOpen(*lane);
        BatchPtr batch = std::move(lane->open.front());
        lane->open.pop_front();
        lane->DropOpen();
        CloseOpen(*batch->subject);
        take(std::move(batch));
    }
    if (frame->batches.empty()) {
        return nullptr;
    }
    ++lane->in_flight;
    lane->in_flight_batches += static_cast<std::uint32_t>(frame->batches.size());
    return frame;
}

void ProducerCore::Pump(Lock& lock, const LanePtr& lane) {
    if (lane->pumping) {
        return;  // Whoever pumps takes along what we have added.
    }
    int rounds = 0;
    while (CanSend(*lane, runtime_->Now())) {
        std::shared_ptr<Frame> frame = TakeFrame(lane);
        if (frame == nullptr) {
            break;
        }
        lane->pumping = true;
        auto connection = lane->connection;
        lock.unlock();
        if (frame->staged) {
            Encode(*frame);
        }
        SendFrame(connection, std::move(frame));
        lock.lock();
        lane->pumping = false;
        if (++rounds >= kPumpRounds && HandOver(lane)) {
            break;  // This thread has done its share.
        }
    }
    if (lane->blocked_until != TimePoint{} || !lane->open.empty()) {
        ArmTimer();
    }
}

/// Lets the work executor go on with the lane.
bool ProducerCore::HandOver(const LanePtr& lane) {
    return runtime_->work().Post([self = weak_from_this(), lane] {
        if (auto producer = self.lock()) {
            Lock lock(producer->mutex_);
            producer->Pump(lock, lane);
        }
    });
}

void ProducerCore::PumpAll(Lock& lock) {
    std::vector<LanePtr> lanes;
    for (const auto& [name, lane] : lanes_) {
        lanes.push_back(lane);
    }
    for (const LanePtr& lane : lanes) {
        Pump(lock, lane);
    }
}

/// Gives a batch what its staged messages will be moved to.
void ProducerCore::Prepare(PendingBatch& batch) {
    (void)StateOf(batch);
    if (batch.builder.empty()) {
        batch.builder.Reuse(spare_.TakeMemory());
    }
}

/// Without the lock, as far as it goes: that takes as long as thousands of messages are.
void ProducerCore::Encode(Frame& frame) {
    TakeStaged(frame.batches);
    Lock lock(mutex_);
    for (const BatchPtr& batch : frame.batches) {
        if (batch->place == PendingBatch::Place::kEncoding) {
            batch->place = PendingBatch::Place::kInFlight;
        }
    }
    if (waiters_ > 0) {
        changed_.notify_all();
    }
}

/// A batch in a thread's hands cannot be answered for.
void ProducerCore::WaitEncoded(Lock& lock, const PendingBatch& batch) {
    ++waiters_;
    changed_.wait(lock, [&batch] { return batch.place != PendingBatch::Place::kEncoding; });
    --waiters_;
}

void ProducerCore::SendFrame(const std::shared_ptr<BrokerConnection>& connection,
                             std::shared_ptr<Frame> frame) {
    std::vector<SendBatch> batches;
    batches.reserve(frame->batches.size());
    for (const BatchPtr& batch : frame->batches) {
        // Only the thread that took the batch into a frame touches its bytes; the checksum is
        // computed here, outside the lock.
        if (batch->encoded.empty()) {
            batch->encoded = batch->builder.Finish();
        }
        batches.push_back(
            {batch->subject->details->name, Slice(batch, batch->encoded), options_.durability});
    }
    // An answer that never comes must not keep the producer, and by it the connection, for ever:
    // all that is outstanding may have been given up.
    connection->Send(std::move(batches),
                     [self = weak_from_this(), frame](std::vector<BatchReceipt> receipts) {
                         if (auto producer = self.lock()) {
                             producer->OnFrameDone(frame, std::move(receipts));
                         }
                     });
}

}  // namespace qmq::internal
