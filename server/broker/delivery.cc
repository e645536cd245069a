#include "server/broker/delivery.h"

#include <algorithm>
#include <utility>

#include "server/broker/tag_matcher.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Most bytes in one frame to a consumer, unless a single message is larger.
constexpr std::uint64_t kFrameBytes = 256U << 10U;
/// Most bytes that a round hands out before acks and sends have their turn.
constexpr std::uint64_t kRoundBytes = 4U << 20U;
/// What a message that the filter skips costs of it: looking takes time, too.
constexpr std::uint64_t kSkipCostBytes = 64;
/// Wait before a hand-out that could not be logged (a full disk) is tried again.
constexpr ShardMs kBlockedMs = 100;

std::uint64_t Positive(std::int64_t value) {
    return value > 0 ? static_cast<std::uint64_t>(value) : 0;
}

bool HasDue(const Group& group, std::int64_t wall_ms) {
    if (group.waiting.empty() || group.waiting.begin()->due_ms > wall_ms) {
        return false;
    }
    const Subject* log = group.Log(group.waiting_origin());
    return group.waiting.begin()->sequence < log->readable_end;
}

}  // namespace

// ---- The line.

bool Delivery::IsHungry(const Consumer& consumer, std::uint32_t most_in_flight) {
    if (!consumer.announced || consumer.held.count() >= most_in_flight) {
        return false;
    }
    if (consumer.sink != nullptr) {
        return consumer.credit_messages > 0 && consumer.credit_bytes > 0;
    }
    return !consumer.pulls.empty() && consumer.pulls.front().max_messages > 0 &&
           consumer.pulls.front().max_bytes > 0;
}

void Delivery::MarkReady(Group& group) {
    if (group.members.empty() || group.listed_ready) {
        return;
    }
    group.listed_ready = true;
    ready_.push_back(&group);
}

void Delivery::Refresh(Consumer& consumer) {
    Group& group = *consumer.group;
    const bool connected = consumer.connected();
    if (connected == consumer.member) {
        return;
    }
    consumer.member = connected;
    if (connected) {
        group.members.push_back(&consumer);
    } else {
        std::erase(group.members, &consumer);
        group.idle_since_ms = core_.Now();
    }
}

void Delivery::WakeSubjects() {
    for (Subject* subject : core_.more_readable) {
        for (auto& [name, group] : subject->groups) {
            if (env::Planted(env::PlantedBug::kLostWakeUp) && ++wake_count_ % 8 == 0) {
                continue;
            }
            MarkReady(*group);
        }
        if (subject->kind == SubjectKind::kRetry) {
            // The retries of its group wait for their time; the first may be due before others.
            Group& group = core_.state.RetryGroup(*subject);
            MarkReady(group);
        }
    }
    core_.more_readable.clear();
}

void Delivery::Pump() {
    WakeSubjects();
    round_bytes_ = 0;
    while (!ready_.empty() && round_bytes_ < kRoundBytes) {
        Group& group = *ready_.front();
        ready_.pop_front();
        group.listed_ready = false;
        switch (ServeGroup(group)) {
            case Outcome::kServed:
                // To the back of the line: there may be more.
                group.listed_ready = true;
                ready_.push_back(&group);
                break;
            case Outcome::kBlocked:
                Block(group);
                break;
            case Outcome::kNothing:
                ArmDue(group);
                break;
        }
        // Moves to dead letters make their subject readable.
        if (!core_.more_readable.empty()) {
            WakeSubjects();
        }
    }
}

Delivery::Outcome Delivery::ServeGroup(Group& group) {
    if (!group.placed || !group.durable) {
        return Outcome::kNothing;
    }
    for (std::size_t i = 0; i < group.members.size(); ++i) {
        group.turn = (group.turn + 1) % group.members.size();
        Consumer& consumer = *group.members[group.turn];
        if (!IsHungry(consumer, core_.options.max_in_flight_per_consumer)) {
            continue;
        }
        if (const Outcome outcome = ServeConsumer(consumer); outcome != Outcome::kNothing) {
            return outcome;
        }
    }
    return Outcome::kNothing;
}

