#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace qmq::testing {

/// Adds up what a broker tells of its losses, over all its processes. What one of them has told,
/// and was killed before the segment had gone, the next one tells again, perhaps together with
/// more.
class ToldLosses {
public:
    /// One event of a loss, with its place, text and count. `may_be_seen`: of what the group may
    /// have been handed.
    void OnLoss(std::string_view group,
                std::string_view place,
                std::string_view text,
                std::uint64_t count,
                bool may_be_seen);

    /// All that was told.
    std::uint64_t CountOf(std::string_view group) const { return Find(group).count; }
    /// Of this, what the group may have been handed.
    std::uint64_t SeenCountOf(std::string_view group) const { return Find(group).seen_count; }
    /// What was told, and each unread message once, for a group that reads in order and whose
    /// sequences no power cut has used again.
    std::uint64_t DistinctCountOf(std::string_view group) const {
        return Find(group).distinct_count;
    }

private:
    struct Told {
        std::uint64_t count = 0;
        std::uint64_t seen_count = 0;
        std::uint64_t distinct_count = 0;
    };
    Told Find(std::string_view group) const;
    std::uint64_t CountNew(std::string_view place, std::string_view text, std::uint64_t count);

    std::map<std::string, Told, std::less<>> told_;
    std::map<std::string, std::uint64_t, std::less<>> unread_ends_;  // By place.
};

}  // namespace qmq::testing
