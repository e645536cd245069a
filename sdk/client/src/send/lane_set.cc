#include "sdk/client/src/send/lane_set.h"

#include <algorithm>

namespace qmq::internal {

namespace {

/// So many open batches are worth to linger, whatever is answered: to send each of thousands with a
/// message or two costs more than it saves.
constexpr std::size_t kFewBatches = 64;
/// A frame is closed when it has reached this; one large batch may exceed it.
constexpr std::uint64_t kFrameBytes = 1U << 20;
constexpr std::size_t kFrameBatches = 64;

/// Asks early for the memory that taking the batches behind the oldest open one will look at. The
/// cursor goes ahead by one batch for each that is taken, and what it looks at was asked for one
/// step before.
class OpenPrefetcher {
public:
    explicit OpenPrefetcher(const Lane& lane) {
        const PendingBatch* at = lane.open.front();
        for (std::size_t i = 0; i < kFar && at != nullptr; ++i) {
            if (i == kNear) {
                near_ = at;
            }
            at = at->link.behind;
        }
        far_ = at;
    }
    void Step() {
        if (far_ != nullptr) {
            far_ = far_->link.behind;
            Prefetch(far_, far_ == nullptr ? 0 : sizeof(PendingBatch));
        }
        if (near_ != nullptr) {
            near_ = near_->link.behind;
            if (near_ != nullptr) {
                Prefetch(near_->subject, sizeof(SubjectQueue));
            }
        }
    }

private:
    static constexpr std::size_t kFar = 8;
    static constexpr std::size_t kNear = 4;

