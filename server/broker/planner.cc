#include "server/broker/planner.h"

#include <algorithm>
#include <utility>

#include "server/broker/tag_matcher.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Most messages, and bytes of those for others, that a visit looks at where filters differ: each
/// that is set aside costs an entry, and the member that wants it may be the next to be visited.
constexpr std::uint64_t kMixedMessages = 1'024;
constexpr std::uint64_t kMixedBytes = 1U << 20U;
/// Most messages that are looked at in one visit to see whether anybody wants them.
constexpr std::size_t kMostAsked = 256;
/// Most suspects that a visit looks at.
constexpr std::size_t kMostSuspects = 256;
/// Most retries that a visit finds to have no attempt left.
constexpr std::size_t kMostSpent = 256;

LooseQueue& QueueOf(Group& group, Origin origin) {
    return group.redelivery[static_cast<std::size_t>(origin)];
}

}  // namespace

// ---- What waits in the group.

bool Planner::HasSuspectFor(const Consumer& consumer) const {
    for (const Origin origin : kOrigins) {
        LooseQueue& queue = QueueOf(*consumer.group, origin);
        if (Takes(consumer.source, origin) &&
            queue.FirstSuspectFor(consumer.filter_slot) != queue.suspects().end()) {
            return true;
        }
    }
    return false;
}

Status Planner::PlanSuspect(Consumer& consumer, Plan& plan) {
    const FilterMask own = MaskOf(consumer.filter_slot);
    std::size_t looked = 0;
    for (const Origin origin : kOrigins) {
        if (!Takes(consumer.source, origin)) {
            continue;
        }
        LooseQueue& queue = QueueOf(*consumer.group, origin);
        for (auto at = queue.FirstSuspectFor(consumer.filter_slot); at != queue.suspects().end();
             ++at) {
            const Loose& loose = queue.find(*at)->second;
            if ((loose.refused & own) != 0) {
                continue;
            }
            if (++looked > kMostSuspects) {
                plan.more = true;  // Others have their turn.
                return {};
            }
            HandOutRun wanted;
            wanted.origin = origin;
            wanted.from = TakenFrom::kRedelivery;
            wanted.first_sequence = *at;
            wanted.count = 1;
            wanted.attempt = loose.attempt;
            wanted.deaths = loose.deaths;
            Result<std::uint64_t> next = TakeWaiting(consumer, wanted, plan);
            if (!next.ok() || !plan.runs.empty()) {
                return next.status();
            }
        }
    }
    return {};
}

Status Planner::PlanLoose(Consumer& consumer, Origin origin, Plan& plan) {
    const LooseQueue& queue = QueueOf(*consumer.group, origin);
    if (queue.empty()) {
        return {};
    }
    const FilterMask own = MaskOf(consumer.filter_slot);
    const auto is_passed_by = [&](const Loose& loose) {
        return (loose.refused & own) != 0 || queue.IsApart(loose);
    };
    auto at = queue.lower_bound(queue.look_from(consumer.filter_slot));
    while (at != queue.end() && !plan.full()) {
        if (is_passed_by(at->second)) {
            ++at;
            continue;
        }
        HandOutRun wanted;
        wanted.origin = origin;
        wanted.from = TakenFrom::kRedelivery;
        wanted.first_sequence = at->first;
        wanted.attempt = at->second.attempt;
        wanted.deaths = at->second.deaths;
        for (; at != queue.end() && at->first == wanted.first_sequence + wanted.count &&
               at->second.attempt == wanted.attempt && at->second.deaths == wanted.deaths &&
               !is_passed_by(at->second) && wanted.count < plan.messages;
             ++at) {
            ++wanted.count;
        }
        Result<std::uint64_t> next = TakeWaiting(consumer, wanted, plan);
        if (!next.ok()) {
            return next.status();
        }
        if (*next < wanted.first_sequence + wanted.count) {
            // Read as much as is read at once: unless that was all the room, the rest comes now.
            at = queue.lower_bound(*next);
        }
    }
    plan.look_from[static_cast<std::size_t>(origin)] =
        at != queue.end() ? at->first : queue.rbegin()->first + 1;
    return {};
}

