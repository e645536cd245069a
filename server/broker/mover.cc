#include "server/broker/mover.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "qmq/subject.h"

#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

/// Most messages and bytes that one record moves.
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

/// Sequences of `run` follow one another, and all were delivered equally often.
Status Mover::MoveRun(Group& group,
                      Consumer* consumer,
                      Origin origin,
                      const std::vector<Source>& run,
                      const Order& order) {
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
        Result<std::uint64_t> next = Copy(group, *reply, run[done].attempt, order, copies);
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
        Status status = Log(group, consumer, origin, moved, since, std::move(copies));
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
                                  Copies& copies) {
    const WallTime now(std::chrono::milliseconds(core_.WallMs()));
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
            const std::uint32_t attempt = std::max(delivered, head->attempt);
            const bool dead = order.to_dead_letter || attempt >= group.policy.max_attempts;
            if (copies.count > 0 && dead != copies.to_dead_letter) {
                return sequence;
            }
            copies.to_dead_letter = dead;
            std::optional<WallTime> due;
            if (!dead) {
                due = now + order.delay.value_or(Backoff(group.policy, attempt));
            }
            const std::string copy = EncodeRetry(messages.body.bytes(),
                                                 *head,
                                                 dead ? attempt : attempt + step,
                                                 due,
                                                 CutError(order.error));
            copies.body.append(copy, BatchHeader::kBytes);
            ++copies.count;
            offset = head->offset + head->bytes;
        }
    }
    return reply.next;
}

Status Mover::Log(Group& group,
                  Consumer* consumer,
                  Origin origin,
                  PullRange range,
                  std::int64_t since_ms,
                  Copies copies) {
    Moved moved;
    moved.consumer = consumer != nullptr ? NamesOf(*consumer) : ConsumerName{group.names(), {}};
    moved.since_ms = since_ms;
    moved.origin = origin;
    moved.ranges.push_back(range);
    if (copies.count > 0) {
        if (Status status = LogCopies(group, moved, std::move(copies)); !status.ok()) {
            return status;
        }
    } else {
        // Retention or damage took them: there is nothing to deliver again.
        if (consumer != nullptr) {
            Result<store::LogOffset> end = core_.Append(Acked{moved.consumer, moved.ranges});
            if (!end.ok()) {
                return end.status();
            }
        }
        group.expired_count += range.last - range.first + 1;
    }
    if (consumer != nullptr) {
        core_.state.Ack(*consumer, range);
    } else {
        core_.state.TakeLoose(group, origin, range);
    }
    return {};
}

Status Mover::LogCopies(Group& group, const Moved& moved, Copies copies) {
    Subject& target =
        core_.OpenSubject(copies.to_dead_letter ? DeadLetterSubject(group.subject->name, group.name)
                                                : RetrySubject(group.subject->name, group.name));
    std::string action;
    Encode(moved, action);
    const Slice batch =
        Slice::Own(MakeBatchHeader(copies.count, copies.body) + std::move(copies.body));
    Result<store::ShardStore::Appended> appended =
        core_.store->AppendMove(action, *target.log, batch);
    if (!appended.ok()) {
        return appended.status();
    }
    if (copies.to_dead_letter) {
        group.dead_letter_count += copies.count;
    } else {
        core_.state.AddRetries(target,
                               appended->first_sequence,
                               BatchView::Trusted(batch.bytes()),
                               core_.WallMs(),
                               moved.since_ms);
    }
    core_.Appended(target, appended->first_sequence + copies.count, appended->end);
    return {};
}

}  // namespace qmq::broker
