#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "server/broker/filter_slots.h"

namespace qmq::broker {

/// A message that nobody holds and that goes to the next consumer, before anything new.
struct Loose {
    std::int64_t since_ms = 0;  ///< When it was first handed out; 0 when it never was.
    std::uint32_t attempt = 1;  ///< Of its next delivery.
    std::uint8_t deaths = 0;    ///< As in `HandOutRun`.
    /// As far as is known it was never handed out: it is set aside for a member that wants it, or
    /// the record of its hand-out is damaged. When no member wants it, it is passed over.
    bool unseen = false;
    /// The filters that have refused it. In memory only: a start asks them again.
    FilterMask refused = 0;
};

/// The messages of a group that go to its consumers before anything new, in the order of their
/// sequences. What needs another treatment than the rest is found without a walk:
///
/// - those whose attempts are used up are `spent`, and never handed out again;
/// - of the others, those suspected of killing consumers are `suspects`;
/// - for each filter slot, how far it has looked in vain.
class LooseQueue {
public:
    using Map = std::map<std::uint64_t, Loose>;
    using const_iterator = Map::const_iterator;
    using Sequences = std::set<std::uint64_t>;

    bool empty() const { return entries_.empty(); }
    std::size_t size() const { return entries_.size(); }
    const_iterator begin() const { return entries_.begin(); }
    const_iterator end() const { return entries_.end(); }
    auto rbegin() const { return entries_.rbegin(); }
    const_iterator find(std::uint64_t sequence) const { return entries_.find(sequence); }
    const_iterator lower_bound(std::uint64_t sequence) const {
        return entries_.lower_bound(sequence);
    }
    const_iterator upper_bound(std::uint64_t sequence) const {
        return entries_.upper_bound(sequence);
    }

    /// One that is there already stays as it is.
    void insert(const std::pair<const std::uint64_t, Loose>& entry) {
        emplace(entry.first, entry.second);
    }
    void emplace(std::uint64_t sequence, const Loose& loose);
    const_iterator erase(const_iterator at);
    const_iterator erase(const_iterator first, const_iterator last);
    void erase(std::uint64_t sequence);
    void clear();

    const Sequences& suspects() const { return marks_ ? marks_->suspects : kNone; }
    /// The first suspect that the filter of `slot` has not refused.
    Sequences::const_iterator FirstSuspectFor(FilterSlot slot);
    const Sequences& spent() const { return marks_ ? marks_->spent : kNone; }
    std::uint32_t unseen_count() const { return unseen_count_; }

    /// Spent, or a suspect.
    bool IsApart(const Loose& loose) const {
        return loose.attempt > most_attempts_ || loose.deaths >= kSuspectDeaths;
    }
    /// Entries of more attempts than this are spent.
    void SetMostAttempts(std::uint32_t most);

    /// The filters of `mask` do not let it through.
    void Refuse(const_iterator at, FilterMask mask);
    /// The slots of `mask` belong to other filters from now on.
    void ForgetRefusals(FilterMask mask);
    /// Below this lies nothing for the filter of `slot`, but for suspects.
    std::uint64_t look_from(FilterSlot slot) const;
    void SetLookFrom(FilterSlot slot, std::uint64_t sequence);

private:
    /// Only few groups ever have any of it.
    struct Marks {
        Sequences suspects;
        Sequences spent;
        std::vector<std::uint64_t> look_from;     ///< By slot.
        std::vector<std::uint64_t> suspect_from;  ///< By slot: no suspect for it lies below.
    };
    static const Sequences kNone;

    Marks& marks() {
        if (marks_ == nullptr) {
            marks_ = std::make_unique<Marks>();
        }
        return *marks_;
    }
    void Mark(std::uint64_t sequence, const Loose& loose);
    void Unmark(std::uint64_t sequence, const Loose& loose);

    Map entries_;
    std::unique_ptr<Marks> marks_;
    std::uint32_t unseen_count_ = 0;
    std::uint32_t most_attempts_ = UINT32_MAX;
};

}  // namespace qmq::broker
