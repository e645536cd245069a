#include "server/broker/tag_matcher.h"

#include <algorithm>

namespace qmq::broker {

TagMatcher::TagMatcher(const TagFilter& filter) : filter_(filter) {
    for (const std::string& tag : filter.tags) {
        mask_ |= TagBit(tag);
    }
}

bool TagMatcher::MayMatch(std::uint32_t tag_mask) const {
    return filter_.mode == TagMode::kAll ? (tag_mask & mask_) == mask_ : (tag_mask & mask_) != 0;
}

bool TagMatcher::Matches(const MessageHead& head) const {
    const auto has = [&head](const std::string& tag) { return HeadHasTag(head, tag); };
    return filter_.mode == TagMode::kAll
               ? std::all_of(filter_.tags.begin(), filter_.tags.end(), has)
               : std::any_of(filter_.tags.begin(), filter_.tags.end(), has);
}

void AnyMatcher::Add(const TagFilter& filter) {
    if (TagMatcher::IsActive(filter)) {
        matchers_.emplace_back(filter);
    } else {
        all_ = true;
    }
}

bool AnyMatcher::MayMatch(std::uint32_t tag_mask) const {
    return all_ || std::any_of(matchers_.begin(), matchers_.end(), [tag_mask](const TagMatcher& m) {
               return m.MayMatch(tag_mask);
           });
}

bool AnyMatcher::Matches(const MessageHead& head) const {
    return all_ || std::any_of(matchers_.begin(), matchers_.end(), [&head](const TagMatcher& m) {
               return m.Matches(head);
           });
}

}  // namespace qmq::broker
