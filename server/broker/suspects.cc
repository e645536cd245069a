#include "server/broker/suspects.h"

#include <algorithm>

namespace qmq::broker {

namespace {
/// How long a member that drains may take for the next one of those that it holds, at first, and
/// how long it is left alone, at least, when that was too short.
constexpr ShardMs kPatienceMs = 5'000;
constexpr ShardMs kLeftAloneMs = 30'000;
}  // namespace

/// A member that comes nearer to its end goes on to drain, however much it holds. One that does not
/// has something long to do: the next time it is given twice the time, so that a suspect does not
/// wait for ever either, and is left alone for as long as that has cost.
void Suspects::EndDrain(Group& group) {
    const ShardMs now = core_.Now();
    if (group.draining == nullptr || now < group.drain_end_ms) {
        return;
    }
    Consumer& consumer = *group.draining;
    if (consumer.held.count() < group.drain_held) {
        group.drain_held = consumer.held.count();
        group.drain_end_ms = now + consumer.drain_patience_ms;
        return;
    }
    group.draining = nullptr;
    consumer.no_drain_before_ms = now + std::max(kLeftAloneMs, consumer.drain_patience_ms);
    consumer.drain_patience_ms =
        std::min(2 * consumer.drain_patience_ms,
                 std::max<ShardMs>(kPatienceMs, consumer.settings.ack_timeout.count()));
}

Suspects::Turn Suspects::TurnOf(Consumer& consumer) {
    Group& group = *consumer.group;
    if (consumer.held.suspect_count() > 0) {
        return Turn::kNothing;
    }
    const bool drains = group.draining == &consumer;
    if (!group.has_suspects() || !planner_.HasSuspectFor(consumer)) {
        group.draining = drains ? nullptr : group.draining;
        return Turn::kAnything;
    }
    if (consumer.held.count() == 0) {
        group.draining = drains ? nullptr : group.draining;
        consumer.drain_patience_ms = 0;
        return Turn::kSuspect;
    }
    const ShardMs now = core_.Now();
    if (drains) {
        return Turn::kNothing;
    }
    if (group.draining != nullptr || now < consumer.no_drain_before_ms || !MayDrain(consumer)) {
        return Turn::kAnything;
    }
    group.draining = &consumer;
    group.drain_held = consumer.held.count();
    consumer.drain_patience_ms = std::max(kPatienceMs, consumer.drain_patience_ms);
    group.drain_end_ms = now + consumer.drain_patience_ms;
    return Turn::kNothing;
}

/// Not while another member is free for the suspect, nor when half of them have one already: the
/// rest of the messages must flow, too.
bool Suspects::MayDrain(const Consumer& consumer) const {
    std::size_t with_suspect = 0;
    for (const Consumer* member : consumer.group->members) {
        with_suspect += member->held.suspect_count() > 0 ? 1U : 0U;
        if (member->held.count() == 0 && member->has_room() && planner_.HasSuspectFor(*member)) {
            return false;
        }
    }
    return with_suspect * 2 < consumer.group->members.size();
}

bool Suspects::Forget(const Consumer& consumer) {
    if (consumer.group->draining != &consumer) {
        return false;
    }
    consumer.group->draining = nullptr;
    return true;
}

ShardMs Suspects::WakeAt(const Group& group, ShardMs now) {
    if (!group.has_suspects()) {
        return -1;
    }
    if (group.draining != nullptr) {
        return group.drain_end_ms;
    }
    ShardMs next = -1;
    for (const Consumer* member : group.members) {
        if (member->no_drain_before_ms > now && (next < 0 || member->no_drain_before_ms < next)) {
            next = member->no_drain_before_ms;
        }
    }
    return next;
}

}  // namespace qmq::broker
