#include "server/broker/mover.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "qmq/subject.h"

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Most messages and bytes that one record moves, bytes of the copies.
constexpr std::uint32_t kMostMessages = 256;
constexpr std::uint64_t kMostBytes = 1U << 20U;
constexpr std::size_t kMostErrorBytes = 4096;

std::string_view CutError(std::string_view error) {
    if (error.size() <= kMostErrorBytes) {
        return error;
    }
    std::size_t size = kMostErrorBytes;
    // Not in the middle of a character.
    while (size > 0 && (static_cast<unsigned char>(error[size]) & 0xC0U) == 0x80U) {
        --size;
    }
    return error.substr(0, size);
}

}  // namespace

std::chrono::milliseconds Mover::Backoff(const RetryPolicy& policy, std::uint32_t attempt) {
    if (policy.initial_backoff.count() == 0) {
        return policy.initial_backoff;  // However often: zero times infinity is no number.
    }
    const double most = static_cast<double>(policy.max_backoff.count());
    const double wait = static_cast<double>(policy.initial_backoff.count()) *
                        std::pow(policy.multiplier, static_cast<double>(attempt) - 1.0);
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(wait, most)));
}

Status Mover::MoveHeld(Consumer& consumer, PullRange range, const Order& order) {
    std::vector<Source> run;
    Origin origin = Origin::kSubject;
    std::optional<std::uint64_t> pull = consumer.held.NextHeld(range.first, consumer.held.next());
    for (; pull && *pull <= range.last;
         pull = consumer.held.NextHeld(*pull + 1, consumer.held.next())) {
        const Held held = *consumer.held.Find(*pull);
        const bool fits =
            run.empty() || (run.back().pull_sequence + 1 == *pull && origin == held.origin() &&
                            run.back().sequence + 1 == held.sequence() &&
                            run.back().attempt == held.attempt() && run.size() < kMostMessages);
        if (!fits) {
            if (Status status = MoveRun(*consumer.group, &consumer, origin, run, order);
                !status.ok()) {
                return status;
            }
            run.clear();
        }
        origin = held.origin();
        run.push_back(Source{*pull, held.sequence(), held.attempt(), held.since_ms()});
    }
    return MoveRun(*consumer.group, &consumer, origin, run, order);
}

Status Mover::MoveLoose(Group& group, Origin origin, PullRange sequences, std::string_view error) {
    std::vector<Source> run;
    const auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    for (auto at = queue.lower_bound(sequences.first);
         at != queue.end() && at->first <= sequences.last && run.size() < kMostMessages;
         ++at) {
        // What the next delivery would count is one too many: it is not made.
        run.push_back(Source{at->first, at->first, at->second.attempt - 1, at->second.since_ms});
    }
    return MoveRun(group, nullptr, origin, run, Order{true, std::nullopt, error});
}

Status Mover::MoveWaiting(Group& group, std::uint64_t sequence) {
    const Waiting* const waiting = group.waiting.Find(sequence);
    if (waiting == nullptr) {
        return {};
    }
    const std::uint32_t attempts = waiting->attempt - 1;
    const std::vector<Source> run{Source{sequence, sequence, attempts, waiting->since_ms}};
    const std::string error = "delivered " + std::to_string(attempts) + " times, and " +
                              std::to_string(group.policy.max_attempts) + " are allowed by now";
    return MoveRun(
        group, nullptr, group.waiting_origin(), run, Order{true, std::nullopt, error, true});
}

/// Sequences of `run` follow one another, and all were delivered equally often.
Status Mover::MoveRun(Group& group,
                      Consumer* consumer,
                      Origin origin,
                      const std::vector<Source>& run,
                      const Order& order) {
    // The delays are those of the member whose handler failed.
    const RetryPolicy& waits = consumer != nullptr ? consumer->policy : group.policy;
    std::size_t done = 0;
    while (done < run.size()) {
        store::ReadRequest request;
        request.from = run[done].sequence;
        request.end = run.back().sequence + 1;
        request.max_messages = kMostMessages;
        request.max_bytes = kMostBytes;
        const Subject& log = *group.Log(origin);
        Result<store::ReadReply> reply = core_.store->Read(*log.log, request);
        if (!reply.ok()) {
            return reply.status();
        }
        Copies copies;
        Result<std::uint64_t> next = Copy(group, *reply, run[done].attempt, order, waits, copies);
        if (!next.ok()) {
            return next.status().WithContext("subject " + log.name);
        }
        const std::size_t first = done;
        std::int64_t since = run[first].since_ms;
        for (; done < run.size() && run[done].sequence < *next; ++done) {
            since = std::min(since, run[done].since_ms);
        }
        if (done == first) {
            return Status::Internal("subject " + log.name + ": a read at sequence " +
                                    std::to_string(request.from) + " made no progress");
        }
        const PullRange moved{run[first].pull_sequence, run[done - 1].pull_sequence};
        Status status =
            Log(group, consumer, origin, moved, run[first].sequence, since, std::move(copies));
        if (!status.ok()) {
            return status;
        }
    }
    return {};
}