    const PendingBatch* near_ = nullptr;
    const PendingBatch* far_ = nullptr;
};

}  // namespace

LaneSet::LaneSet(ClientRuntime& runtime, const ProducerOptions& options, Batcher& batcher)
    : runtime_(runtime), options_(options), batcher_(batcher), random_(runtime.MakeRandom()) {}

LaneSet::~LaneSet() {
    for (const auto& [name, lane] : lanes_) {
        lane->connection.reset();
        lane->link.reset();
        lane->queue.Clear();
        lane->open.Clear();
    }
}

void LaneSet::NoteNews(Lane& lane) {
    if (!lane.has_news) {
        lane.has_news = true;
        news_.push_back(&lane);
    }
}

LanePtr LaneSet::TakeNews() {
    if (became_available_) {
        AssignUnrouted();
    }
    if (news_.empty()) {
        return nullptr;
    }
    Lane* const lane = news_.back();
    news_.pop_back();
    lane->has_news = false;
    return lane->shared_from_this();
}

bool LaneSet::HasSlot(const Lane& lane, TimePoint now) const {
    return lane.connection != nullptr && !lane.pumping && lane.window.HasRoom() &&
           now >= lane.blocked_until;
}

bool LaneSet::CanSend(const Lane& lane, TimePoint now) const {
    return HasSlot(lane, now) && (!lane.queue.empty() || MayTakeOpen(lane, IsEager(lane), now));
}

/// Whether the oldest open batch may go. One that has lingered takes messages until there is room.
bool LaneSet::MayTakeOpen(const Lane& lane, bool eager, TimePoint now) const {
    return !lane.open.empty() && (eager || now - lane.open.front()->opened >= options_.linger);
}

/// Whether what is gathered goes without waiting for more.
bool LaneSet::IsEager(const Lane& lane) const {
    return options_.linger.count() == 0 ||
           (lane.window.IsNearlyEmpty() && !pace_.is_burst() && lane.open.count() <= kFewBatches);
}

void LaneSet::NoteDue(const Lane& lane, TimePoint now) {
    if (lane.blocked_until != TimePoint{}) {
        due_ = std::min(due_, lane.blocked_until);
    }
    // Where there is no room an answer makes some, and sends what has lingered.
    if (!lane.open.empty() && HasSlot(lane, now)) {
        due_ = std::min(due_, lane.open.front()->opened + options_.linger);
    }
}

void LaneSet::OnGathered(const SubjectQueue& queue, TimePoint now) {
    // The first message of a batch may linger from now on, which the timer must know.
    Lane* const lane = queue.gathered.lane;
    if (lane != nullptr && (queue.gathered.count == 1 || CanSend(*lane, now))) {
        NoteNews(*lane);
    }
}

void LaneSet::OnSend(TimePoint now) {
    if (pace_.OnSend(now)) {
        NoteOpen();
    }
}

void LaneSet::EndBurst() {
    if (pace_.End()) {
        NoteOpen();
    }
}

/// What gathers may go now, in every lane.
void LaneSet::NoteOpen() {
    for (const auto& [name, lane] : lanes_) {
        if (!lane->open.empty()) {
            NoteNews(*lane);
        }
    }
}

void LaneSet::OnTime(TimePoint now) {
    for (const auto& [name, lane] : lanes_) {
        if (lane->blocked_until != TimePoint{} && lane->blocked_until <= now) {
            lane->blocked_until = {};
            became_available_ = true;
        }
        NoteNews(*lane);
    }
}

void LaneSet::Seal(SubjectQueue& queue) {
    BatchPtr batch = batcher_.Close(queue);
    if (batch == nullptr) {
        return;
    }
    if (IsBehind(queue, *batch)) {
        batch->place = PendingBatch::Place::kBehind;
        queue.details->in_order->behind.PushBack(std::move(batch));
    } else if (batch->lane == nullptr) {
        batch->place = PendingBatch::Place::kUnrouted;
        queue.details->unrouted.PushBack(std::move(batch));
        NoteUnrouted(queue);
    } else {
        Lane& lane = *batch->lane;
        batch->place = PendingBatch::Place::kQueued;
        lane.queue.PushBack(std::move(batch));
        NoteNews(lane);
    }
}

void LaneSet::OnDone(PendingBatch& batch) {
    SubjectQueue& queue = *batch.subject;
    batch.place = PendingBatch::Place::kDone;
    BatchList::Remove(batch);
    InOrder* const in_order = queue.details->in_order.get();
    if (in_order != nullptr && in_order->current == &batch) {
        in_order->current = nullptr;
        NextInOrder(queue);
    }
}

void LaneSet::NextInOrder(SubjectQueue& queue) {
    InOrder& in_order = *queue.details->in_order;
    if (BatchPtr next = in_order.behind.PopFront(); next != nullptr) {
        in_order.current = next.get();
        Place(next, false);
    } else if (queue.open != nullptr) {
        in_order.current = queue.open.get();
        AssignOpen(queue);
    }
}

void LaneSet::Replace(PendingBatch& batch, const std::vector<BatchPtr>& singles) {
    if (InOrder* const in_order = batch.subject->details->in_order.get(); in_order != nullptr) {
        // One after another, as everything of these keys.
        for (auto single = singles.rbegin(); single != singles.rend(); ++single) {
            (*single)->place = PendingBatch::Place::kBehind;
            in_order->behind.PushFront(*single);
        }
    } else {
        for (const BatchPtr& single : singles) {
            Place(single, false);
        }
    }
    OnDone(batch);
}

std::shared_ptr<Frame> LaneSet::TakeFrame(const LanePtr& lane, TimePoint now) {
    if (!lane->link->Acquire()) {
        (void)IsResting(*lane);
        Reroute(*lane);
        return nullptr;
    }
    auto frame = std::make_shared<Frame>();
    frame->lane = lane;
    frame->link = lane->link;
    std::uint64_t bytes = 0;
    const auto take = [&](BatchPtr batch) {
        if (batch->staged.empty()) {
            batch->place = PendingBatch::Place::kInFlight;
        } else {
            batch->place = PendingBatch::Place::kEncoding;
            frame->staged = true;
            batcher_.Prepare(*batch);
        }
        batch->machine.OnSent();
        batch->frame = frame;
        bytes += batch->bytes;
        frame->sends.push_back(
            {std::string(batch->subject->details->name), {}, options_.durability});
        frame->batches.push_back(std::move(batch));
    };
    const auto has_room = [&] {
        return bytes < kFrameBytes && frame->batches.size() < kFrameBatches;
    };
    const bool eager = IsEager(*lane);
    while (has_room() && !lane->queue.empty()) {
        take(lane->queue.PopFront());
    }
    OpenPrefetcher prefetcher(*lane);
    while (has_room() && MayTakeOpen(*lane, eager, now)) {
        prefetcher.Step();
        take(batcher_.Close(*lane->open.front()->subject));
    }
    if (frame->batches.empty()) {
        return nullptr;
    }
    lane->window.OnSent(frame->batches.size());
    in_flight_batches_ += frame->batches.size();
    return frame;
}

void LaneSet::OnFrameDone(const Frame& frame, bool answered) {
    Lane& lane = *frame.lane;
    lane.window.OnAnswered(frame.batches.size());
    in_flight_batches_ -= frame.batches.size();
    if (answered && lane.blocked_until != TimePoint{}) {
        lane.blocked_until = {};
        became_available_ = true;
    }
    if (lane.subjects > 0) {
        NoteNews(lane);
    }
}

void LaneSet::Clear() {
    for (const auto& [name, lane] : lanes_) {
        lane->connection = nullptr;
        lane->queue.Clear();
        lane->open.Clear();
    }
    unrouted_.Clear();
}

std::string LaneSet::FindStuck(TimePoint now, TimePoint timer) const {
    const bool timer_is_due = timer <= now;
    for (const auto& [name, lane] : lanes_) {
        if (lane->has_news) {
            return "lane " + name + " has news that nobody has looked at";
        }
        if (timer_is_due || lane->handed_over || !CanSend(*lane, now)) {
            continue;
        }
        return "lane " + name + " has room, and " + std::to_string(lane->queue.count()) +
               " batches queued and " + std::to_string(lane->open.count()) + " open";
    }
    if (became_available_) {
        return "a lane became available, and nobody has looked at what waits for one";
    }
    constexpr std::size_t kMostLookedAt = 256;  // It is asked after every step of a test.
    std::size_t looked_at = 0;
    std::string stuck;
    unrouted_.ForEach([&](const SubjectDetails& details) {
        const SubjectQueue& queue = details.queue;
        const bool waits =
            !details.unrouted.empty() || (queue.open != nullptr && queue.open->lane == nullptr);
        for (const LanePtr& lane : details.lanes) {
            if (waits && !timer_is_due && lane->connection != nullptr && lane->writable &&
                now >= lane->blocked_until && lane->link->WouldAllow()) {
                stuck = "subject " + std::string(details.name) + " waits for a lane, and " +
                        lane->link->name() + " is available";
            }
        }
        return ++looked_at < kMostLookedAt;
    });
    return stuck;
}

}  // namespace qmq::internal