Status Planner::PlanWaiting(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    const ShardMs now = core_.Now();
    if (group.waiting.empty() || core_.DueAt(**group.waiting.by_due().begin()) > now) {
        return {};
    }
    const FilterMask own = MaskOf(consumer.filter_slot);
    const std::uint64_t readable_end = group.Log(group.waiting_origin())->readable_end;
    const std::uint32_t most = group.in_place() ? UINT32_MAX : group.policy.max_attempts;
    const auto is_passed_by = [&](const Waiting& waiting) {
        return waiting.sequence >= readable_end || (waiting.refused & own) != 0 ||
               waiting.attempt > most;
    };
    const auto& queue = group.waiting.by_due();
    auto at = group.waiting.FirstFor(consumer.filter_slot);
    auto unreadable = queue.end();
    while (at != queue.end() && core_.DueAt(**at) <= now && !plan.full() &&
           plan.spent.size() < kMostSpent) {
        if (is_passed_by(**at)) {
            if ((*at)->sequence >= readable_end) {
                unreadable = unreadable == queue.end() ? at : unreadable;
            } else if ((*at)->attempt > most) {
                plan.spent.push_back((*at)->sequence);
            }
            ++at;
            continue;
        }
        HandOutRun wanted;
        wanted.origin = group.waiting_origin();
        wanted.from = TakenFrom::kWaiting;
        wanted.first_sequence = (*at)->sequence;
        wanted.attempt = (*at)->attempt;
        wanted.due_ms = (*at)->due_ms;
        for (; at != queue.end() && (*at)->due_ms == wanted.due_ms &&
               (*at)->sequence == wanted.first_sequence + wanted.count && !is_passed_by(**at) &&
               (*at)->attempt == wanted.attempt && wanted.count < plan.messages;
             ++at) {
            ++wanted.count;
        }
        Result<std::uint64_t> next = TakeWaiting(consumer, wanted, plan);
        if (!next.ok()) {
            return next.status();
        }
        if (*next < wanted.first_sequence + wanted.count) {
            // As above.
            const Waiting* const rest = group.waiting.Find(*next);
            if (rest == nullptr) {
                at = queue.begin();
                break;
            }
            at = queue.find(rest);
        }
    }
    plan.waiting_look_from = group.waiting.PlaceOf(unreadable != queue.end() ? unreadable : at);
    return {};
}

/// As `Take`, for messages that wait in the group: notes which of them are gone, and which the
/// consumer does not want.
Result<std::uint64_t> Planner::TakeWaiting(Consumer& consumer,
                                           const HandOutRun& wanted,
                                           Plan& plan) {
    const std::size_t before = plan.batches.size();
    Result<Taken> taken = Take(consumer, wanted, true, plan);
    if (!taken.ok()) {
        return taken.status();
    }
    const std::uint64_t end =
        std::min<std::uint64_t>(taken->next, wanted.first_sequence + wanted.count);
    HandOutRun missing = wanted;
    for (std::size_t i = before; i < plan.batches.size(); ++i) {
        const DeliveredBatch& batch = plan.batches[i];
        if (Status status =
                NoteMissing(consumer, missing, batch.first_sequence, taken->holes, plan);
            !status.ok()) {
            return status;
        }
        missing.first_sequence = batch.first_sequence + batch.count;
    }
    if (Status status = NoteMissing(consumer, missing, end, taken->holes, plan); !status.ok()) {
        return status;
    }
    return taken->next;
}

/// Of those from the first of `missing` to `end` none was read.
Status Planner::NoteMissing(
    Consumer& consumer, const HandOutRun& missing, std::uint64_t end, bool holes, Plan& plan) {
    for (std::uint64_t sequence = missing.first_sequence; sequence < end; ++sequence) {
        Result<bool> refused = !TagMatcher::IsActive(consumer.filter) ? Result<bool>(false)
                               : !holes                               ? Result<bool>(true)
                                        : IsThere(*consumer.group, missing.origin, sequence);
        if (!refused.ok()) {
            return refused.status();
        }
        if (*refused) {
            NoteRefused(consumer, missing, sequence);
            continue;
        }
        if (!plan.gone.empty() && plan.gone.back().from == missing.from &&
            plan.gone.back().origin == missing.origin &&
            plan.gone.back().first_sequence + plan.gone.back().count == sequence) {
            ++plan.gone.back().count;
            continue;
        }
        HandOutRun gone = missing;
        gone.first_sequence = sequence;
        gone.count = 1;
        plan.gone.push_back(gone);
    }
    return {};
}