Result<std::uint64_t> Mover::Copy(const Group& group,
                                  const store::ReadReply& reply,
                                  std::uint32_t delivered,
                                  const Order& order,
                                  const RetryPolicy& waits,
                                  Copies& copies) {
    const WallTime now(std::chrono::milliseconds(core_.LogMs()));
    const std::uint64_t most =
        std::min(kMostBytes, core_.store->most_record_bytes() - kRetryReserveBytes);
    const std::uint32_t most_messages = core_.options.store.limits.max_message_count;
    const std::uint32_t step = env::Planted(env::PlantedBug::kWrongAttempt) ? 0 : 1;
    for (const store::MessageRun& messages : reply.runs) {
        std::size_t offset = 0;
        for (std::uint32_t i = 0; i < messages.count; ++i) {
            const std::uint64_t sequence = messages.first_sequence + i;
            Result<MessageHead> head = ReadHead(messages.body.bytes(), offset);
            if (!head.ok()) {
                return head.status().WithContext("sequence " + std::to_string(sequence));
            }
            // A client that sends its own retries counts in the message. The higher one wins.
            const std::uint32_t attempt =
                order.was_waiting ? delivered : std::max(delivered, head->attempt);
            const bool dead = order.to_dead_letter || attempt >= group.policy.max_attempts;
            const bool readable = IsReadable(messages.body.bytes(), *head);
            if (copies.count > 0 && (dead != copies.to_dead_letter || !readable)) {
                return sequence;
            }
            std::optional<WallTime> due;
            if (!dead) {
                due = now + order.delay.value_or(Backoff(waits, attempt));
            }
            const std::string copy = EncodeRetry(messages.body.bytes(),
                                                 *head,
                                                 dead ? attempt : attempt + step,
                                                 due,
                                                 CutError(order.error));
            if (copies.count > 0 &&
                (copies.body.size() + copy.size() > most || copies.count >= most_messages)) {
                return sequence;
            }
            copies.to_dead_letter = dead;
            copies.body.append(copy, BatchHeader::kBytes);
            ++copies.count;
            if (!readable) {
                return sequence + 1;  // Clients read a batch whole or not at all: it lies alone.
            }
            offset = head->offset + head->bytes;
        }
    }
    return reply.next;
}

Status Mover::Log(Group& group,
                  Consumer* consumer,
                  Origin origin,
                  PullRange range,
                  std::uint64_t first_sequence,
                  std::int64_t since_ms,
                  Copies copies) {
    Moved moved;
    moved.consumer = consumer != nullptr ? NamesOf(*consumer) : ConsumerName{group.names(), {}};
    moved.since_ms = since_ms;
    moved.origin = origin;
    moved.ranges.push_back(range);
    const std::uint64_t copied = copies.count;
    const std::uint64_t damaged = range.last - range.first + 1 - copied;
    const env::PlantedBug drops = copies.to_dead_letter ? env::PlantedBug::kDropDeadLetter
                                                        : env::PlantedBug::kNackDropsMessage;
    // Without a copy there is nothing to deliver again: damage took them.
    Status status = copied == 0 || env::Planted(drops)
                        ? LogGone(moved)
                        : LogCopies(group, moved, origin, first_sequence, std::move(copies));
    if (status.code() == StatusCode::kInvalidArgument &&
        !env::Planted(env::PlantedBug::kStuckBurial)) {
        // It fails for good. Should everything behind it wait for ever?
        const std::string why(status.message());
        status = LogGone(moved);
        if (status.ok()) {
            core_.Lose(
                group, LossCause::kBurial, copied, "a failed message cannot be kept: " + why);
        }
    }
    if (!status.ok()) {
        return status;
    }
    core_.Lose(group,
               LossCause::kDamage,
               damaged,
               "failed messages are damaged, and cannot be delivered again");
    if (consumer != nullptr) {
        core_.state.Ack(*consumer, range);
    } else {
        core_.state.TakeUnheld(group, origin, range);
    }
    return {};
}

Status Mover::LogGone(const Moved& moved) {
    // Without a time: that would be the time of the next retry in the log.
    Moved gone = moved;
    gone.since_ms = 0;
    return core_.Append(gone).status();
}

Status Mover::LogCopies(
    Group& group, const Moved& moved, Origin origin, std::uint64_t first_sequence, Copies copies) {
    Subject& target =
        core_.OpenSubject(copies.to_dead_letter ? DeadLetterSubject(group.subject->name, group.name)
                                                : RetrySubject(group.subject->name, group.name));
    std::string action;
    ShardCore::EncodeAction(moved, action);
    const Slice batch =
        Slice::Own(MakeBatchHeader(copies.count, copies.body) + std::move(copies.body));
    Result<store::ShardStore::Appended> appended =
        core_.store->AppendMove(action, *target.log, batch);
    if (!appended.ok()) {
        return appended.status();
    }
    if (copies.to_dead_letter) {
        group.dead_letter_count += copies.count;
        core_.state.OnTakeBack(
            [&group, count = copies.count] { group.dead_letter_count -= count; });
    } else {
        core_.state.AddRetries(target,
                               appended->first_sequence,
                               BatchView::Trusted(batch.bytes()),
                               core_.LogTime(),
                               moved.since_ms);
    }
    core_.Moved(target,
                appended->first_sequence + copies.count,
                appended->end,
                *group.Log(origin),
                first_sequence);
    return {};
}

}  // namespace qmq::broker
