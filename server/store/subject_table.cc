#include "server/store/subject_table.h"

#include <algorithm>
#include <utility>

#include "qmq/subject.h"

#include "server/store/bytes.h"

namespace qmq::store {

std::uint64_t SubjectLog::CountGiven(std::uint64_t from, std::uint64_t end) const {
    std::uint64_t count = end > from ? end - from : 0;
    for (const Gap& gap : gaps_) {
        const std::uint64_t begin = std::max(gap.begin, from);
        const std::uint64_t last = std::min(gap.end, end);
        count -= last > begin ? last - begin : 0;
    }
    return count;
}

SubjectState::SubjectState(std::string name, std::uint32_t id, std::uint64_t sequence_floor)
    : id_(id) {
    name_ = std::move(name);
    kind_ = ParseSubject(name_).kind;
    first_sequence_ = sequence_floor;
    next_sequence_ = sequence_floor;
}

Extent* SubjectState::Find(std::uint32_t segment) {
    const auto found = std::lower_bound(
        extents.begin(), extents.end(), segment, [](const Extent& extent, std::uint32_t wanted) {
            return extent.segment < wanted;
        });
    return found != extents.end() && found->segment == segment ? &*found : nullptr;
}

void SubjectState::AddGap(const Gap& gap) {
    if (gap.begin >= gap.end) {
        return;
    }
    if (!gaps_.empty() && gaps_.back().end >= gap.begin) {
        gaps_.back().end = std::max(gaps_.back().end, gap.end);
        return;
    }
    if (gaps_.size() == kMostGaps) {
        gaps_.erase(gaps_.begin());
    }
    gaps_.push_back(gap);
}

std::uint64_t SubjectState::stored_bytes() const {
    std::uint64_t units = 0;
    for (const Extent& extent : extents) {
        units += extent.stored_units;
    }
    return units * kAlignment;
}

SubjectState* SubjectTable::Find(std::string_view name) {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

SubjectState* SubjectTable::FindOrMake(std::string_view name) {
    SubjectState* const known = Find(name);
    if (known != nullptr || name.empty() || name.size() > kMostNameBytes) {
        return known;
    }
    all_.push_back(std::make_unique<SubjectState>(
        std::string(name), static_cast<std::uint32_t>(all_.size()), sequence_floor));
    SubjectState* const made = all_.back().get();
    by_name_.emplace(made->name(), made);
    return made;
}

}  // namespace qmq::store