Result<bool> Planner::IsThere(const Group& group, Origin origin, std::uint64_t sequence) {
    store::ReadRequest request;
    request.from = sequence;
    request.end = sequence + 1;
    Result<store::ReadReply> reply = core_.store->Read(*group.Log(origin)->log, request);
    if (!reply.ok()) {
        return reply.status();
    }
    return !reply->runs.empty();
}

void Planner::NoteRefused(Consumer& consumer, const HandOutRun& wanted, std::uint64_t sequence) {
    Group& group = *consumer.group;
    const FilterMask own = MaskOf(consumer.filter_slot);
    if (wanted.from == TakenFrom::kWaiting) {
        group.waiting.Refuse(sequence, own);
        return;
    }
    LooseQueue& queue = QueueOf(group, wanted.origin);
    if (const auto at = queue.find(sequence); at != queue.end()) {
        queue.Refuse(at, own);
    }
}

// ---- What is new.

Status Planner::PlanNew(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    // Who wants everything passes over nothing.
    const bool active = TagMatcher::IsActive(consumer.filter);
    if (active && group.filters.mixed(Origin::kSubject)) {
        return PlanNewAmongOthers(consumer, plan);
    }
    const std::uint64_t end = group.subject->readable_end;
    while (plan.next_sequence < end && !plan.full()) {
        HandOutRun wanted;
        wanted.first_sequence = plan.next_sequence;
        wanted.count = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(end - plan.next_sequence, UINT32_MAX));
        Result<Taken> taken = Take(consumer, wanted, true, plan);
        if (!taken.ok()) {
            return taken.status();
        }
        if (taken->next == plan.next_sequence) {
            break;
        }
        plan.next_sequence = taken->next;
        if (active) {
            break;  // However little it let through: others have their turn.
        }
    }
    return {};
}

Status Planner::PlanNewAmongOthers(Consumer& consumer, Plan& plan) {
    if (plan.next_sequence >= consumer.group->subject->readable_end || plan.full()) {
        return {};
    }
    std::vector<SequenceRun> aside;
    Result<std::uint64_t> stop = FindForOthers(consumer, aside, plan);
    if (!stop.ok()) {
        return stop.status();
    }
    if (*stop == plan.next_sequence) {
        return {};
    }
    HandOutRun wanted;
    wanted.first_sequence = plan.next_sequence;
    wanted.count = static_cast<std::uint32_t>(*stop - plan.next_sequence);
    Result<Taken> taken = Take(consumer, wanted, true, plan);
    if (!taken.ok()) {
        return taken.status();
    }
    plan.next_sequence = taken->next;
    const bool is_cut = env::Planted(env::PlantedBug::kCutAsideLost) && taken->next < *stop;
    for (SequenceRun& run : aside) {
        if (run.first < taken->next && !is_cut) {
            run.count = static_cast<std::uint32_t>(
                std::min<std::uint64_t>(run.count, taken->next - run.first));
            plan.aside.push_back(run);
        }
    }
    if (plan.stopped_at && taken->next < *plan.stopped_at) {
        plan.stopped_at.reset();  // The consumer's own room ended first.
    }
    return {};
}

/// Of all members that take messages of `origin`, but for those of slot `own`.
AnyMatcher Planner::MatcherOf(const Group& group, Origin origin, FilterSlot own) {
    AnyMatcher matcher;
    group.filters.ForEachOther(
        own, origin, [&matcher](const TagFilter& filter) { matcher.Add(filter); });
    if (group.filters.homeless(origin) > 0) {
        for (const auto& [id, other] : group.consumers) {
            if (other->known && other->filter_slot == kNoFilterSlot &&
                Takes(other->source, origin)) {
                matcher.Add(other->filter);
            }
        }
    }
    return matcher;
}

