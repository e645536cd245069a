#include "server/broker/delivery.h"

#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Most bytes in one frame to a consumer, unless a single message is larger.
constexpr std::uint64_t kFrameBytes = 256U << 10U;
/// Most bytes that a round hands out before acks and sends have their turn.
constexpr std::uint64_t kRoundBytes = 4U << 20U;
/// Wait before a hand-out that could not be logged (a full disk) is tried again.
constexpr ShardMs kBlockedMs = 100;

std::uint64_t Positive(std::int64_t value) {
    return value > 0 ? static_cast<std::uint64_t>(value) : 0;
}

}  // namespace

// ---- The line.

bool Delivery::IsHungry(const Consumer& consumer, std::uint32_t most_in_flight) {
    // What is sent again is held already.
    return consumer.has_room() &&
           (consumer.resend_next < consumer.resend_end || consumer.held.count() < most_in_flight);
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
        if (consumer.settings.sessionless) {
            // What it was answered last is its own for as long as a lease.
            core_.timers.Set(
                consumer, TimerKind::kGone, core_.Now() + consumer.settings.ack_timeout.count());
        }
        // Another one may take the suspect that it was to take.
        if (!consumer.settings.sessionless && Suspects::Forget(consumer)) {
            MarkReady(group);
        }
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
    if (const Outcome outcome = BurySpent(group); outcome != Outcome::kNothing) {
        return outcome;
    }
    if (const Outcome outcome = PassOver(group); outcome != Outcome::kNothing) {
        return outcome;
    }
    suspects_.EndDrain(group);
    for (std::size_t i = 0; i < group.members.size(); ++i) {
        group.turn = (group.turn + 1) % group.members.size();
        Consumer& consumer = *group.members[group.turn];
        consumer.pull_had_turn = true;
        if (!IsHungry(consumer, core_.options.max_in_flight_per_consumer)) {
            continue;
        }
        if (const Outcome outcome = ServeConsumer(consumer); outcome != Outcome::kNothing) {
            return outcome;
        }
    }
    return Outcome::kNothing;
}

/// The wait for the next retry, or for a member that drains, for as long as somebody is there to
/// take it. What is due and was not taken waits for a member that wants it.
void Delivery::ArmDue(Group& group) {
    ShardMs when = group.members.empty() ? -1 : Suspects::WakeAt(group, core_.Now());
    const Waiting* const next = core_.NextDue(group);
    if (next != nullptr && !group.members.empty()) {
        const ShardMs due = core_.DueAt(*next);
        when = when < 0 ? due : std::min(when, due);
    }
    if (when < 0 || when <= core_.Now()) {
        core_.timers.Cancel(group);
        return;
    }
    core_.timers.Set(group, when);
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
    Suspects::Forget(consumer);
}

// ---- One visit.

Plan Delivery::MakePlan(const Consumer& consumer) const {
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
    const std::uint32_t most = core_.options.max_in_flight_per_consumer;
    if (consumer.held.count() >= most) {
        return Outcome::kNothing;
    }
    plan.messages = std::min<std::uint64_t>(plan.messages, most - consumer.held.count());
    switch (suspects_.TurnOf(consumer)) {
        case Suspects::Turn::kNothing:
            return Outcome::kNothing;
        case Suspects::Turn::kSuspect: {
            const std::uint64_t room = std::exchange(plan.messages, 1);
            const Status status = planner_.PlanSuspect(consumer, plan);
            if (!plan.runs.empty() || !status.ok() || plan.more) {
                DropGone(group, plan);
                return !status.ok() ? Outcome::kBlocked
                       : plan.more  ? Outcome::kServed
                                    : Commit(consumer, plan);
            }
            plan.messages = room;
            break;
        }
        case Suspects::Turn::kAnything:
            break;
    }
    return PlanAndCommit(consumer, plan);
}