/// The wait for the next retry, for as long as somebody is there to take it.
void Delivery::ArmDue(Group& group) {
    const std::int64_t wall = core_.WallMs();
    if (group.waiting.empty() || group.members.empty() || group.waiting.begin()->due_ms <= wall) {
        core_.timers.Cancel(group);
        return;
    }
    core_.timers.Set(group, core_.Now() + (group.waiting.begin()->due_ms - wall));
}

void Delivery::Block(Group& group) {
    blocked_.push_back(&group);
    if (retry_at_ms_ < 0) {
        retry_at_ms_ = core_.Now() + kBlockedMs;
    }
}

void Delivery::RetryBlocked() {
    retry_at_ms_ = -1;
    for (Group* group : std::exchange(blocked_, {})) {
        MarkReady(*group);
    }
}

void Delivery::Forget(Group& group) {
    core_.timers.Cancel(group);
    std::erase(blocked_, &group);
    if (!group.listed_ready) {
        return;
    }
    for (std::size_t i = ready_.size(); i-- > 0;) {
        Group* other = ready_.front();
        ready_.pop_front();
        if (other != &group) {
            ready_.push_back(other);
        }
    }
}

void Delivery::Forget(Consumer& consumer) {
    core_.timers.CancelAll(consumer);
    std::erase(out_, &consumer);
}

// ---- One visit.

Delivery::Plan Delivery::MakePlan(const Consumer& consumer) const {
    Plan plan;
    plan.next_pull = core_.state.NextPull(consumer);
    plan.next_sequence = consumer.group->next_sequence;
    plan.bytes = kFrameBytes;
    if (consumer.sink != nullptr) {
        plan.messages = Positive(consumer.credit_messages);
        plan.bytes = std::min(plan.bytes, Positive(consumer.credit_bytes));
    } else {
        plan.messages = consumer.pulls.front().max_messages;
        plan.bytes = std::min(plan.bytes, consumer.pulls.front().max_bytes);
    }
    return plan;
}

Delivery::Outcome Delivery::ServeConsumer(Consumer& consumer) {
    Group& group = *consumer.group;
    Plan plan = MakePlan(consumer);
    if (const Outcome outcome = Resend(consumer, plan); outcome != Outcome::kNothing) {
        return outcome;
    }
    // What was handed out anew counts against the limit; what was sent again did already.
    plan.messages = std::min<std::uint64_t>(
        plan.messages, core_.options.max_in_flight_per_consumer - consumer.held.count());
    Status status;
    for (const Origin origin : {Origin::kRetry, Origin::kSubject}) {
        if (status.ok() && Takes(consumer.source, origin)) {
            status = PlanLoose(consumer, origin, plan);
        }
    }
    if (status.ok() && Takes(consumer.source, group.waiting_origin())) {
        status = PlanWaiting(consumer, plan);
    }
    if (status.ok() && Takes(consumer.source, Origin::kSubject)) {
        status = PlanNew(consumer, plan);
    }
    DropGone(group, plan);
    if (!status.ok() && plan.runs.empty()) {
        return Outcome::kBlocked;
    }
    return Commit(consumer, plan);
}

void Delivery::DropGone(Group& group, const Plan& plan) {
    for (const HandOutRun& run : plan.gone) {
        for (std::uint32_t i = 0; i < run.count; ++i) {
            const std::uint64_t sequence = run.first_sequence + i;
            if (run.from == TakenFrom::kRedelivery) {
                group.redelivery[static_cast<std::size_t>(run.origin)].erase(sequence);
            } else {
                group.waiting.erase(Waiting{run.due_ms, sequence, 0, 0});
            }
        }
        group.expired_count += run.count;
    }
}

