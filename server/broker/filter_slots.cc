#include "server/broker/filter_slots.h"

#include <bit>

namespace qmq::broker {

namespace {
constexpr std::array<Origin, 2> kTaken{Origin::kSubject, Origin::kRetry};
}  // namespace

FilterSlot FilterSlots::Add(const TagFilter& filter, ConsumeSource source) {
    ++member_count_;
    std::size_t slot = slots_.size();
    for (std::size_t i = slots_.size(); i-- > 0;) {
        if (slots_[i].members == 0) {
            slot = i;
        } else if (slots_[i].filter == filter) {
            slot = i;
            break;
        }
    }
    if (slot == kMostFilterSlots) {
        for (const Origin origin : kTaken) {
            homeless_[LogOf(origin)] += Takes(source, origin) ? 1U : 0U;
        }
        return kNoFilterSlot;
    }
    if (slot == slots_.size()) {
        slots_.emplace_back();
    }
    Slot& taken = slots_[slot];
    taken.filter = filter;
    ++taken.members;
    for (const Origin origin : kTaken) {
        if (Takes(source, origin)) {
            ++taken.users[LogOf(origin)];
            wants_[LogOf(origin)] |= MaskOf(static_cast<FilterSlot>(slot));
        }
    }
    return static_cast<FilterSlot>(slot);
}

FilterMask FilterSlots::Remove(FilterSlot slot, ConsumeSource source) {
    --member_count_;
    for (const Origin origin : kTaken) {
        const auto i = LogOf(origin);
        if (!Takes(source, origin)) {
            continue;
        }
        if (slot == kNoFilterSlot) {
            --homeless_[i];
        } else if (--slots_[slot].users[i] == 0) {
            wants_[i] &= ~MaskOf(slot);
        }
    }
    if (slot == kNoFilterSlot || --slots_[slot].members > 0) {
        return 0;
    }
    slots_[slot].filter = {};
    return MaskOf(slot);
}

bool FilterSlots::HasRoomFor(const TagFilter& filter, FilterSlot leaving) const {
    if (slots_.size() < kMostFilterSlots) {
        return true;
    }
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        const std::uint32_t members = slots_[i].members - (i == leaving ? 1U : 0U);
        if (members == 0 || slots_[i].filter == filter) {
            return true;
        }
    }
    return false;
}

const TagFilter* FilterSlots::AnyOther(FilterSlot own) const {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        if (i != own && slots_[i].members > 0) {
            return &slots_[i].filter;
        }
    }
    return nullptr;
}

bool FilterSlots::mixed(Origin origin) const {
    const auto i = LogOf(origin);
    return std::popcount(wants_[i]) + static_cast<int>(homeless_[i] > 0 ? 1 : 0) > 1 ||
           homeless_[i] > 1;
}

bool FilterSlots::AllRefuse(FilterMask refused, Origin origin) const {
    const auto i = LogOf(origin);
    return homeless_[i] == 0 && wants_[i] != 0 && (refused & wants_[i]) == wants_[i];
}

}  // namespace qmq::broker