Delivery::Outcome Delivery::PlanAndCommit(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    Status status;
    for (const Origin origin : kOrigins) {
        if (status.ok() && Takes(consumer.source, origin)) {
            status = planner_.PlanLoose(consumer, origin, plan);
        }
    }
    if (status.ok() && Takes(consumer.source, group.waiting_origin())) {
        status = planner_.PlanWaiting(consumer, plan);
        status = status.ok() ? BuryDue(group, plan) : status;
        if (!status.ok()) {
            plan.waiting_look_from.reset();  // What could not be buried is looked at again.
        }
    }
    if (status.ok() && Takes(consumer.source, Origin::kSubject)) {
        status = planner_.PlanNew(consumer, plan);
        NoteStop(group, plan);
    }
    DropGone(group, plan);
    if (!status.ok() && plan.runs.empty()) {
        return Outcome::kBlocked;
    }
    if (plan.runs.empty() && plan.bytes == 0 && consumer.sink == nullptr) {
        EndRoom(consumer);
    }
    const Outcome outcome = Commit(consumer, plan);
    return outcome == Outcome::kNothing && !plan.spent.empty() ? Outcome::kServed : outcome;
}

/// Logs what was planned, and makes it so.
Delivery::Outcome Delivery::Commit(Consumer& consumer, Plan& plan) {
    Group& group = *consumer.group;
    if (plan.runs.empty()) {
        return CommitSkip(consumer, plan);
    }
    HandedOut action;
    action.consumer = NamesOf(consumer);
    action.first_pull_sequence = core_.state.NextPull(consumer);
    action.time_ms = core_.LogMs();
    action.next_sequence = plan.next_sequence;
    action.from_sequence = group.next_sequence;
    action.runs = std::move(plan.runs);
    action.aside = std::move(plan.aside);
    Action logged(std::move(action));
    if (!core_.Append(logged).ok()) {
        return Outcome::kBlocked;
    }
    CountDamage(group, plan, group.next_sequence);
    core_.state.HandOut(consumer, std::get<HandedOut>(logged), MaskOf(consumer.filter_slot));
    NoteLooked(consumer, plan);
    if (consumer.lease_timer_ms < 0) {
        core_.timers.Set(
            consumer, TimerKind::kLease, core_.Now() + consumer.settings.ack_timeout.count());
    }
    GiveOut(consumer, plan);
    return Outcome::kServed;
}

/// Nothing more fits into the answer to its pull.
void Delivery::EndRoom(Consumer& consumer) {
    const std::uint64_t bytes = std::exchange(consumer.pulls.front().max_bytes, 0);
    core_.state.OnTakeBack([&consumer, bytes] {
        if (!consumer.pulls.empty()) {
            consumer.pulls.front().max_bytes += bytes;
        }
    });
}

/// Once what was found there is taken: what comes back later lowers it again.
void Delivery::NoteLooked(Consumer& consumer, const Plan& plan) {
    for (std::size_t origin = 0; origin < plan.look_from.size(); ++origin) {
        if (plan.look_from[origin]) {
            consumer.group->redelivery[origin].SetLookFrom(consumer.filter_slot,
                                                           *plan.look_from[origin]);
        }
    }
    if (plan.waiting_look_from) {
        consumer.group->waiting.SetLookFrom(consumer.filter_slot, *plan.waiting_look_from);
    }
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
    core_.state.Touch(consumer);
    core_.state.OnTakeBack([&consumer, begin] { consumer.resend_next = begin; });
    if (plan.batches.empty() && plan.bytes == 0 && consumer.sink == nullptr) {
        EndRoom(consumer);
        return Outcome::kNothing;
    }
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
    Result<Planner::Taken> taken = planner_.Take(consumer, wanted, false, plan);
    if (!taken.ok()) {
        return pull;
    }
    for (std::size_t i = before; i < plan.batches.size(); ++i) {
        DeliveredBatch& batch = plan.batches[i];
        batch.first_pull_sequence = pull + (batch.first_sequence - wanted.first_sequence);
    }
    const std::uint64_t end =
        pull + std::min<std::uint64_t>(taken->next - wanted.first_sequence, wanted.count);
    const ShardMs deadline = core_.Now() + consumer.settings.ack_timeout.count();
    for (std::uint64_t i = pull; i < end; ++i) {
        consumer.held.Find(i)->set_deadline_ms(deadline);
    }
    return end;
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
