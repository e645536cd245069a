#include "server/broker/acks.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <span>

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Wait before leases that could not be logged as over (a full disk) are looked at again.
constexpr ShardMs kRetryMs = 1'000;

/// Least wait before a failed message comes again where it stays in place.
constexpr std::chrono::milliseconds kLeastBackoffInPlace{1'000};

/// Most ranges in one action: it fits into the smallest segment.
constexpr std::size_t kMostRanges = 1'024;

/// Whether `next`, which begins no earlier than `range`, leaves no gap behind it.
bool Meet(const PullRange& range, const PullRange& next) {
    if (env::Planted(env::PlantedBug::kUnreadableAck)) {
        return next.first <= range.last + 1;
    }
    return next.first == 0 || next.first - 1 <= range.last;
}

/// Ascending, without overlap; those that touch become one.
void Merge(std::vector<PullRange>& ranges) {
    std::sort(ranges.begin(), ranges.end(), [](const PullRange& a, const PullRange& b) {
        return a.first < b.first;
    });
    std::size_t kept = 0;
    for (const PullRange& range : ranges) {
        if (kept > 0 && Meet(ranges[kept - 1], range)) {
            ranges[kept - 1].last = std::max(ranges[kept - 1].last, range.last);
        } else {
            ranges[kept++] = range;
        }
    }
    ranges.resize(kept);
}

void AddPull(std::vector<PullRange>& runs, std::uint64_t pull) {
    if (!runs.empty() && runs.back().last + 1 == pull) {
        runs.back().last = pull;
    } else {
        runs.push_back(PullRange{pull, pull});
    }
}

/// What is held of `range`, as runs.
void CollectHeld(Consumer& consumer, PullRange range, std::vector<PullRange>& runs) {
    consumer.held.ForEach(range, [&runs](std::uint64_t pull, const Held&) { AddPull(runs, pull); });
}

/// Adds what of `range` is in none of `held`, which ascend and do not overlap.
void AddMissing(PullRange range, std::span<const PullRange> held, AckReply& reply) {
    std::uint64_t from = range.first;
    for (const PullRange& one : held) {
        if (one.last < from || one.first > range.last) {
            continue;
        }
        if (one.first > from) {
            reply.AddNotHeld({from, one.first - 1});
        }
        if (one.last >= range.last) {
            return;
        }
        from = one.last + 1;
    }
    reply.AddNotHeld({from, range.last});
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

std::vector<std::vector<PullRange>> Cut(const std::vector<PullRange>& ranges) {
    std::vector<std::vector<PullRange>> pieces;
    for (std::size_t begin = 0; begin < ranges.size(); begin += kMostRanges) {
        const std::size_t end = std::min(begin + kMostRanges, ranges.size());
        pieces.emplace_back(ranges.begin() + static_cast<std::ptrdiff_t>(begin),
                            ranges.begin() + static_cast<std::ptrdiff_t>(end));
    }
    return pieces;
}

std::vector<PullRange> BegunOf(Consumer& consumer, PullRange range) {
    std::vector<PullRange> begun;
    const bool all = env::Planted(env::PlantedBug::kCountHeld);
    consumer.held.ForEach(range, [&begun, all](std::uint64_t pull, const Held& held) {
        if (held.begun() || held.suspect() || all) {
            AddPull(begun, pull);
        }
    });
    return begun;
}

Status ValidateAcks(const std::vector<AckItem>& items, Durability best) {
    for (std::size_t i = 0; i < items.size(); ++i) {
        const AckItem& item = items[i];
        if (item.verdict > AckVerdict::kBegin) {
            return Status::InvalidArgument("ack item " + std::to_string(i) + ": unknown verdict " +
                                           std::to_string(static_cast<unsigned>(item.verdict)));
        }
        if (item.durability > best) {
            return Status::Unimplemented("ack item " + std::to_string(i) + ": durability " +
                                         std::string(ToString(item.durability)) +
                                         " was asked for, this broker has " +
                                         std::string(ToString(best)) + " at most");
        }
        if (item.first > item.last) {
            return Status::InvalidArgument("ack item " + std::to_string(i) + ": first " +
                                           std::to_string(item.first) + " is after last " +
                                           std::to_string(item.last));
        }
        if (item.delay && (item.delay->count() < 0 || *item.delay > kMostRetryDelay)) {
            return Status::InvalidArgument("ack item " + std::to_string(i) + ": delay of " +
                                           std::to_string(item.delay->count()) +
                                           " ms; it ranges from 0 to 7 days");
        }
    }
    return {};
}

void Acks::Add(Consumer* consumer,
               const std::vector<AckItem>& items,
               Durability promise,
               AckDone done) {
    Durability wanted = Durability::kMemory;
    for (const AckItem& item : items) {
        // Nothing of these two is logged.
        if (item.verdict == AckVerdict::kRenew || item.verdict == AckVerdict::kBegin) {
            continue;
        }
        wanted =
            std::max(wanted, item.durability == Durability::kDefault ? promise : item.durability);
    }
    round_.push_back(
        Waiting{wanted >= Durability::kFsync && !env::Planted(env::PlantedBug::kAckNotDurable),
                0,
                std::move(done),
                Judge(consumer, items)});
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
        if (item.verdict != AckVerdict::kBegin) {
            reply.AddNotHeld({item.first, item.last});
        }
    }
    return reply;
}

Result<AckReply> Acks::Apply(Consumer& consumer, const std::vector<AckItem>& items) {
    const bool was_full = consumer.held.count() >= core_.options.max_in_flight_per_consumer;
    const bool was_alone =
        consumer.held.suspect_count() > 0 && !env::Planted(env::PlantedBug::kSuspectEndsSilently);
    AckReply reply;
    const Status status = ApplyItems(consumer, items, reply);
    // Also where one failed: those before it are done.
    const bool may_take_suspect = consumer.held.count() == 0 && consumer.group->has_suspects();
    if ((was_full && consumer.held.count() < core_.options.max_in_flight_per_consumer) ||
        (was_alone && consumer.held.suspect_count() == 0) || may_take_suspect) {
        delivery_.MarkReady(*consumer.group);
    }
    return status.ok() ? Result<AckReply>(std::move(reply)) : Result<AckReply>(status);
}

/// One after another, until one fails.
Status Acks::ApplyItems(Consumer& consumer, const std::vector<AckItem>& items, AckReply& reply) {
    std::vector<PullRange> acks;
    for (std::size_t i = 0; i < items.size(); ++i) {
        const AckItem& item = items[i];
        if (env::Planted(env::PlantedBug::kDropAck) && ++ack_count_ % 32 == 0) {
            continue;
        }
        // Neighbouring acks are one record.
        if (item.verdict == AckVerdict::kAck) {
            acks.clear();
            for (; i < items.size() && items[i].verdict == AckVerdict::kAck; ++i) {
                acks.push_back(PullRange{items[i].first, items[i].last});
            }
            --i;
            if (Status status = ApplyAcks(consumer, acks, &reply); !status.ok()) {
                return status;
            }
            continue;
        }
        // A begin may be overtaken by the verdict itself, when a client sends from two threads;
        // then nothing came too late.
        if (item.verdict != AckVerdict::kBegin) {
            std::vector<PullRange> held;
            CollectHeld(consumer, {item.first, item.last}, held);
            std::sort(held.begin(), held.end(), [](const PullRange& a, const PullRange& b) {
                return a.first < b.first;
            });
            AddMissing({item.first, item.last}, held, reply);
        }
        if (Status status = ApplyOther(consumer, item); !status.ok()) {
            return status;
        }
    }
    return {};
}

Status Acks::ApplyAcks(Consumer& consumer, std::vector<PullRange> ranges, AckReply* reply) {
    Merge(ranges);
    std::vector<PullRange> held;
    for (PullRange range : ranges) {
        const PullRange asked = range;
        if (env::Planted(env::PlantedBug::kAckWholeBatch)) {
            range = Widen(consumer, range);
        }
        const std::size_t before = held.size();
        CollectHeld(consumer, range, held);
        if (reply != nullptr) {
            AddMissing(asked, std::span(held).subspan(before), *reply);
        }
    }
    if (env::Planted(env::PlantedBug::kAckWholeBatch)) {
        Merge(held);
    }
    for (std::vector<PullRange>& piece : Cut(held)) {
        const Action logged(Acked{NamesOf(consumer), std::move(piece)});
        Result<store::LogOffset> end = core_.Append(logged);
        if (!end.ok()) {
            return end.status();
        }
        for (const PullRange& range : std::get<Acked>(logged).ranges) {
            core_.state.Ack(consumer, range);
        }
    }
    return {};
}

Status Acks::ApplyOther(Consumer& consumer, const AckItem& item) {
    const PullRange range{item.first, item.last};
    switch (item.verdict) {
        case AckVerdict::kAck:
            return ApplyAcks(consumer, {range}, nullptr);
        case AckVerdict::kRetry:
            return Retry(consumer, item);
        case AckVerdict::kDeadLetter:
            // A dead letter that is given up lies where it belongs already.
            return consumer.group->in_place()
                       ? ApplyAcks(consumer, {range}, nullptr)
                       : mover_.MoveHeld(consumer, range, {true, std::nullopt, item.error});
        case AckVerdict::kRenew:
            Renew(consumer, range);
            return {};
        case AckVerdict::kRelease:
            return GiveBack(consumer, range, ReleaseCause::kReturned);
        case AckVerdict::kBegin:
            Begin(consumer, range);
            return {};
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
    // Each waits as its own attempts say, as its copy in a retry subject would. But here no attempt
    // is the last, so a policy that waits for nothing would deliver it for ever, as fast as it can.
    std::map<std::chrono::milliseconds, std::vector<PullRange>> by_delay;
    consumer.held.ForEach(range, [&](std::uint64_t pull, const Held& held) {
        const std::chrono::milliseconds delay =
            item.delay.value_or(std::max<std::chrono::milliseconds>(
                Mover::Backoff(consumer.policy, held.attempt()), kLeastBackoffInPlace));
        AddPull(by_delay[delay], pull);
    });
    delivery_.MarkReady(group);  // Also where the next piece cannot be logged.
    for (const auto& [delay, held] : by_delay) {
        const std::int64_t due = core_.RunningMs() + delay.count();
        for (std::vector<PullRange>& piece : Cut(held)) {
            const Action logged(Deferred{NamesOf(consumer), due, std::move(piece)});
            Result<store::LogOffset> end = core_.Append(logged);
            if (!end.ok()) {
                return end.status();
            }
            for (const PullRange& part : std::get<Deferred>(logged).ranges) {
                core_.state.Defer(consumer, part, due);
            }
        }
    }
    return {};
}

Status Acks::GiveBack(Consumer& consumer, PullRange range, ReleaseCause cause) {
    delivery_.MarkReady(*consumer.group);  // Also where the next piece cannot be logged.
    // First what handlers have begun, so that each record says one thing of all that it names.
    if (cause == ReleaseCause::kLost) {
        for (const std::vector<PullRange>& piece : Cut(BegunOf(consumer, range))) {
            if (Status status = LogRelease(consumer, cause, piece, piece); !status.ok()) {
                return status;
            }
        }
    }
    std::vector<PullRange> rest;
    CollectHeld(consumer, range, rest);
    for (const std::vector<PullRange>& piece : Cut(rest)) {
        if (Status status = LogRelease(consumer, cause, piece, {}); !status.ok()) {
            return status;
        }
    }
    return {};
}

Status Acks::LogRelease(Consumer& consumer,
                        ReleaseCause cause,
                        const std::vector<PullRange>& ranges,
                        const std::vector<PullRange>& begun) {
    Result<store::LogOffset> end = core_.Append(Released{NamesOf(consumer), cause, ranges, begun});
    if (!end.ok()) {
        return end.status();
    }
    for (const PullRange& range : ranges) {
        core_.state.Release(consumer, range, cause, begun);
    }
    return {};
}

void Acks::Begin(Consumer& consumer, PullRange range) {
    consumer.held.ForEach(range, [](std::uint64_t, Held& held) { held.set_begun(); });
}

void Acks::Renew(Consumer& consumer, PullRange range) {
    const ShardMs deadline = core_.Now() + consumer.settings.ack_timeout.count();
    consumer.held.ForEach(
        range, [deadline](std::uint64_t, Held& held) { held.set_deadline_ms(deadline); });
}

/// No lease ends later than one that begins now. It ends later than it would have only where nobody
/// had asked for it: else who pulls with ever longer times would keep what it has forgotten.
void Acks::OnNewLease(Consumer& consumer, bool was_known) {
    const ShardMs deadline = core_.Now() + consumer.settings.ack_timeout.count();
    consumer.held.ForEach([=](std::uint64_t, Held& held) {
        held.set_deadline_ms(was_known ? std::min(held.deadline_ms(), deadline) : deadline);
    });
    if (consumer.lease_timer_ms > deadline) {
        core_.timers.Set(consumer, TimerKind::kLease, deadline);
    }
}

void Acks::ExpireLeases(Consumer& consumer) {
    const ShardMs now = core_.Now();
    ShardMs next = -1;
    std::vector<PullRange> over;
    consumer.held.ForEach([&](std::uint64_t pull, const Held& held) {
        if (held.deadline_ms() > now) {
            next = next < 0 ? held.deadline_ms() : std::min(next, held.deadline_ms());
        } else {
            AddPull(over, pull);
        }
    });
    for (const PullRange& range : over) {
        const Status status = env::Planted(env::PlantedBug::kLeaseEndAcks)
                                  ? ApplyAcks(consumer, {range}, nullptr)
                                  : GiveBack(consumer, range, ReleaseCause::kLost);
        if (!status.ok()) {
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
        if (!status.ok()) {
            Answer(waiting, status);
        } else if (waiting.reply.ok() && waiting.durable &&
                   core_.appended_end > core_.store->synced()) {
            // Also one that changed nothing: what it repeats may be as young.
            waiting.end = core_.appended_end;
            core_.sync_wanted = true;
            syncing_.push_back(std::move(waiting));
        } else {
            Answer(waiting, {});
        }
    }
}

void Acks::OnSynced(store::LogOffset synced) {
    while (!syncing_.empty() && syncing_.front().end <= synced) {
        Waiting waiting = std::move(syncing_.front());
        syncing_.pop_front();
        Answer(waiting, {});
    }
}

void Acks::Fail(const Status& status) {
    while (!syncing_.empty()) {
        Waiting waiting = std::move(syncing_.front());
        syncing_.pop_front();
        Answer(waiting, status);
    }
}

void Acks::Answer(Waiting& waiting, const Status& status) {
    ++answered_;
    waiting.done(status.ok() ? std::move(waiting.reply) : Result<AckReply>(status));
}

}  // namespace qmq::broker