/// Among the next new ones, those that the consumer does not want and another member does. Returns
/// how far it looked: no further than may be set aside.
Result<std::uint64_t> Planner::FindForOthers(Consumer& consumer,
                                             std::vector<SequenceRun>& aside,
                                             Plan& plan) {
    Group& group = *consumer.group;
    const AnyMatcher members = MatcherOf(group, Origin::kSubject, consumer.filter_slot);
    const ForOthersMatcher others(consumer.filter, members);
    const std::uint64_t waiting = QueueOf(group, Origin::kSubject).unseen_count();
    const std::uint64_t most = core_.options.max_set_aside_per_group;
    std::uint64_t room = most > waiting ? most - waiting : 0;
    store::ReadRequest request;
    request.from = plan.next_sequence;
    request.end = std::min(group.subject->readable_end, plan.next_sequence + kMixedMessages);
    // One more shows whether the room is enough.
    request.max_messages = static_cast<std::uint32_t>(std::min(room, kMixedMessages) + 1);
    request.max_bytes = kMixedBytes;
    request.matcher = &others;
    Result<store::ReadReply> reply = core_.store->Read(*group.subject->log, request);
    if (!reply.ok()) {
        return reply.status();
    }
    for (const store::MessageRun& run : reply->runs) {
        const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(run.count, room));
        if (count > 0) {
            aside.push_back(SequenceRun{run.first_sequence, count});
        }
        room -= count;
        if (count < run.count) {
            plan.stopped_at = run.first_sequence + count;
            return *plan.stopped_at;
        }
    }
    return reply->next;
}

// ---- What nobody wants.

Result<Planner::Unseen> Planner::FindUnwantedUnseen(Group& group, std::uint64_t from) {
    Unseen unseen;
    const LooseQueue& queue = QueueOf(group, Origin::kSubject);
    const AnyMatcher members = MatcherOf(group, Origin::kSubject, kNoFilterSlot);
    if (members.wants_all()) {
        return unseen;
    }
    std::vector<std::uint64_t> asked;
    auto at = queue.lower_bound(from);
    for (; at != queue.end() && asked.size() < kMostAsked; ++at) {
        if (at->second.unseen) {
            asked.push_back(at->first);
        }
    }
    unseen.next = at != queue.end() ? std::optional(at->first) : std::nullopt;
    Result<std::vector<std::uint64_t>> unwanted =
        FindUnwanted(group, Origin::kSubject, members, asked);
    if (!unwanted.ok()) {
        return unwanted.status();
    }
    unseen.looked = asked.size();
    unseen.unwanted = *std::move(unwanted);
    return unseen;
}

void Planner::LearnRefusals(Group& group, std::size_t& budget) {
    for (const Origin origin : kOrigins) {
        const FilterMask wants = group.filters.wants(origin);
        const AnyMatcher members = MatcherOf(group, origin, kNoFilterSlot);
        if (wants == 0 || members.wants_all() || group.Log(origin) == nullptr) {
            continue;
        }
        const auto is_open = [&](FilterMask refused) { return (refused & wants) != wants; };
        LooseQueue& queue = QueueOf(group, origin);
        std::vector<std::uint64_t> asked;
        for (auto at = queue.begin(); at != queue.end() && budget > 0; ++at) {
            if (!at->second.unseen && is_open(at->second.refused)) {
                asked.push_back(at->first);
                --budget;
            }
        }
        if (origin == group.waiting_origin()) {
            const std::uint64_t end = group.Log(origin)->readable_end;
            for (const Waiting* waiting : group.waiting.by_due()) {
                if (core_.DueAt(*waiting) > core_.Now() || budget == 0) {
                    break;
                }
                if (waiting->sequence < end && is_open(waiting->refused)) {
                    asked.push_back(waiting->sequence);
                    --budget;
                }
            }
            std::sort(asked.begin(), asked.end());
        }
        Result<std::vector<std::uint64_t>> unwanted = FindUnwanted(group, origin, members, asked);
        if (!unwanted.ok()) {
            return;  // It is asked again.
        }
        for (const std::uint64_t sequence : *unwanted) {
            if (const auto at = queue.find(sequence); at != queue.end()) {
                queue.Refuse(at, wants);
            } else {
                group.waiting.Refuse(sequence, wants);
            }
        }
    }
}

