#include "tests/support/told_losses.h"

#include <algorithm>
#include <charconv>

namespace qmq::testing {

namespace {

/// The end of the unread messages that `text` tells of; zero when it tells of others.
std::uint64_t UnreadEnd(std::string_view text) {
    constexpr std::string_view kUnread = "retention took unread messages below sequence ";
    std::uint64_t end = 0;
    if (text.starts_with(kUnread)) {
        text.remove_prefix(kUnread.size());
        std::from_chars(text.data(), text.data() + text.size(), end);
    }
    return end;
}

}  // namespace

void ToldLosses::OnLoss(std::string_view group,
                        std::string_view place,
                        std::string_view text,
                        std::uint64_t count,
                        bool may_be_seen) {
    Told& told = told_[std::string(group)];
    told.count += count;
    told.seen_count += may_be_seen ? count : 0;
    told.distinct_count += CountNew(place, text, count);
}

/// The unread messages of a place go in the order of their sequences: those of one event are the
/// last ones below its end.
std::uint64_t ToldLosses::CountNew(std::string_view place,
                                   std::string_view text,
                                   std::uint64_t count) {
    const std::uint64_t end = UnreadEnd(text);
    if (end == 0) {
        return count;
    }
    std::uint64_t& told_end = unread_ends_[std::string(place)];
    const std::uint64_t new_count = end - std::min(end, told_end);
    told_end = std::max(told_end, end);
    return std::min(count, new_count);
}

ToldLosses::Told ToldLosses::Find(std::string_view group) const {
    const auto found = told_.find(group);
    return found == told_.end() ? Told() : found->second;
}

}  // namespace qmq::testing
