#pragma once

#include <cstddef>
#include <functional>
#include <optional>

namespace qmq::internal {

/// Spreads the batches of a subject over its broker groups: round-robin over those that are
/// available. A batch that failed at one group goes to another when there is one. Whoever asks once
/// a batch is sticky while that batch is open.
class BrokerSelector {
public:
    /// The index of one of `count` groups for which `available` is true; nothing when there is
    /// none. `avoid` is taken only when it is the only one.
    template <typename Available>
    std::optional<std::size_t> Pick(std::size_t count,
                                    std::optional<std::size_t> avoid,
                                    Available&& available) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t candidate = (next_ + i) % count;
            if (candidate != avoid && available(candidate)) {
                next_ = candidate + 1;
                return candidate;
            }
        }
        if (avoid.has_value() && *avoid < count && available(*avoid)) {
            return avoid;
        }
        return std::nullopt;
    }
    /// Where the round begins, so that many producers do not all begin at the first group.
    void StartAt(std::size_t index) { next_ = index; }

private:
    std::size_t next_ = 0;
};

}  // namespace qmq::internal
