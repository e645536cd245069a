#include <algorithm>
#include <optional>

#include "server/broker/shard.h"

/// What a shard tells of itself.
namespace qmq::broker {

namespace {

void Lower(std::optional<std::int64_t>& least, std::int64_t value) {
    least = least ? std::min(*least, value) : value;
}

/// When the first of the messages that are neither acked nor given up was handed out.
std::optional<std::int64_t> OldestSince(const Group& group) {
    std::optional<std::int64_t> oldest;
    for (const auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach(
            [&oldest](std::uint64_t, const Held& held) { Lower(oldest, held.since_ms()); });
    }
    for (const auto& queue : group.redelivery) {
        for (const auto& [sequence, loose] : queue) {
            Lower(oldest, loose.since_ms);
        }
    }
    for (const Waiting& waiting : group.waiting) {
        Lower(oldest, waiting.since_ms);
    }
    return oldest;
}

/// The lowest sequence of `origin` that the group still needs; `next` when there is none.
std::uint64_t LowestNeeded(const Group& group, Origin origin, std::uint64_t next) {
    std::uint64_t lowest = next;
    const auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    if (!queue.empty()) {
        lowest = std::min(lowest, queue.begin()->first);
    }
    if (group.waiting_origin() == origin) {
        for (const Waiting& waiting : group.waiting) {
            lowest = std::min(lowest, waiting.sequence);
        }
    }
    for (const auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach([&lowest, origin](std::uint64_t, const Held& held) {
            if (held.origin() == origin) {
                lowest = std::min(lowest, held.sequence());
            }
        });
    }
    return lowest;
}

GroupInfo InfoOf(const Group& group, std::int64_t wall_ms) {
    GroupInfo info;
    info.subject = group.subject->name;
    info.group = group.name;
    info.next_sequence = group.next_sequence;
    const std::uint64_t first = std::max(group.next_sequence, group.subject->log->first_sequence());
    const std::uint64_t end = group.subject->log->next_sequence();
    for (const auto& [id, consumer] : group.consumers) {
        info.in_flight_count += consumer->held.count();
        const bool here = consumer->connected() || consumer->settings.sessionless;
        info.consumer_count += here ? 1U : 0U;
    }
    info.waiting_retry_count = group.waiting.size();
    info.lag_count = (group.placed && end > first ? end - first : 0) + info.in_flight_count +
                     group.redelivery[0].size() + group.redelivery[1].size() +
                     info.waiting_retry_count;
    info.dead_letter_count = group.dead_letter_count;
    if (const std::optional<std::int64_t> since = OldestSince(group)) {
        info.oldest_unacked_age =
            std::chrono::milliseconds(std::max<std::int64_t>(wall_ms - *since, 0));
    }
    return info;
}

}  // namespace

void Shard::ListSubjects(UniqueFunction<void(std::vector<SubjectInfo>)> done) {
    Post([this, done = std::move(done)]() mutable {
        std::vector<SubjectInfo> infos;
        for (const std::unique_ptr<Subject>& subject : core_.state.subjects()) {
            infos.push_back(SubjectInfo{subject->name,
                                        subject->log->first_sequence(),
                                        subject->log->next_sequence(),
                                        core_.store->stored_bytes(*subject->log),
                                        subject->promise});
        }
        done(std::move(infos));
    });
}

void Shard::ListGroups(std::string subject, UniqueFunction<void(std::vector<GroupInfo>)> done) {
    Post([this, subject = std::move(subject), done = std::move(done)]() mutable {
        std::vector<GroupInfo> infos;
        core_.state.ForEachGroup([&](Group& group) {
            if (subject.empty() || group.subject->name == subject) {
                infos.push_back(InfoOf(group, core_.WallMs()));
            }
        });
        done(std::move(infos));
    });
}

std::uint64_t Shard::ConsumedBelow(const store::SubjectLog& log) {
    Subject* subject = core_.state.FindSubject(log.name());
    if (subject == nullptr) {
        return 0;
    }
    std::optional<std::uint64_t> lowest;
    for (const auto& [name, group] : subject->groups) {
        const std::uint64_t next = group->placed ? group->next_sequence : 0;
        const std::uint64_t needed = LowestNeeded(*group, Origin::kSubject, next);
        lowest = lowest ? std::min(*lowest, needed) : needed;
    }
    if (subject->kind == SubjectKind::kRetry) {
        if (Group* group = core_.state.FindGroup({subject->real_name, subject->group_name})) {
            const std::uint64_t needed = LowestNeeded(*group, Origin::kRetry, log.next_sequence());
            lowest = lowest ? std::min(*lowest, needed) : needed;
        }
    }
    // Without a group nobody has acked anything.
    return lowest.value_or(0);
}

}  // namespace qmq::broker
