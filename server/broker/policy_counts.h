#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <map>

#include "qmq/protocol.h"

namespace qmq::broker {

/// The retry policies that the members of a group ask for, each one once: what counts for the group
/// is found without a walk over its members.
class PolicyCounts {
public:
    void Add(const RetryPolicy& policy) {
        ++counts_.try_emplace(KeyOf(policy), Entry{policy, 0}).first->second.count;
    }
    void Remove(const RetryPolicy& policy) {
        const auto found = counts_.find(KeyOf(policy));
        if (found != counts_.end() && --found->second.count == 0) {
            counts_.erase(found);
        }
    }
    /// The greatest number of attempts; zero without any.
    std::uint32_t most_attempts() const {
        return counts_.empty() ? 0 : static_cast<std::uint32_t>(counts_.rbegin()->first[0]);
    }
    /// One that is not `own`; null: there is none.
    const RetryPolicy* AnyOther(const RetryPolicy& own) const {
        const Key key = KeyOf(own);
        for (const auto& [other, entry] : counts_) {
            if (other != key) {
                return &entry.policy;
            }
        }
        return nullptr;
    }

private:
    /// By the number of attempts first. The bits of the multiplier have an order whatever it is.
    using Key = std::array<std::uint64_t, 4>;
    static Key KeyOf(const RetryPolicy& policy) {
        return {policy.max_attempts,
                static_cast<std::uint64_t>(policy.initial_backoff.count()),
                static_cast<std::uint64_t>(policy.max_backoff.count()),
                std::bit_cast<std::uint64_t>(policy.multiplier)};
    }

    struct Entry {
        RetryPolicy policy;
        std::uint32_t count = 0;
    };

    std::map<Key, Entry> counts_;
};

}  // namespace qmq::broker
