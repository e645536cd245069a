#include "server/broker/terms.h"

#include <algorithm>
#include <utility>

#include "server/broker/state.h"
#include "server/broker/tag_matcher.h"
#include "server/env/planted_bug.h"

namespace qmq::broker {

namespace {

std::string Words(const TagFilter& filter) {
    if (!TagMatcher::IsActive(filter)) {
        return "everything";
    }
    std::string words = filter.mode == TagMode::kAll ? "all of" : "any of";
    for (std::size_t i = 0; i < filter.tags.size(); ++i) {
        words += (i == 0 ? " " : ", ") + filter.tags[i];
    }
    return words;
}

std::string Words(const RetryPolicy& policy) {
    std::string multiplier = std::to_string(policy.multiplier);
    multiplier.resize(multiplier.find('.') + 3);
    return std::to_string(policy.max_attempts) + " attempts with waits of " +
           std::to_string(policy.initial_backoff.count()) + " ms to " +
           std::to_string(policy.max_backoff.count()) + " ms x " + multiplier;
}

std::string Differ(const Group& group,
                   const std::string& what,
                   std::string one,
                   std::string other,
                   const std::string& counts) {
    if (other < one) {
        std::swap(one, other);
    }
    return "members of group " + group.name + " of subject " + group.subject->name + " " + what +
           ": " + one + ", and " + other + "; " + counts;
}

}  // namespace

std::vector<std::string> CompareTerms(const Consumer& consumer) {
    const Group& group = *consumer.group;
    const TagFilter* filter = group.filters.AnyOther(consumer.filter_slot);
    const RetryPolicy* policy = group.policies.AnyOther(consumer.policy);
    std::vector<std::string> lines;
    if (filter != nullptr) {
        lines.push_back(Differ(group,
                               "ask for different tags",
                               Words(consumer.filter),
                               Words(*filter),
                               "each is handed only what it asks for"));
    }
    if (policy != nullptr) {
        lines.push_back(Differ(group,
                               "have different retry policies",
                               Words(consumer.policy),
                               Words(*policy),
                               std::to_string(group.policy.max_attempts) +
                                   " attempts count, and the waits of the member that failed"));
    }
    return lines;
}

// ---- What counts in the group.

void State::SetTerms(Consumer& consumer, const TagFilter& filter, const RetryPolicy& policy) {
    Group& group = *consumer.group;
    if (env::Planted(env::PlantedBug::kNewestFilter)) {
        for (auto& [id, other] : group.consumers) {
            SetFilter(*other, filter);
        }
    }
    if (consumer.known) {
        group.policies.Remove(consumer.policy);
    }
    SetFilter(consumer, filter);
    consumer.policy = policy;
    group.policies.Add(policy);
    group.policy = policy;
    SetMostAttempts(group);
}

void State::SetFilter(Consumer& consumer, const TagFilter& filter) {
    if (consumer.known && consumer.filter == filter && consumer.filter_slot != kNoFilterSlot) {
        return;
    }
    Group& group = *consumer.group;
    DropFilter(consumer);
    consumer.filter = filter;
    consumer.filter_slot = group.filters.Add(filter, consumer.source);
    consumer.known = true;
}

/// Its filter no longer counts.
void State::DropFilter(Consumer& consumer) {
    if (!std::exchange(consumer.known, false)) {
        return;
    }
    Group& group = *consumer.group;
    const FilterMask freed = group.filters.Remove(consumer.filter_slot, consumer.source);
    consumer.filter_slot = kNoFilterSlot;
    // What only this one wanted may be passed over.
    group.PassOverFrom(0);
    if (freed != 0) {
        for (LooseQueue& queue : group.redelivery) {
            queue.ForgetRefusals(freed);
        }
        if (!env::Planted(env::PlantedBug::kRefusalsOutliveFilter)) {
            group.waiting.ForgetRefusals(freed);
        }
    }
}

/// The greatest number that a member asks for counts; without any member the last one's counts on.
void State::SetMostAttempts(Group& group) {
    const std::uint32_t most = group.policies.most_attempts();
    group.policy.max_attempts = most > 0 ? most : group.policy.max_attempts;
    for (LooseQueue& queue : group.redelivery) {
        // In place nothing becomes a dead letter.
        queue.SetMostAttempts(group.in_place() ? UINT32_MAX : group.policy.max_attempts);
    }
}

}  // namespace qmq::broker