/// Logs what was planned, and makes it so.
Delivery::Outcome Delivery::Commit(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    if (plan.runs.empty()) {
        if (plan.next_sequence == group.next_sequence) {
            return Outcome::kNothing;
        }
        if (!core_.Append(Skipped{group.names(), plan.next_sequence, group.next_sequence}).ok()) {
            return Outcome::kBlocked;
        }
        round_bytes_ += (plan.next_sequence - group.next_sequence) * kSkipCostBytes;
        core_.state.Skip(group, plan.next_sequence);
        return Outcome::kServed;
    }
    HandedOut action;
    action.consumer = NamesOf(consumer);
    action.first_pull_sequence = core_.state.NextPull(consumer);
    action.time_ms = core_.WallMs();
    action.next_sequence = plan.next_sequence;
    action.from_sequence = group.next_sequence;
    action.runs = std::move(plan.runs);
    Action logged(std::move(action));
    if (!core_.Append(logged).ok()) {
        return Outcome::kBlocked;
    }
    core_.state.HandOut(consumer, std::get<HandedOut>(logged));
    if (consumer.lease_timer_ms < 0) {
        core_.timers.Set(
            consumer, TimerKind::kLease, core_.Now() + consumer.settings.ack_timeout.count());
    }
    GiveOut(consumer, plan);
    return Outcome::kServed;
}

/// Puts the batches where they wait for the end of the round, and pays for them.
void Delivery::GiveOut(Consumer& consumer, Plan& plan) {
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;
    for (DeliveredBatch& batch : plan.batches) {
        messages += batch.count;
        bytes += batch.header.size() + batch.body.size();
        consumer.out.push_back(std::move(batch));
    }
    round_bytes_ += bytes;
    if (!std::exchange(consumer.listed_out, true)) {
        out_.push_back(&consumer);
    }
    if (consumer.sink != nullptr) {
        const auto m = static_cast<std::int64_t>(messages);
        const auto b = static_cast<std::int64_t>(bytes);
        consumer.credit_messages -= m;
        consumer.credit_bytes -= b;
        core_.state.OnTakeBack([&consumer, m, b] {
            consumer.credit_messages += m;
            consumer.credit_bytes += b;
        });
        return;
    }
    PullWaiter& pull = consumer.pulls.front();
    const auto m = static_cast<std::uint32_t>(messages);
    const std::uint64_t b = std::min(bytes, pull.max_bytes);
    pull.max_messages -= m;
    pull.max_bytes -= b;
    core_.state.OnTakeBack([&consumer, m, b] {
        if (!consumer.pulls.empty()) {
            consumer.pulls.front().max_messages += m;
            consumer.pulls.front().max_bytes += b;
        }
    });
}

// ---- What there is to hand out.

/// What a consumer holds by the log and has not received, with the pull sequences that it had.
Delivery::Outcome Delivery::Resend(Consumer& consumer, Plan& plan) {
    const std::uint64_t begin = consumer.resend_next;
    const std::uint64_t end = consumer.resend_end;
    if (begin >= end) {
        return Outcome::kNothing;
    }
    std::uint64_t pull = begin;
    while (!plan.full()) {
        const std::optional<std::uint64_t> held = consumer.held.NextHeld(pull, end);
        const std::uint64_t next = held ? ResendRun(consumer, *held, plan) : end;
        if (held && next == *held) {
            break;
        }
        pull = next;
        if (pull >= end) {
            break;
        }
    }
    consumer.resend_next = pull;
    core_.state.OnTakeBack([&consumer, begin] { consumer.resend_next = begin; });
    if (plan.batches.empty()) {
        return pull >= end ? Outcome::kNothing : Outcome::kBlocked;
    }
    GiveOut(consumer, plan);
    // Nothing was appended, but the round has something to give out.
    core_.dirty = true;
    return Outcome::kServed;
}

