#include "server/broker/held_table.h"

namespace qmq::broker {

std::optional<std::uint64_t> HeldTable::NextHeld(std::uint64_t pull, std::uint64_t end) const {
    for (auto at = stragglers_.lower_bound(pull); at != stragglers_.end() && at->first < end;
         ++at) {
        if (at->second.held()) {
            return at->first;
        }
    }
    const std::uint64_t last = std::min(end, next());
    for (std::uint64_t i = std::max(pull, base_); i < last; ++i) {
        if (At(i).held()) {
            return i;
        }
    }
    return std::nullopt;
}

void HeldTable::Set(std::uint64_t pull, bool held) {
    Held& entry = pull >= base_ ? At(pull) : stragglers_.at(pull);
    if (entry.held() != held) {
        entry.set_held(held);
        count_ += held ? 1U : UINT32_MAX;
        if (entry.suspect()) {
            suspect_count_ += held ? 1U : UINT32_MAX;
        }
    }
}

void HeldTable::SkipTo(std::uint64_t pull) {
    if (pull <= next()) {
        return;
    }
    if (pull - next() <= kSmallRing) {
        while (next() < pull) {
            Held done;
            ring_.push_back(done);
        }
        return;
    }
    // The done ones, too: `MarkHeld` may want them back.
    for (; !ring_.empty(); ++base_) {
        stragglers_.emplace_hint(stragglers_.end(), base_, ring_.front());
        ring_.pop_front();
    }
    base_ = pull;
}

void HeldTable::SkipBack(std::uint64_t next_then) {
    while (!ring_.empty() && next() > next_then) {
        QMQ_CHECK(!ring_.back().held(), "what was skipped is not held");
        ring_.pop_back();
    }
    if (ring_.empty()) {
        base_ = next_then;
    }
}

void HeldTable::CutFront() {
    if (ring_.front().held()) {
        stragglers_.emplace_hint(stragglers_.end(), base_, ring_.front());
    }
    ring_.pop_front();
    ++base_;
}

void HeldTable::Trim() {
    std::erase_if(stragglers_, [](const auto& entry) { return !entry.second.held(); });
    const auto mostly_done = [this] {
        return ring_.size() > kSmallRing && (count_ - stragglers_.size()) * 8 < ring_.size();
    };
    while (!ring_.empty() && (!ring_.front().held() || mostly_done())) {
        CutFront();
    }
}

}  // namespace qmq::broker
