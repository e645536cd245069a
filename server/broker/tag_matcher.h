#pragma once

#include <cstdint>
#include <vector>

#include "qmq/batch.h"
#include "qmq/protocol.h"

#include "server/store/shard_store.h"

namespace qmq::broker {

/// A tag filter as the store asks it: first by the mask in the index, then exactly. A message
/// without tags never matches an active filter. [I]
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

/// Finds what any of several members wants.
class AnyMatcher final : public store::MessageMatcher {
public:
    /// One of them asks for `filter`, which outlives this.
    void Add(const TagFilter& filter);
    /// Somebody wants everything.
    bool wants_all() const { return all_; }

    bool MayMatch(std::uint32_t tag_mask) const override;
    bool Matches(const MessageHead& head) const override;

private:
    std::vector<TagMatcher> matchers_;
    bool all_ = false;
};

/// Finds what one member does not want, and another one does.
class ForOthersMatcher final : public store::MessageMatcher {
public:
    ForOthersMatcher(const TagFilter& own, const AnyMatcher& others) : own_(own), others_(others) {}

    bool MayMatch(std::uint32_t tag_mask) const override { return others_.MayMatch(tag_mask); }
    bool Matches(const MessageHead& head) const override {
        return !own_.Matches(head) && others_.Matches(head);
    }

private:
    TagMatcher own_;
    const AnyMatcher& others_;
};

}  // namespace qmq::broker
