#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "qmq/protocol.h"

#include "server/broker/actions.h"

namespace qmq::broker {

/// Which of the filters of a group; a bit each in a mask.
using FilterSlot = std::uint8_t;
using FilterMask = std::uint64_t;
/// Most different filters of a group: who comes with one more is refused.
inline constexpr FilterSlot kMostFilterSlots = 64;
/// Of nobody; or of a member that a log tells of which has lost the records of others to damage:
/// it is served, but what it refuses is not remembered.
inline constexpr FilterSlot kNoFilterSlot = 255;

inline FilterMask MaskOf(FilterSlot slot) {
    return slot < kMostFilterSlots ? FilterMask{1} << slot : 0;
}

/// The filters that the members of a group ask for, each one once, and for which log: so that what
/// "every member refuses" can be told by a mask.
class FilterSlots {
public:
    FilterSlot Add(const TagFilter& filter, ConsumeSource source);
    /// Whether `Add` finds a slot for `filter` once the member of slot `leaving` has left its own.
    bool HasRoomFor(const TagFilter& filter, FilterSlot leaving) const;
    /// Returns the mask of the slot when nobody has the filter any more.
    FilterMask Remove(FilterSlot slot, ConsumeSource source);

    /// Of all members, whatever they take.
    std::uint32_t member_count() const { return member_count_; }
    /// Whether the members that take messages of `origin` ask for different things.
    bool mixed(Origin origin) const;
    /// Whether every member that takes messages of `origin` is among those that `refused`; no when
    /// there is none.
    bool AllRefuse(FilterMask refused, Origin origin) const;

    /// The slots of members that take messages of `origin`.
    FilterMask wants(Origin origin) const { return wants_[LogOf(origin)]; }
    /// `visit(filter)` for each filter with a slot of members that take messages of `origin`, but
    /// for that of `own`.
    template <typename Visit>
    void ForEachOther(FilterSlot own, Origin origin, Visit visit) const {
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            if (i != own && slots_[i].users[LogOf(origin)] > 0) {
                visit(slots_[i].filter);
            }
        }
    }
    /// A filter that some member has and that is not that of slot `own`; null: there is none.
    const TagFilter* AnyOther(FilterSlot own) const;
    /// Members without a slot that take messages of `origin`.
    std::uint32_t homeless(Origin origin) const { return homeless_[LogOf(origin)]; }

private:
    struct Slot {
        TagFilter filter;
        std::array<std::uint32_t, 2> users{};  ///< Of the subject, and of retries: some take both.
        std::uint32_t members = 0;
    };

    /// Who takes the subject takes what is kept of it.
    static std::size_t LogOf(Origin origin) { return origin == Origin::kRetry ? 1 : 0; }

    std::vector<Slot> slots_;
    std::array<FilterMask, 2> wants_{};
    std::array<std::uint32_t, 2> homeless_{};
    std::uint32_t member_count_ = 0;
};

inline bool Takes(ConsumeSource source, Origin origin) {
    return source == ConsumeSource::kBoth ||
           (source == ConsumeSource::kSubject) == (origin != Origin::kRetry);
}

}  // namespace qmq::broker
