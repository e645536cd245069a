#include "sdk/client/src/base/range_set.h"

#include <algorithm>

namespace qmq::internal {

std::uint64_t RangeSet::Add(SequenceRange range) {
    const std::uint64_t before = count_;
    auto it = ranges_.upper_bound(range.first);
    if (it != ranges_.begin()) {
        auto previous = std::prev(it);
        // "Touches" is written so that last + 1 cannot overflow.
        if (previous->second >= range.first || range.first - previous->second == 1) {
            it = previous;
        }
    }
    while (it != ranges_.end() && (it->first <= range.last || it->first - range.last == 1)) {
        range.first = std::min(range.first, it->first);
        range.last = std::max(range.last, it->second);
        count_ -= it->second - it->first + 1;
        it = ranges_.erase(it);
    }
    ranges_.emplace_hint(it, range.first, range.last);
    count_ += range.count();
    return count_ - before;
}

std::uint64_t RangeSet::Remove(SequenceRange range, std::vector<SequenceRange>* removed) {
    std::uint64_t taken = 0;
    auto it = ranges_.upper_bound(range.first);
    if (it != ranges_.begin()) {
        --it;
    }
    while (it != ranges_.end() && it->first <= range.last) {
        const SequenceRange whole{it->first, it->second};
        if (whole.last < range.first) {
            ++it;
            continue;
        }
        const SequenceRange cut{std::max(whole.first, range.first),
                                std::min(whole.last, range.last)};
        it = ranges_.erase(it);
        if (whole.first < cut.first) {
            ranges_.emplace(whole.first, cut.first - 1);
        }
        if (cut.last < whole.last) {
            it = ranges_.emplace(cut.last + 1, whole.last).first;
        }
        taken += cut.count();
        if (removed != nullptr) {
            removed->push_back(cut);
        }
    }
    count_ -= taken;
    return taken;
}

bool RangeSet::Intersects(SequenceRange range) const {
    auto it = ranges_.upper_bound(range.last);
    return it != ranges_.begin() && std::prev(it)->second >= range.first;
}

std::vector<SequenceRange> RangeSet::All() const {
    std::vector<SequenceRange> all;
    all.reserve(ranges_.size());
    for (const auto& [first, last] : ranges_) {
        all.push_back({first, last});
    }
    return all;
}

std::vector<SequenceRange> RangeSet::TakeAll() {
    std::vector<SequenceRange> all = All();
    ranges_.clear();
    count_ = 0;
    return all;
}

}  // namespace qmq::internal