/// Of the messages `asked` for, in ascending order, those that are there and that `members` does
/// not match.
Result<std::vector<std::uint64_t>> Planner::FindUnwanted(const Group& group,
                                                         Origin origin,
                                                         const AnyMatcher& members,
                                                         std::span<const std::uint64_t> asked) {
    std::vector<std::uint64_t> unwanted;
    while (!asked.empty()) {
        std::size_t count = 1;
        while (count < asked.size() && asked[count] == asked[count - 1] + 1) {
            ++count;
        }
        store::ReadRequest request;
        request.from = asked.front();
        request.end = asked.front() + count;
        request.max_messages = static_cast<std::uint32_t>(count);
        request.max_bytes = kMixedBytes;
        request.matcher = &members;
        Result<store::ReadReply> reply = core_.store->Read(*group.Log(origin)->log, request);
        if (!reply.ok()) {
            return reply.status();
        }
        const auto done = std::min<std::uint64_t>(reply->next - asked.front(), count);
        if (done == 0) {
            asked = asked.subspan(count);  // Not there at all.
            continue;
        }
        const bool holes = reply->expired_count + reply->corrupt_count + reply->left_out_count > 0;
        auto run = reply->runs.begin();
        for (const std::uint64_t sequence : asked.first(done)) {
            while (run != reply->runs.end() && run->first_sequence + run->count <= sequence) {
                ++run;
            }
            const bool wanted = run != reply->runs.end() && run->first_sequence <= sequence;
            Result<bool> there =
                wanted || !holes ? Result<bool>(!wanted) : IsThere(group, origin, sequence);
            if (!there.ok()) {
                return there.status();
            }
            if (*there) {
                unwanted.push_back(sequence);
            }
        }
        asked = asked.subspan(done);
    }
    return unwanted;
}

// ---- Reading.

Result<Planner::Taken> Planner::Take(Consumer& consumer,
                                     const HandOutRun& wanted,
                                     bool filtered,
                                     Plan& plan) {
    Group& group = *consumer.group;
    store::ReadRequest request;
    request.from = wanted.first_sequence;
    request.end = wanted.first_sequence + wanted.count;
    request.max_messages =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(plan.messages, UINT32_MAX));
    request.max_bytes = plan.bytes;
    // An answer to a pull has at most one message that is too large, and then nothing else.
    request.strictly = consumer.sink == nullptr && (!consumer.out.empty() || !plan.batches.empty());
    request.max_runs = Plan::kMostRuns - plan.runs.size();
    const TagMatcher matcher(consumer.filter);
    if (filtered && TagMatcher::IsActive(consumer.filter)) {
        request.matcher = &matcher;
    }
    Result<store::ReadReply> reply = core_.store->Read(*group.Log(wanted.origin)->log, request);
    if (!reply.ok()) {
        return reply.status();
    }
    if (wanted.from == TakenFrom::kNew) {
        plan.damaged += reply->corrupt_count;
    }
    for (store::MessageRun& run : reply->runs) {
        AddRun(wanted, run, plan);
    }
    if (reply->full) {
        plan.bytes = 0;  // Nothing smaller goes before what did not fit.
    }
    return Taken{reply->next,
                 reply->expired_count + reply->corrupt_count + reply->left_out_count > 0};
}

void Planner::AddRun(const HandOutRun& base, store::MessageRun& messages, Plan& plan) {
    const std::uint64_t bytes = messages.header.size() + messages.body.size();
    plan.messages -= std::min<std::uint64_t>(messages.count, plan.messages);
    plan.bytes -= std::min(bytes, plan.bytes);
    DeliveredBatch batch;
    batch.first_pull_sequence = plan.next_pull;
    batch.first_sequence = messages.first_sequence;
    batch.count = messages.count;
    batch.attempt = base.attempt;
    batch.from_retry = base.origin != Origin::kSubject;
    batch.header = std::move(messages.header);
    batch.body = std::move(messages.body);
    plan.next_pull += batch.count;
    plan.batches.push_back(std::move(batch));

    HandOutRun run = base;
    run.first_sequence = messages.first_sequence;
    run.count = messages.count;
    if (!plan.runs.empty()) {
        HandOutRun& last = plan.runs.back();
        if (last.origin == run.origin && last.from == run.from && last.attempt == run.attempt &&
            last.deaths == run.deaths && last.due_ms == run.due_ms &&
            last.first_sequence + last.count == run.first_sequence) {
            last.count += run.count;
            return;
        }
    }
    plan.runs.push_back(run);
}

}  // namespace qmq::broker
