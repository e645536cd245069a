#include "server/broker/acks.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

constexpr std::chrono::milliseconds kMostDelay = std::chrono::hours(24 * 365);
/// Wait before leases that could not be logged as over (a full disk) are looked at again.
constexpr ShardMs kRetryMs = 1'000;

/// Ascending, without overlap; those that touch become one.
void Merge(std::vector<PullRange>& ranges) {
    std::sort(ranges.begin(), ranges.end(), [](const PullRange& a, const PullRange& b) {
        return a.first < b.first;
    });
    std::size_t kept = 0;
    for (const PullRange& range : ranges) {
        if (kept > 0 && range.first <= ranges[kept - 1].last + 1) {
            ranges[kept - 1].last = std::max(ranges[kept - 1].last, range.last);
        } else {
            ranges[kept++] = range;
        }
    }
    ranges.resize(kept);
}

/// What is held of `range`, as runs.
void CollectHeld(Consumer& consumer, PullRange range, std::vector<PullRange>& runs) {
    consumer.held.ForEach(range, [&runs](std::uint64_t pull, const Held&) {
        if (!runs.empty() && runs.back().last + 1 == pull) {
            runs.back().last = pull;
        } else {
            runs.push_back(PullRange{pull, pull});
        }
    });
}

std::uint64_t CountOf(const std::vector<PullRange>& ranges) {
    std::uint64_t count = 0;
    for (const PullRange& range : ranges) {
        count += range.last - range.first + 1;
    }
    return count;
}

/// The size of a range that may be as large as all numbers.
std::uint64_t SizeOf(PullRange range) {
    const std::uint64_t size = range.last - range.first;
    return size == std::numeric_limits<std::uint64_t>::max() ? size : size + 1;
}

/// [planted] All that was handed out in one piece with what is held of `range`.
PullRange Widen(Consumer& consumer, PullRange range) {
    const auto meet = [&consumer](std::uint64_t pull) {
        const Held* a = consumer.held.Find(pull);
        const Held* b = consumer.held.Find(pull + 1);
        return a != nullptr && b != nullptr && a->Continues(*b);
    };
    while (meet(range.last)) {
        ++range.last;
    }
    while (range.first > 0 && meet(range.first - 1)) {
        --range.first;
    }
    return range;
}

}  // namespace

Status ValidateAcks(const std::vector<AckItem>& items) {
    for (std::size_t i = 0; i < items.size(); ++i) {
        const AckItem& item = items[i];
        if (item.first > item.last) {
            return Status::InvalidArgument("ack item " + std::to_string(i) + ": first " +
                                           std::to_string(item.first) + " is after last " +
                                           std::to_string(item.last));
        }
        if (item.delay && (item.delay->count() < 0 || *item.delay > kMostDelay)) {
            return Status::InvalidArgument("ack item " + std::to_string(i) + ": delay of " +
                                           std::to_string(item.delay->count()) +
                                           " ms; it ranges from 0 to 365 days");
        }
    }
    return {};
}

void Acks::Add(Consumer* consumer, const std::vector<AckItem>& items, AckDone done) {
    round_.push_back(Waiting{std::move(done), Judge(consumer, items)});
}

Result<AckReply> Acks::Judge(Consumer* consumer, const std::vector<AckItem>& items) {
    if (!core_.stopped.ok()) {
        return core_.stopped;
    }
    if (consumer != nullptr) {
        return Apply(*consumer, items);
    }
    AckReply reply;
    for (const AckItem& item : items) {
        reply.not_held_count += SizeOf({item.first, item.last});
    }
    return reply;
}

Result<AckReply> Acks::Apply(Consumer& consumer, const std::vector<AckItem>& items) {
    const bool was_full = consumer.held.count() >= core_.options.max_in_flight_per_consumer;
    AckReply reply;
    std::vector<PullRange> acks;
    for (std::size_t i = 0; i < items.size(); ++i) {
        const AckItem& item = items[i];
        if (env::Planted(env::PlantedBug::kDropAck) && ++ack_count_ % 32 == 0) {
            continue;
        }
        // Neighbouring acks are one record.
        if (item.verdict == AckVerdict::kAck) {
            acks.clear();
            std::uint64_t asked = 0;
            for (; i < items.size() && items[i].verdict == AckVerdict::kAck; ++i) {
                asked += SizeOf({items[i].first, items[i].last});
                acks.push_back(PullRange{items[i].first, items[i].last});
            }
            --i;
            const std::uint32_t before = consumer.held.count();
            if (Status status = ApplyAcks(consumer, acks); !status.ok()) {
                return status;
            }
            reply.not_held_count +=
                asked - std::min<std::uint64_t>(asked, before - consumer.held.count());
            continue;
        }
        std::vector<PullRange> held;
        CollectHeld(consumer, {item.first, item.last}, held);
        reply.not_held_count += SizeOf({item.first, item.last}) - CountOf(held);
        if (Status status = ApplyOther(consumer, item); !status.ok()) {
            return status;
        }
    }
    if (was_full && consumer.held.count() < core_.options.max_in_flight_per_consumer) {
        delivery_.MarkReady(*consumer.group);
    }
    return reply;
}

