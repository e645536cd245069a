#pragma once

#include <cstdint>

#include "qmq/batch.h"
#include "qmq/protocol.h"

#include "server/store/shard_store.h"

namespace qmq::broker {

/// A group's tag filter as the store asks it: first by the mask in the index, then exactly. A
/// message without tags never matches an active filter. [I]
class TagMatcher final : public store::MessageMatcher {
public:
    explicit TagMatcher(const TagFilter& filter);

    static bool IsActive(const TagFilter& filter) {
        return filter.mode != TagMode::kNone && !filter.tags.empty();
    }

    bool MayMatch(std::uint32_t tag_mask) const override;
    bool Matches(const MessageHead& head) const override;

private:
    const TagFilter& filter_;
    std::uint32_t mask_ = 0;
};

}  // namespace qmq::broker
