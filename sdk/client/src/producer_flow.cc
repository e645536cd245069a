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
constexpr std::chrono::milliseconds kProbePause{100};

}  // namespace

/// Null when there is none. The batch has then all that was gathered for it.
ProducerCore::BatchPtr ProducerCore::CloseOpen(SubjectQueue& subject) {
    BatchPtr batch = std::move(subject.open);
    subject.open = nullptr;
    if (batch == nullptr) {
        return nullptr;
    }
    open_count_.store(open_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    Gathered gathered = std::exchange(subject.gathered, {});
    batch->count = gathered.count;
    batch->bytes = gathered.bytes;
    batch->staged = std::move(gathered.staged);
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

/// Whether the circuit breaker keeps the lane from sending; then the timer looks again.
bool ProducerCore::IsResting(Lane& lane) {
    if (lane.link->WouldAllow()) {
        return false;
    }
    // While a probe is out its answer ends the rest; the time is for an answer that never comes.
    const TimePoint now = runtime_->Now();
    lane.blocked_until = std::max(lane.link->next_probe().value_or(now), now + kProbePause);
    return true;
}

ProducerCore::LanePtr ProducerCore::PickLane(SubjectQueue& subject, const Lane* avoid) {
    std::optional<std::size_t> avoided;
    for (std::size_t i = 0; i < subject.details->lanes.size(); ++i) {
        if (subject.details->lanes[i].get() == avoid) {
            avoided = i;
        }
    }
    const auto picked = subject.details->selector.Pick(
        subject.details->lanes.size(), avoided, [this, &subject](std::size_t index) {
            Lane& lane = *subject.details->lanes[index];
            return lane.connection != nullptr && lane.writable && !IsResting(lane);
        });
    return picked.has_value() ? subject.details->lanes[*picked] : nullptr;
}

void ProducerCore::AssignOpen(SubjectQueue& subject) {
    if (subject.open == nullptr || subject.open->lane != nullptr) {
        return;
    }
    LanePtr lane = PickLane(subject, nullptr);
    if (lane == nullptr) {
        stranded_ = true;
        return;
    }
    lane->AddOpen(subject.open);
    subject.gathered.lane = lane.get();
    subject.open->lane = std::move(lane);
}

/// Queues a sealed batch where it can go now, or strands it. `first`: before what came later.
void ProducerCore::Place(const BatchPtr& batch, bool first) {
    const LanePtr before = std::exchange(batch->lane, nullptr);
    LanePtr lane = PickLane(*batch->subject, before.get());
    auto& queue = lane != nullptr ? lane->queue : batch->subject->details->stranded;
    batch->place = lane != nullptr ? PendingBatch::Place::kQueued : PendingBatch::Place::kStranded;
    stranded_ = stranded_ || lane == nullptr;
    batch->lane = std::move(lane);
    if (first) {
        queue.push_front(batch);
    } else {
        queue.push_back(batch);
    }
}

void ProducerCore::AssignStranded() {
    if (!std::exchange(stranded_, false)) {
        return;  // The usual case, and there may be ten thousand subjects.
    }
    for (SubjectQueue& subject : subjects_.all()) {
        AssignSubject(subject);
    }
}

void ProducerCore::AssignSubject(SubjectQueue& subject) {
    if (!subject.details->stranded.empty()) {
        for (const BatchPtr& batch : std::exchange(subject.details->stranded, {})) {
            if (batch->place == PendingBatch::Place::kStranded) {
                Place(batch, false);
            }
        }
    }
    AssignOpen(subject);
}

/// Takes everything that has not been sent off a lane that cannot carry it.
void ProducerCore::Evacuate(Lane& lane) {
    std::deque<BatchPtr> queue = std::exchange(lane.queue, {});
    for (const BatchPtr& batch : queue) {
        if (batch->place == PendingBatch::Place::kQueued) {
            Place(batch, false);
        }
    }
    lane.open_count = 0;
    for (const BatchPtr& batch : std::exchange(lane.open, {})) {
        if (batch->place == PendingBatch::Place::kOpen) {
            batch->lane = nullptr;
            batch->subject->gathered.lane = nullptr;
            AssignOpen(*batch->subject);
        }
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

/// Brings the lane's view in line with its link. Notices of a link may overtake each other, so they
/// only say "look again".
void ProducerCore::SyncLane(Lock& lock, const LanePtr& lane) {
    auto connection = lane->link->connection();
    if (connection == lane->connection) {
        return;
    }
    lane->connection = std::move(connection);
    lane->blocked_until = {};
    if (lane->connection == nullptr) {
        Evacuate(*lane);
    }
    AssignStranded();
    PumpAll(lock);
}

void ProducerCore::OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> /*connection*/) {
    OnLinkDown(link, Status::Ok());
}

void ProducerCore::OnLinkDown(BrokerLink& link, const Status& /*status*/) {
    Lock lock(mutex_);
    auto found = lanes_.find(link.name());
    if (found != lanes_.end() && found->second->link.get() == &link) {
        SyncLane(lock, LanePtr(found->second));
    }
}

void ProducerCore::OnRouteError(const RouteKey& key, const Status& status) {
    Lock lock(mutex_);
    if (SubjectQueue* subject = subjects_.Find(key.subject); subject != nullptr) {
        subject->details->route_error = status;
    }
}

void ProducerCore::OnRoute(const RouteKey& key, const std::vector<BrokerGroup>& groups) {
    // Links are made without our lock: a transport may call back from inside Connect.
    std::vector<std::shared_ptr<BrokerLink>> links;
    for (const BrokerGroup& group : groups) {
        links.push_back(links_->Get(group));
    }
    Lock lock(mutex_);
    SubjectQueue* const found = subjects_.Find(key.subject);
    if (found == nullptr || abandoned_) {
        return;
    }
    SubjectQueue& subject = *found;
    std::vector<LanePtr> route;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        if (links[i] == nullptr) {
            continue;
        }
        LanePtr& lane = lanes_[groups[i].name];
        if (lane == nullptr) {
            lane = std::make_shared<Lane>();
        }
        if (lane->link != links[i]) {
            lane->link = links[i];
            lane->link->AddObserver(weak_from_this());
            lane->connection = lane->link->connection();
        }
        lane->writable = groups[i].writable;
        ++lane->subjects;
        route.push_back(lane);
    }
    for (const LanePtr& lane : subject.details->lanes) {
        --lane->subjects;
    }
    if (subject.details->lanes.empty() && !route.empty()) {
        subject.details->selector.StartAt(random_.Below(route.size()));
    }
    subject.details->lanes = std::move(route);
    subject.details->route_error = Status::Ok();
    // Only this subject has a new route: to look at all of them for each answer would be the square
    // of ten thousand.
    AssignSubject(subject);
    if (DropUnusedLanes()) {
        AssignStranded();
    }
    PumpAll(lock);
}

/// Whether there were any: what they had has no lane now.
bool ProducerCore::DropUnusedLanes() {
    bool dropped = false;
    for (auto it = lanes_.begin(); it != lanes_.end();) {
        const LanePtr lane = it->second;
        if (lane->subjects > 0) {
            ++it;
            continue;
        }
        it = lanes_.erase(it);
        lane->connection = nullptr;
        Evacuate(*lane);
        dropped = true;
    }
    return dropped;
}

}  // namespace qmq::internal