Status Acks::ApplyAcks(Consumer& consumer, std::vector<PullRange> ranges) {
    Merge(ranges);
    Acked action;
    for (PullRange range : ranges) {
        if (env::Planted(env::PlantedBug::kAckWholeBatch)) {
            range = Widen(consumer, range);
        }
        CollectHeld(consumer, range, action.ranges);
    }
    if (action.ranges.empty()) {
        return {};
    }
    if (env::Planted(env::PlantedBug::kAckWholeBatch)) {
        Merge(action.ranges);
    }
    action.consumer = NamesOf(consumer);
    const Action logged(std::move(action));
    Result<store::LogOffset> end = core_.Append(logged);
    if (!end.ok()) {
        return end.status();
    }
    for (const PullRange& range : std::get<Acked>(logged).ranges) {
        core_.state.Ack(consumer, range);
    }
    return {};
}

Status Acks::ApplyOther(Consumer& consumer, const AckItem& item) {
    const PullRange range{item.first, item.last};
    switch (item.verdict) {
        case AckVerdict::kAck:
            return ApplyAcks(consumer, {range});
        case AckVerdict::kRetry:
            return Retry(consumer, item);
        case AckVerdict::kDeadLetter:
            // A dead letter that is given up lies where it belongs already.
            return consumer.group->in_place()
                       ? ApplyAcks(consumer, {range})
                       : mover_.MoveHeld(consumer, range, {true, std::nullopt, item.error});
        case AckVerdict::kRenew:
            Renew(consumer, range);
            return {};
        case AckVerdict::kRelease:
            return GiveBack(consumer, range, false);
    }
    return Status::InvalidArgument("unknown verdict " +
                                   std::to_string(static_cast<unsigned>(item.verdict)));
}

Status Acks::Retry(Consumer& consumer, const AckItem& item) {
    Group& group = *consumer.group;
    const PullRange range{item.first, item.last};
    if (!group.in_place()) {
        return mover_.MoveHeld(consumer, range, {false, item.delay, item.error});
    }
    std::vector<PullRange> held;
    CollectHeld(consumer, range, held);
    if (held.empty()) {
        return {};
    }
    const std::uint32_t attempt = consumer.held.Find(held.front().first)->attempt();
    Deferred action;
    action.consumer = NamesOf(consumer);
    action.due_ms =
        core_.WallMs() + item.delay.value_or(Mover::Backoff(group.policy, attempt)).count();
    action.ranges = std::move(held);
    const Action logged(std::move(action));
    Result<store::LogOffset> end = core_.Append(logged);
    if (!end.ok()) {
        return end.status();
    }
    const auto& deferred = std::get<Deferred>(logged);
    for (const PullRange& part : deferred.ranges) {
        core_.state.Defer(consumer, part, deferred.due_ms);
    }
    delivery_.MarkReady(group);
    return {};
}

Status Acks::GiveBack(Consumer& consumer, PullRange range, bool counted) {
    Released action;
    CollectHeld(consumer, range, action.ranges);
    if (action.ranges.empty()) {
        return {};
    }
    action.consumer = NamesOf(consumer);
    action.counted = counted;
    const Action logged(std::move(action));
    Result<store::LogOffset> end = core_.Append(logged);
    if (!end.ok()) {
        return end.status();
    }
    for (const PullRange& part : std::get<Released>(logged).ranges) {
        core_.state.Release(consumer, part, counted);
    }
    delivery_.MarkReady(*consumer.group);
    return {};
}

void Acks::Renew(Consumer& consumer, PullRange range) {
    const ShardMs deadline = core_.Now() + consumer.settings.ack_timeout.count();
    consumer.held.ForEach(
        range, [deadline](std::uint64_t, Held& held) { held.set_deadline_ms(deadline); });
}

void Acks::ExpireLeases(Consumer& consumer) {
    const ShardMs now = core_.Now();
    ShardMs next = -1;
    std::vector<PullRange> over;
    consumer.held.ForEach([&](std::uint64_t pull, const Held& held) {
        if (held.deadline_ms() > now) {
            next = next < 0 ? held.deadline_ms() : std::min(next, held.deadline_ms());
        } else if (!over.empty() && over.back().last + 1 == pull) {
            over.back().last = pull;
        } else {
            over.push_back(PullRange{pull, pull});
        }
    });
    for (const PullRange& range : over) {
        if (!GiveBack(consumer, range, true).ok()) {
            next = now + kRetryMs;
            break;
        }
    }
    if (next >= 0) {
        core_.timers.Set(consumer, TimerKind::kLease, next);
    }
}

void Acks::OnWritten(const Status& status) {
    for (Waiting& waiting : std::exchange(round_, {})) {
        ++answered_;
        waiting.done(status.ok() ? std::move(waiting.reply) : Result<AckReply>(status));
    }
}

}  // namespace qmq::broker
