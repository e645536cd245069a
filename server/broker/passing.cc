#include <string>
#include <utility>

#include "server/broker/delivery.h"

/// What leaves a group, or is passed over, without being handed out.
namespace qmq::broker {

namespace {
/// What a message that the filter skips costs of the round: looking takes time, too.
constexpr std::uint64_t kSkipCostBytes = 64;
}  // namespace

/// Messages that killed their consumers too often never reach another.
Delivery::Outcome Delivery::BurySpent(Group& group) {
    constexpr std::size_t kMostAtOnce = 256;
    std::size_t count = 0;
    for (const Origin origin : kOrigins) {
        const LooseQueue& queue = group.redelivery[static_cast<std::size_t>(origin)];
        for (auto at = queue.spent().begin(); at != queue.spent().end(); ++count) {
            if (count == kMostAtOnce) {
                return Outcome::kServed;  // Others have their turn.
            }
            const std::uint64_t sequence = *at;
            const std::uint32_t attempts = queue.find(sequence)->second.attempt - 1;
            const Status status = mover_.MoveLoose(
                group,
                origin,
                {sequence, sequence},
                "delivered " + std::to_string(attempts) +
                    " times without an answer: the consumer crashed, was cut off, or was too slow");
            if (!status.ok()) {
                return Outcome::kBlocked;
            }
            at = queue.spent().upper_bound(sequence);
        }
    }
    return Outcome::kNothing;
}

/// Retries that were to be, until whoever allowed so many attempts left or asked for less.
Status Delivery::BuryDue(Group& group, const Plan& plan) {
    for (const std::uint64_t sequence : plan.spent) {
        if (Status status = mover_.MoveWaiting(group, sequence); !status.ok()) {
            return status;
        }
    }
    return {};
}

/// What was set aside for members that are gone, or want it no more, and what a damaged record had
/// skipped. Nothing is set aside that no filter wants, so only a filter that goes makes it so.
Delivery::Outcome Delivery::PassOver(Group& group) {
    const LooseQueue& queue = group.redelivery[static_cast<std::size_t>(Origin::kSubject)];
    if (!group.pass_over || group.filters.wants(Origin::kSubject) == 0) {
        return Outcome::kNothing;  // While nobody is there, nobody refuses it.
    }
    if (queue.unseen_count() == 0) {
        group.pass_over = false;
        return Outcome::kNothing;
    }
    Result<Planner::Unseen> unseen = planner_.FindUnwantedUnseen(group, group.pass_over_from);
    if (!unseen.ok()) {
        return Outcome::kBlocked;
    }
    round_bytes_ += kSkipCostBytes * unseen->looked;
    Skipped action{group.names(), group.next_sequence, group.next_sequence, {}, {}};
    for (const std::uint64_t sequence : unseen->unwanted) {
        if (!action.passed.empty() &&
            action.passed.back().first + action.passed.back().count == sequence) {
            ++action.passed.back().count;
        } else {
            action.passed.push_back(SequenceRun{sequence, 1});
        }
    }
    if (!action.passed.empty()) {
        if (!core_.Append(action).ok()) {
            return Outcome::kBlocked;
        }
        core_.state.OnTakeBack(
            [&group, first = action.passed.front().first] { group.PassOverFrom(first); });
        core_.state.Skip(group, action, 0);
    }
    group.pass_over = unseen->next.has_value();
    group.pass_over_from = unseen->next.value_or(0);
    return group.pass_over || !action.passed.empty() ? Outcome::kServed : Outcome::kNothing;
}

/// A member came upon a message that another one wants, and no more may be set aside: told once,
/// until half of what lies there has been taken.
void Delivery::NoteStop(Group& group, const Plan& plan) {
    if (!plan.stopped_at && group.told == nullptr) {
        return;
    }
    Told& told = group.MakeTold();
    told.stopped_at = plan.stopped_at;
    const std::uint64_t aside =
        group.redelivery[static_cast<std::size_t>(Origin::kSubject)].unseen_count();
    if (!plan.stopped_at) {
        told.limit = told.limit && aside > core_.options.max_set_aside_per_group / 2;
        return;
    }
    if (!std::exchange(told.limit, true)) {
        core_.Tell(
            env::EventKind::kLimit,
            &group,
            "the group waits: a member that asks for certain tags has come to message " +
                std::to_string(*plan.stopped_at) + ", which another member wants, and " +
                std::to_string(aside) +
                " messages are set aside for others already, the most there may be "
                "(max_set_aside_per_group); it goes on once that member takes them or leaves",
            aside);
    }
}

void Delivery::DropGone(Group& group, const Plan& plan) {
    for (const HandOutRun& run : plan.gone) {
        const PullRange range{run.first_sequence, run.first_sequence + run.count - 1};
        if (run.from == TakenFrom::kRedelivery) {
            core_.state.TakeLoose(group, run.origin, range);
        } else {
            core_.state.TakeWaiting(group, range);
        }
        const std::uint64_t count =
            group.Log(run.origin)->log->CountGiven(range.first, range.last + 1);
        core_.Lose(group,
                   LossCause::kDamage,
                   count,
                   "messages that were to be delivered again are damaged: sequences " +
                       std::to_string(range.first) + " to " + std::to_string(range.last));
    }
}

void Delivery::CountDamage(Group& group, const Plan& plan, std::uint64_t from) {
    if (plan.damaged > 0) {
        core_.Lose(group,
                   LossCause::kDamage,
                   plan.damaged,
                   "unread messages are damaged: at most so many of the sequences " +
                       std::to_string(from) + " to " + std::to_string(plan.next_sequence - 1));
    }
}

Delivery::Outcome Delivery::CommitSkip(Consumer& consumer, const Plan& plan) {
    Group& group = *consumer.group;
    NoteLooked(consumer, plan);
    if (plan.next_sequence == group.next_sequence) {
        return Outcome::kNothing;
    }
    const Skipped action{group.names(), plan.next_sequence, group.next_sequence, plan.aside, {}};
    if (!core_.Append(action).ok()) {
        return Outcome::kBlocked;
    }
    round_bytes_ += (plan.next_sequence - group.next_sequence) * kSkipCostBytes;
    CountDamage(group, plan, group.next_sequence);
    core_.state.Skip(group, action, MaskOf(consumer.filter_slot));
    return Outcome::kServed;
}

}  // namespace qmq::broker
