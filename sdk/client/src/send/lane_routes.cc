// Which lane a batch takes, and what becomes of batches when routes and links change.

#include <algorithm>
#include <functional>

#include "sdk/client/src/send/lane_set.h"

namespace qmq::internal {

namespace {

constexpr std::chrono::milliseconds kProbePause{100};

/// The broker group of a queue for keys: the one with the highest score. So a group that comes or
/// goes takes along only the queues that it wins or had.
std::uint64_t Score(const std::string& broker_group, std::size_t key_index) {
    std::uint64_t mixed =
        std::hash<std::string>()(broker_group) + 0x9e3779b97f4a7c15 * (key_index + 1);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

}  // namespace

/// Whether the circuit breaker keeps the lane from sending; then the timer looks again.
bool LaneSet::IsResting(Lane& lane) {
    if (lane.link->WouldAllow()) {
        return false;
    }
    // While a probe is out its answer ends the rest; the time is for an answer that never comes.
    const TimePoint now = runtime_.Now();
    lane.blocked_until = std::max(lane.link->next_probe().value_or(now), now + kProbePause);
    due_ = std::min(due_, lane.blocked_until);
    return true;
}

bool LaneSet::IsAvailable(Lane& lane) {
    if (lane.connection == nullptr) {
        lane.link->Retry();
        return false;
    }
    return lane.writable && !IsResting(lane);
}

LanePtr LaneSet::PickLane(SubjectQueue& queue, const Lane* avoid) {
    const std::pmr::vector<LanePtr>& lanes = queue.details->lanes;
    std::optional<std::size_t> avoided;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
        if (lanes[i].get() == avoid) {
            avoided = i;
        }
    }
    const auto picked = queue.details->selector.Pick(
        lanes.size(), avoided, [&](std::size_t index) { return IsAvailable(*lanes[index]); });
    return picked.has_value() ? lanes[*picked] : nullptr;
}

void LaneSet::OnOpened(SubjectQueue& queue) {
    if (InOrder* const in_order = queue.details->in_order.get(); in_order != nullptr) {
        if (in_order->current != nullptr) {
            return;  // It goes when its turn comes.
        }
        in_order->current = queue.open.get();
        if (queue.details->lanes.empty()) {
            RouteKeyQueue(*queue.details);
        }
    }
    AssignOpen(queue);
}

/// Gives the open batch a lane, if it has none and may have one.
void LaneSet::AssignOpen(SubjectQueue& queue) {
    const BatchPtr& open = queue.open;
    if (open == nullptr || open->lane != nullptr || IsBehind(queue, *open)) {
        return;
    }
    LanePtr lane = PickLane(queue, nullptr);
    if (lane == nullptr) {
        NoteUnrouted(queue);
        return;
    }
    lane->open.PushBack(open);
    NoteNews(*lane);
    queue.gathered.lane = lane.get();
    open->lane = std::move(lane);
}

/// Queues a sealed batch where it can go now, or with those that wait for a lane. `first`: before
/// what came later.
void LaneSet::Place(const BatchPtr& batch, bool first) {
    SubjectQueue& queue = *batch->subject;
    const LanePtr before = std::exchange(batch->lane, nullptr);
    LanePtr lane = PickLane(queue, before.get());
    BatchList& list = lane != nullptr ? lane->queue : queue.details->unrouted;
    batch->place = lane != nullptr ? PendingBatch::Place::kQueued : PendingBatch::Place::kUnrouted;
    if (first) {
        list.PushFront(batch);
    } else {
        list.PushBack(batch);
    }
    if (lane != nullptr) {
        NoteNews(*lane);
    } else {
        NoteUnrouted(queue);
    }
    batch->lane = std::move(lane);
}

void LaneSet::Retry(const BatchPtr& batch) {
    Place(batch, true);
}

/// Gives lanes to what `queue` has without one.
void LaneSet::Assign(SubjectQueue& queue) {
    ++looked_at_;
    for (std::size_t left = queue.details->unrouted.count(); left > 0; --left) {
        Place(queue.details->unrouted.PopFront(), false);
    }
    AssignOpen(queue);
}

/// A queue without a route is not in the list: its route, when it comes, gives it lanes. So the
/// first sends of thousands of subjects are looked at once each.
void LaneSet::NoteUnrouted(SubjectQueue& queue) {
    if (!queue.details->lanes.empty() && !queue.details->unrouted_hook.is_linked()) {
        unrouted_.PushBack(queue.details->unrouted_hook);
    }
}

void LaneSet::AssignUnrouted() {
    became_available_ = false;
    HookList<SubjectDetails> waited;
    waited.TakeAll(unrouted_);
    while (!waited.empty()) {
        SubjectDetails& next = waited.front();
        waited.PopFront();
        Assign(next.queue);
    }
}

/// Takes everything that has not been sent off a lane that cannot carry it.
void LaneSet::Reroute(Lane& lane) {
    for (std::size_t left = lane.queue.count(); left > 0; --left) {
        Place(lane.queue.PopFront(), false);
    }
    for (std::size_t left = lane.open.count(); left > 0; --left) {
        const BatchPtr batch = lane.open.PopFront();
        batch->lane = nullptr;
        batch->subject->gathered.lane = nullptr;
        AssignOpen(*batch->subject);
    }
}

void LaneSet::OnLink(BrokerLink& link) {
    const auto found = lanes_.find(link.name());
    if (found == lanes_.end() || found->second->link.get() != &link) {
        return;
    }
    const LanePtr lane = found->second;
    auto connection = link.connection();
    if (connection == lane->connection) {
        return;
    }
    lane->connection = std::move(connection);
    lane->blocked_until = {};
    NoteNews(*lane);
    if (lane->connection == nullptr) {
        Reroute(*lane);
    } else {
        became_available_ = true;
    }
}

void LaneSet::OnRoute(SubjectQueue& subject,
                      const std::vector<RouteEntry>& entries,
                      const std::weak_ptr<LinkObserver>& observer) {
    std::pmr::vector<LanePtr> route(subject.details->lanes.get_allocator());
    for (const RouteEntry& entry : entries) {
        LanePtr& lane = lanes_[entry.link->name()];
        if (lane == nullptr) {
            lane = std::make_shared<Lane>(options_.max_in_flight_frames);
        }
        if (lane->link != entry.link) {
            lane->link = entry.link;
            lane->link->AddObserver(observer);
            lane->connection = lane->link->connection();
            became_available_ = true;
        }
        became_available_ = became_available_ || (entry.writable && !lane->writable);
        lane->writable = entry.writable;
        ++lane->subjects;
        NoteNews(*lane);
        route.push_back(lane);
    }
    LeaveRoute(subject);
    if (subject.details->lanes.empty() && !route.empty()) {
        subject.details->selector.StartAt(random_.Below(route.size()));
    }
    subject.details->lanes = std::move(route);
    subject.details->route_error = Status::Ok();
    // Only this subject has a new route: to look at all of them for each answer would be the square
    // of ten thousand.
    Assign(subject);
    AssignKeys(subject);
    DropUnusedLanes();
}

void LaneSet::LeaveRoute(SubjectQueue& subject) {
    for (const LanePtr& lane : subject.details->lanes) {
        --lane->subjects;
    }
}

void LaneSet::AssignKeys(SubjectQueue& subject) {
    if (subject.details->keys == nullptr) {
        return;
    }
    for (const auto& queue : subject.details->keys->queues) {
        if (queue != nullptr) {
            RouteKeyQueue(*queue->details);
            Assign(*queue);
        }
    }
}

/// A queue for keys has one broker group of its subject's route, whether that is connected or not.
void LaneSet::RouteKeyQueue(SubjectDetails& details) {
    LanePtr best;
    std::uint64_t best_score = 0;
    for (const LanePtr& lane : details.owner->lanes) {
        const std::uint64_t score = Score(lane->link->name(), details.key_index);
        if (lane->writable && (best == nullptr || score > best_score)) {
            best = lane;
            best_score = score;
        }
    }
    details.lanes.clear();
    if (best != nullptr) {
        details.lanes.push_back(std::move(best));
    }
    details.route_error = details.owner->route_error;
}

void LaneSet::DropUnusedLanes() {
    for (auto it = lanes_.begin(); it != lanes_.end();) {
        const LanePtr lane = it->second;
        if (lane->subjects > 0) {
            ++it;
            continue;
        }
        it = lanes_.erase(it);
        std::erase(news_, lane.get());
        lane->has_news = false;
        lane->connection = nullptr;
        Reroute(*lane);
    }
}

}  // namespace qmq::internal
