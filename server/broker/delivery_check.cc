#include <algorithm>

#include "server/broker/delivery.h"
#include "server/env/planted_bug.h"

/// What builds with planted bugs check after each round, so that no test passes over a wake-up that
/// was lost: the next event might hide it.
namespace qmq::broker {

namespace {

bool HasToBeSentAgain(const Consumer& consumer) {
    return consumer.held.NextHeld(consumer.resend_next, consumer.resend_end).has_value();
}

/// As `Planner` would find it, from the very beginning.
bool HasLoose(const Consumer& consumer) {
    for (const Origin origin : kOrigins) {
        const LooseQueue& queue = consumer.group->redelivery[static_cast<std::size_t>(origin)];
        if (Takes(consumer.source, origin) &&
            std::any_of(queue.begin(), queue.end(), [&](const auto& entry) {
                return (entry.second.refused & MaskOf(consumer.filter_slot)) == 0 &&
                       !queue.IsApart(entry.second);
            })) {
            return true;
        }
    }
    return false;
}

bool HasNew(const Consumer& consumer) {
    const Group& group = *consumer.group;
    const bool is_stopped = group.told != nullptr && group.told->stopped_at.has_value();
    return Takes(consumer.source, Origin::kSubject) && !is_stopped &&
           group.next_sequence < group.subject->readable_end;
}

}  // namespace

bool Delivery::HasDue(const Consumer& consumer) const {
    const Group& group = *consumer.group;
    if (group.waiting.empty() || !Takes(consumer.source, group.waiting_origin())) {
        return false;
    }
    const std::uint64_t readable_end = group.Log(group.waiting_origin())->readable_end;
    for (const Waiting* waiting : group.waiting.by_due()) {
        if (core_.DueAt(*waiting) > core_.Now()) {
            return waiting->sequence < readable_end && group.due_timer_ms < 0;
        }
        if (waiting->sequence < readable_end &&
            (waiting->refused & MaskOf(consumer.filter_slot)) == 0) {
            return true;
        }
    }
    return false;
}

/// Who has room, and would be given something by a visit, is in a group that will be visited.
void Delivery::CheckNobodyIsForgotten() const {
    if (!env::Planted(env::PlantedBug::kNone) || !core_.more_readable.empty()) {
        return;
    }
    core_.state.ForEachGroup([this](const Group& group) {
        const bool is_timed = group.due_timer_ms >= 0 && group.due_timer_ms <= core_.Now();
        // With suspects it is the turn of one and not of another.
        if (!group.durable || group.listed_ready || is_timed || group.has_suspects() ||
            group.draining != nullptr ||
            std::find(blocked_.begin(), blocked_.end(), &group) != blocked_.end()) {
            return;
        }
        for (const Consumer* consumer : group.members) {
            if (!consumer->has_room()) {
                continue;
            }
            QMQ_CHECK(!HasToBeSentAgain(*consumer), group.name + ": what did not arrive waits");
            if (consumer->held.count() >= core_.options.max_in_flight_per_consumer ||
                consumer->held.suspect_count() > 0 || consumer->filter_slot == kNoFilterSlot) {
                continue;
            }
            QMQ_CHECK(!HasLoose(*consumer), group.name + ": what was given back waits");
            QMQ_CHECK(!HasDue(*consumer), group.name + ": a retry waits");
            QMQ_CHECK(!HasNew(*consumer), group.name + ": what is new waits");
        }
    });
}

}  // namespace qmq::broker