/// As many as there are in one run, from `pull` on. Returns the next pull sequence to look at.
std::uint64_t Delivery::ResendRun(Consumer& consumer, std::uint64_t pull, Plan& plan) {
    const Held first = *consumer.held.Find(pull);
    HandOutRun wanted;
    wanted.from = TakenFrom::kRedelivery;  // Whatever the filter is now: it has been handed out.
    wanted.origin = first.origin();
    wanted.first_sequence = first.sequence();
    wanted.attempt = first.attempt();
    wanted.count = 1;
    Held last = first;
    while (wanted.count < plan.messages && pull + wanted.count < consumer.resend_end) {
        const Held* held = consumer.held.Find(pull + wanted.count);
        if (held == nullptr || !last.Continues(*held)) {
            break;
        }
        last = *held;
        ++wanted.count;
    }
    const std::size_t before = plan.batches.size();
    Result<std::uint64_t> next = Take(consumer, wanted, false, plan);
    if (!next.ok()) {
        return pull;
    }
    for (std::size_t i = before; i < plan.batches.size(); ++i) {
        DeliveredBatch& batch = plan.batches[i];
        batch.first_pull_sequence = pull + (batch.first_sequence - wanted.first_sequence);
    }
    const std::uint64_t end =
        pull + std::min<std::uint64_t>(*next - wanted.first_sequence, wanted.count);
    const ShardMs deadline = core_.Now() + consumer.settings.ack_timeout.count();
    for (std::uint64_t i = pull; i < end; ++i) {
        consumer.held.Find(i)->set_deadline_ms(deadline);
    }
    return end;
}

/// Messages that killed their consumers too often never reach another.
Status Delivery::BuryOverdelivered(Group& group, Origin origin) {
    if (group.in_place()) {
        return {};
    }
    auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    auto at = queue.begin();
    while (at != queue.end()) {
        if (at->second.attempt <= group.policy.max_attempts) {
            ++at;
            continue;
        }
        const std::uint64_t sequence = at->first;
        Status status = mover_.MoveLoose(
            group,
            origin,
            {sequence, sequence},
            "delivered " + std::to_string(at->second.attempt - 1) +
                " times without an answer: the consumer crashed, was cut off, or was too slow");
        if (!status.ok()) {
            return status;
        }
        at = queue.upper_bound(sequence);
    }
    return {};
}

Status Delivery::PlanLoose(Consumer& consumer, Origin origin, Plan& plan) {
    Group& group = *consumer.group;
    auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    if (queue.empty()) {
        return {};
    }
    if (Status status = BuryOverdelivered(group, origin); !status.ok()) {
        return status;
    }
    auto at = queue.begin();
    while (at != queue.end() && !plan.full()) {
        HandOutRun wanted;
        wanted.origin = origin;
        wanted.from = TakenFrom::kRedelivery;
        wanted.first_sequence = at->first;
        wanted.attempt = at->second.attempt;
        const bool unfiltered = at->second.unfiltered;
        for (; at != queue.end() && at->first == wanted.first_sequence + wanted.count &&
               at->second.attempt == wanted.attempt && at->second.unfiltered == unfiltered &&
               wanted.count < plan.messages;
             ++at) {
            ++wanted.count;
        }
        Result<std::uint64_t> next = TakeWaiting(consumer, wanted, unfiltered, plan);
        if (!next.ok()) {
            return next.status();
        }
        // Stopped at the end of the room: the rest stays for the next visit.
        if (*next < wanted.first_sequence + wanted.count) {
            break;
        }
    }
    return {};
}

Status Delivery::PlanWaiting(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    const std::int64_t wall = core_.WallMs();
    if (!HasDue(group, wall)) {
        return {};
    }
    const std::uint64_t readable_end = group.Log(group.waiting_origin())->readable_end;
    auto at = group.waiting.begin();
    while (at != group.waiting.end() && at->due_ms <= wall && !plan.full()) {
        if (at->sequence >= readable_end) {
            ++at;
            continue;
        }
        HandOutRun wanted;
        wanted.origin = group.waiting_origin();
        wanted.from = TakenFrom::kWaiting;
        wanted.first_sequence = at->sequence;
        wanted.attempt = at->attempt;
        wanted.due_ms = at->due_ms;
        for (;
             at != group.waiting.end() && at->due_ms == wanted.due_ms &&
             at->sequence == wanted.first_sequence + wanted.count && at->sequence < readable_end &&
             at->attempt == wanted.attempt && wanted.count < plan.messages;
             ++at) {
            ++wanted.count;
        }
        Result<std::uint64_t> next = TakeWaiting(consumer, wanted, false, plan);
        if (!next.ok()) {
            return next.status();
        }
        if (*next < wanted.first_sequence + wanted.count) {
            break;
        }
    }
    return {};
}

