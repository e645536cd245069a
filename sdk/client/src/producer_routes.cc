// Which lane a producer's batches take, and what becomes of them when routes and links change.

#include <algorithm>
#include <utility>

#include "sdk/client/src/producer_core.h"

namespace qmq::internal {

namespace {

constexpr std::chrono::milliseconds kProbePause{100};

}  // namespace

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
