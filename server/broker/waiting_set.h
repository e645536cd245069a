#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "server/broker/filter_slots.h"
#include "server/broker/held_table.h"

namespace qmq::broker {

/// The longest wait of a message that is to be tried again.
inline constexpr std::chrono::milliseconds kMostRetryDelay = std::chrono::hours(24 * 7);

/// A message that is tried again when it is due.
struct Waiting {
    std::uint64_t sequence = 0;
    /// By the log's running time, as its record says: it survives a restart.
    std::int64_t due_ms = 0;
    std::int64_t since_ms = 0;
    std::uint32_t attempt = 1;  ///< Of its next delivery.
    /// By the clock that never jumps: what decides in this process. Nothing of it is stored.
    ShardMs due_at_ms = 0;
    FilterMask refused = 0;  ///< As in `Loose`.
};

/// The messages of a group that wait for their time: the next one due first, and by sequence. A
/// group without any pays for a pointer.
class WaitingSet {
public:
    struct ByDue {
        bool operator()(const Waiting* a, const Waiting* b) const {
            return a->due_at_ms != b->due_at_ms ? a->due_at_ms < b->due_at_ms
                                                : a->sequence < b->sequence;
        }
    };
    using Due = std::set<const Waiting*, ByDue>;
    using Sequences = std::map<std::uint64_t, Waiting>;
    /// Where something lies in the order of `by_due`.
    struct Place {
        ShardMs due_at_ms = 0;
        std::uint64_t sequence = 0;
        friend auto operator<=>(const Place&, const Place&) = default;
    };

    bool empty() const { return entries_ == nullptr; }
    std::size_t size() const { return by_sequence().size(); }
    const Due& by_due() const { return empty() ? kNone.by_due : entries_->by_due; }
    const Sequences& by_sequence() const {
        return empty() ? kNone.by_sequence : entries_->by_sequence;
    }

    /// Null: it does not wait.
    const Waiting* Find(std::uint64_t sequence) const {
        const auto found = by_sequence().find(sequence);
        return found != by_sequence().end() ? &found->second : nullptr;
    }
    /// The next one that is due later than `now`. Null: none is.
    const Waiting* FirstAfter(ShardMs now) const {
        const Waiting last{UINT64_MAX, 0, 0, 1, now};
        const auto at = by_due().upper_bound(&last);
        return at == by_due().end() ? nullptr : *at;
    }
    /// The first that the filter of `slot` has not looked at in vain.
    Due::const_iterator FirstFor(FilterSlot slot) const {
        if (empty() || slot >= entries_->look_from.size()) {
            return by_due().begin();
        }
        const Place& from = entries_->look_from[slot];
        const Waiting first{from.sequence, 0, 0, 1, from.due_at_ms};
        return by_due().lower_bound(&first);
    }
    /// Where `at` is; the end lies behind the last.
    Place PlaceOf(Due::const_iterator at) const {
        if (at != by_due().end()) {
            return {(*at)->due_at_ms, (*at)->sequence};
        }
        return empty() ? Place{}
                       : Place{(*by_due().rbegin())->due_at_ms, (*by_due().rbegin())->sequence + 1};
    }
    /// Before `from` lies nothing for the filter of `slot`.
    void SetLookFrom(FilterSlot slot, Place from) {
        if (empty() || slot == kNoFilterSlot) {
            return;
        }
        if (slot >= entries_->look_from.size()) {
            entries_->look_from.resize(slot + 1U);
        }
        entries_->look_from[slot] = from;
    }
    /// The filters of `mask` do not let it through.
    void Refuse(std::uint64_t sequence, FilterMask mask) {
        if (!empty()) {
            if (const auto found = entries_->by_sequence.find(sequence);
                found != entries_->by_sequence.end()) {
                found->second.refused |= mask;
            }
        }
    }
    /// The slots of `mask` belong to other filters from now on.
    void ForgetRefusals(FilterMask mask) {
        if (!empty()) {
            for (auto& [sequence, waiting] : entries_->by_sequence) {
                waiting.refused &= ~mask;
            }
            for (std::size_t slot = 0; slot < entries_->look_from.size(); ++slot) {
                if ((mask & MaskOf(static_cast<FilterSlot>(slot))) != 0) {
                    entries_->look_from[slot] = {};
                }
            }
        }
    }
    /// Nothing happens when its sequence waits already.
    void Insert(const Waiting& waiting) {
        if (empty()) {
            entries_ = std::make_unique<Entries>();
        }
        if (const auto [at, fresh] = entries_->by_sequence.emplace(waiting.sequence, waiting);
            fresh) {
            entries_->by_due.insert(&at->second);
            LookAgain(waiting);
        }
    }
    std::optional<Waiting> Take(std::uint64_t sequence) {
        const auto found = by_sequence().find(sequence);
        if (found == by_sequence().end()) {
            return std::nullopt;
        }
        const Waiting waiting = found->second;
        entries_->by_due.erase(&found->second);
        entries_->by_sequence.erase(found);
        if (entries_->by_sequence.empty()) {
            entries_.reset();
        }
        return waiting;
    }
    /// Returns how many went.
    std::uint64_t EraseBelow(std::uint64_t end) {
        std::uint64_t count = 0;
        for (; !empty() && by_sequence().begin()->first < end; ++count) {
            Take(by_sequence().begin()->first);
        }
        return count;
    }
    void EraseFrom(std::uint64_t begin) {
        while (!empty() && by_sequence().rbegin()->first >= begin) {
            Take(by_sequence().rbegin()->first);
        }
    }
    /// `due_at(waiting)` says anew when each is due.
    template <typename DueAt>
    void Reschedule(DueAt due_at) {
        if (empty()) {
            return;
        }
        entries_->by_due.clear();
        entries_->look_from.clear();
        for (auto& [sequence, waiting] : entries_->by_sequence) {
            waiting.due_at_ms = due_at(waiting);
            entries_->by_due.insert(&waiting);
        }
    }
    void clear() { entries_.reset(); }

private:
    struct Entries {
        Sequences by_sequence;
        Due by_due;
        std::vector<Place> look_from;  ///< By slot.
    };
    void LookAgain(const Waiting& waiting) {
        const Place place{waiting.due_at_ms, waiting.sequence};
        for (std::size_t slot = 0; slot < entries_->look_from.size(); ++slot) {
            if ((waiting.refused & MaskOf(static_cast<FilterSlot>(slot))) == 0) {
                entries_->look_from[slot] = std::min(entries_->look_from[slot], place);
            }
        }
    }
    inline static const Entries kNone;

    std::unique_ptr<Entries> entries_;  ///< Null while there are none.
};

}  // namespace qmq::broker
