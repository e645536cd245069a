#include <algorithm>
#include <optional>

#include "server/broker/planner.h"
#include "server/broker/shard.h"
#include "server/env/planted_bug.h"

/// What a shard tells of itself.
namespace qmq::broker {

namespace {

/// Most messages that a listing looks at to see whether any member wants them.
constexpr std::size_t kMostAskedForInfo = 4'096;

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
            if (!loose.unseen) {
                Lower(oldest, loose.since_ms);
            }
        }
    }
    for (const auto& [sequence, waiting] : group.waiting.by_sequence()) {
        Lower(oldest, waiting.since_ms);
    }
    return oldest;
}

/// The lowest sequence of `origin` that the group still needs; `next` when there is none.
std::uint64_t LowestNeeded(const Group& group, Origin origin, std::uint64_t next) {
    std::uint64_t lowest = next;
    if (env::Planted(env::PlantedBug::kDropHeld)) {
        return lowest;
    }
    const auto& queue = group.redelivery[static_cast<std::size_t>(origin)];
    if (!queue.empty()) {
        lowest = std::min(lowest, queue.begin()->first);
    }
    if (group.waiting_origin() == origin && !group.waiting.empty()) {
        lowest = std::min(lowest, group.waiting.by_sequence().begin()->first);
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

/// What lies there and waits for a member that wants it, or for one that can be trusted with it.
void CountStanding(const Group& group, ShardMs now, GroupInfo& info) {
    for (const Origin origin : kOrigins) {
        for (const auto& [sequence, loose] : group.redelivery[static_cast<std::size_t>(origin)]) {
            const bool unwanted = group.filters.AllRefuse(loose.refused, origin);
            info.set_aside_count += loose.unseen ? 1U : 0U;
            info.unwanted_count += !loose.unseen && unwanted ? 1U : 0U;
            info.suspect_count += loose.deaths > 0 ? 1U : 0U;
        }
    }
    for (const Waiting* waiting : group.waiting.by_due()) {
        if (waiting->due_at_ms > now) {
            break;
        }
        info.unwanted_count +=
            group.filters.AllRefuse(waiting->refused, group.waiting_origin()) ? 1U : 0U;
    }
    for (const auto& [id, consumer] : group.consumers) {
        consumer->held.ForEach([&info](std::uint64_t, const Held& held) {
            info.suspect_count += held.deaths() > 0 ? 1U : 0U;
        });
    }
    if (group.told != nullptr && group.told->stopped_at == group.next_sequence) {
        info.waits_for = "a member that wants message " + std::to_string(group.next_sequence) +
                         ": " + std::to_string(info.set_aside_count) +
                         " messages are set aside, the most there may be";
    }
    if (info.unwanted_count > 0) {
        info.waits_for += (info.waits_for.empty() ? "" : "; ") +
                          std::to_string(info.unwanted_count) +
                          (info.unwanted_count == 1 ? " message" : " messages") +
                          " that no member's filter lets through";
    }
}

/// By the log's clock, and by the one that never jumps.
GroupInfo InfoOf(const Group& group, std::int64_t log_ms, ShardMs now) {
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
                     group.loose_count() + info.waiting_retry_count;
    info.dead_letter_count = group.dead_letter_count;
    const auto lost = [&group](LossCause cause) {
        return group.lost_count[static_cast<std::size_t>(cause)];
    };
    info.lost_to_retention_count = lost(LossCause::kRetention);
    info.lost_to_full_disk_count = lost(LossCause::kFullDisk);
    info.lost_to_damage_count = lost(LossCause::kDamage);
    info.lost_to_burial_count = lost(LossCause::kBurial);
    CountStanding(group, now, info);
    if (const std::optional<std::int64_t> since = OldestSince(group)) {
        info.oldest_unacked_age =
            std::chrono::milliseconds(std::max<std::int64_t>(log_ms - *since, 0));
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
        Planner planner(core_);
        std::size_t budget = kMostAskedForInfo;
        core_.state.ForEachGroup([&](Group& group) {
            if (subject.empty() || group.subject->name == subject) {
                planner.LearnRefusals(group, budget);
                infos.push_back(InfoOf(group, core_.LogMs(), core_.Now()));
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
        // One whose first subscriber was refused, or whose retries another client sends, needs
        // nothing: where it begins is still to be said.
        if (!group->placed) {
            continue;
        }
        const std::uint64_t needed = LowestNeeded(*group, Origin::kSubject, group->next_sequence);
        lowest = lowest ? std::min(*lowest, needed) : needed;
    }
    if (subject->kind == SubjectKind::kRetry) {
        if (Group* group = core_.state.FindGroup({subject->real_name, subject->group_name})) {
            for (const Origin origin : {Origin::kRetry, Origin::kKept}) {
                const std::uint64_t needed = LowestNeeded(*group, origin, log.next_sequence());
                lowest = lowest ? std::min(*lowest, needed) : needed;
            }
        }
    }
    // Without a group nobody has acked anything.
    return lowest.value_or(0);
}

}  // namespace qmq::broker
