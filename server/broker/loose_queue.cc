#include "server/broker/loose_queue.h"

#include <algorithm>

namespace qmq::broker {

const LooseQueue::Sequences LooseQueue::kNone;

void LooseQueue::Mark(std::uint64_t sequence, const Loose& loose) {
    if (loose.attempt > most_attempts_) {
        marks().spent.insert(sequence);
    } else if (loose.deaths >= kSuspectDeaths) {
        marks().suspects.insert(sequence);
    }
    if (marks_ != nullptr) {
        for (std::vector<std::uint64_t>* from : {&marks_->look_from, &marks_->suspect_from}) {
            for (std::size_t slot = 0; slot < from->size(); ++slot) {
                if ((loose.refused & MaskOf(static_cast<FilterSlot>(slot))) == 0) {
                    (*from)[slot] = std::min((*from)[slot], sequence);
                }
            }
        }
    }
}

void LooseQueue::Unmark(std::uint64_t sequence, const Loose& loose) {
    if (marks_ != nullptr && IsApart(loose)) {
        marks_->spent.erase(sequence);
        marks_->suspects.erase(sequence);
    }
}

void LooseQueue::emplace(std::uint64_t sequence, const Loose& loose) {
    if (entries_.emplace(sequence, loose).second) {
        unseen_count_ += loose.unseen ? 1U : 0U;
        Mark(sequence, loose);
    }
}

LooseQueue::const_iterator LooseQueue::erase(const_iterator at) {
    unseen_count_ -= at->second.unseen ? 1U : 0U;
    Unmark(at->first, at->second);
    return entries_.erase(at);
}

LooseQueue::const_iterator LooseQueue::erase(const_iterator first, const_iterator last) {
    while (first != last) {
        first = erase(first);
    }
    return first;
}

void LooseQueue::erase(std::uint64_t sequence) {
    if (const auto found = entries_.find(sequence); found != entries_.end()) {
        erase(found);
    }
}

void LooseQueue::clear() {
    entries_.clear();
    marks_ = nullptr;
    unseen_count_ = 0;
}

void LooseQueue::SetMostAttempts(std::uint32_t most) {
    if (std::exchange(most_attempts_, most) == most || entries_.empty()) {
        return;
    }
    marks_ = nullptr;
    for (const auto& [sequence, loose] : entries_) {
        Mark(sequence, loose);
    }
}

void LooseQueue::Refuse(const_iterator at, FilterMask mask) {
    // An erase of nothing is how a map turns a position to read into one to write.
    entries_.erase(at, at)->second.refused |= mask;
}

void LooseQueue::ForgetRefusals(FilterMask mask) {
    for (auto& [sequence, loose] : entries_) {
        loose.refused &= ~mask;
    }
    if (marks_ != nullptr) {
        for (std::vector<std::uint64_t>* from : {&marks_->look_from, &marks_->suspect_from}) {
            for (std::size_t slot = 0; slot < from->size(); ++slot) {
                if ((mask & MaskOf(static_cast<FilterSlot>(slot))) != 0) {
                    (*from)[slot] = 0;
                }
            }
        }
    }
}

LooseQueue::Sequences::const_iterator LooseQueue::FirstSuspectFor(FilterSlot slot) {
    if (suspects().empty() || slot == kNoFilterSlot) {
        return suspects().end();
    }
    std::vector<std::uint64_t>& from = marks().suspect_from;
    if (slot >= from.size()) {
        from.resize(slot + 1U, 0);
    }
    auto at = suspects().lower_bound(from[slot]);
    while (at != suspects().end() && (find(*at)->second.refused & MaskOf(slot)) != 0) {
        ++at;
    }
    from[slot] = at != suspects().end() ? *at : *suspects().rbegin() + 1;
    return at;
}

std::uint64_t LooseQueue::look_from(FilterSlot slot) const {
    return marks_ != nullptr && slot < marks_->look_from.size() ? marks_->look_from[slot] : 0;
}

void LooseQueue::SetLookFrom(FilterSlot slot, std::uint64_t sequence) {
    if (slot == kNoFilterSlot || (marks_ == nullptr && sequence == 0)) {
        return;
    }
    std::vector<std::uint64_t>& look_from = marks().look_from;
    if (slot >= look_from.size()) {
        look_from.resize(slot + 1U, 0);
    }
    look_from[slot] = sequence;
}

}  // namespace qmq::broker