Status Delivery::PlanNew(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    const std::uint64_t end = group.subject->readable_end;
    while (plan.next_sequence < end && !plan.full()) {
        HandOutRun wanted;
        wanted.first_sequence = plan.next_sequence;
        wanted.count = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(end - plan.next_sequence, UINT32_MAX));
        Result<std::uint64_t> next = Take(consumer, wanted, true, plan);
        if (!next.ok()) {
            return next.status();
        }
        if (*next == plan.next_sequence) {
            break;
        }
        plan.next_sequence = *next;
        if (TagMatcher::IsActive(group.filter)) {
            break;  // However little it let through: others have their turn.
        }
    }
    return {};
}

/// Only what is `filtered` must match: the rest has been handed out before, and the filter of a
/// newer subscriber is no reason to lose it.
Result<std::uint64_t> Delivery::Take(Consumer& consumer,
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
    const TagMatcher matcher(group.filter);
    if (filtered && TagMatcher::IsActive(group.filter)) {
        request.matcher = &matcher;
    }
    Result<store::ReadReply> reply = core_.store->Read(*group.Log(wanted.origin)->log, request);
    if (!reply.ok()) {
        return reply.status();
    }
    group.expired_count += reply->expired_count + reply->corrupt_count;
    for (store::MessageRun& run : reply->runs) {
        AddRun(wanted, run, plan);
    }
    return reply->next;
}

/// As `Take`, for messages that wait in the group: notes which of them are gone.
Result<std::uint64_t> Delivery::TakeWaiting(Consumer& consumer,
                                            const HandOutRun& wanted,
                                            bool filtered,
                                            Plan& plan) {
    const std::size_t before = plan.batches.size();
    Result<std::uint64_t> next = Take(consumer, wanted, filtered, plan);
    if (!next.ok()) {
        return next;
    }
    const auto note_gone = [&](std::uint64_t from, std::uint64_t end) {
        if (from < end) {
            HandOutRun gone = wanted;
            gone.first_sequence = from;
            gone.count = static_cast<std::uint32_t>(end - from);
            plan.gone.push_back(gone);
        }
    };
    std::uint64_t expected = wanted.first_sequence;
    for (std::size_t i = before; i < plan.batches.size(); ++i) {
        note_gone(expected, plan.batches[i].first_sequence);
        expected = plan.batches[i].first_sequence + plan.batches[i].count;
    }
    note_gone(expected, std::min(*next, wanted.first_sequence + wanted.count));
    return next;
}

void Delivery::AddRun(const HandOutRun& base, store::MessageRun& messages, Plan& plan) {
    const std::uint64_t bytes = messages.header.size() + messages.body.size();
    plan.messages -= std::min<std::uint64_t>(messages.count, plan.messages);
    plan.bytes -= std::min(bytes, plan.bytes);
    DeliveredBatch batch;
    batch.first_pull_sequence = plan.next_pull;
    batch.first_sequence = messages.first_sequence;
    batch.count = messages.count;
    batch.attempt = base.attempt;
    batch.from_retry = base.origin == Origin::kRetry;
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
            last.due_ms == run.due_ms && last.first_sequence + last.count == run.first_sequence) {
            last.count += run.count;
            return;
        }
    }
    plan.runs.push_back(run);
}

// ---- The end of the round.

void Delivery::OnWritten(const Status& status) {
    for (Consumer* consumer : std::exchange(out_, {})) {
        consumer->listed_out = false;
        std::vector<DeliveredBatch> batches = std::exchange(consumer->out, {});
        if (!status.ok()) {
            // The messages are back where they were; a full disk may have room again soon.
            Block(*consumer->group);
        } else if (consumer->sink != nullptr) {
            // It may drop its last reference to itself meanwhile.
            const std::shared_ptr<DeliverySink> sink = consumer->sink;
            sink->OnDelivery(std::move(batches));
        } else if (!consumer->pulls.empty()) {
            PullWaiter pull = std::move(consumer->pulls.front());
            consumer->pulls.pop_front();
            Refresh(*consumer);
            MarkReady(*consumer->group);
            pull.done(PullReply{pull.subscribed, std::move(batches)});
        }
    }
}

}  // namespace qmq::broker
