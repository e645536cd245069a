#pragma once

#include <cstdint>
#include <vector>

#include "qmq/protocol.h"

#include "tests/support/fake_transport.h"

namespace qmq::testing {

/// What `broker` has heard of how deliveries ended, in order: no begins and no renewals.
inline std::vector<AckItem> DecisionsAt(const FakeBroker& broker) {
    std::vector<AckItem> items = broker.acks();
    std::erase_if(items, [](const AckItem& item) {
        return item.verdict == AckVerdict::kBegin || item.verdict == AckVerdict::kRenew;
    });
    return items;
}

inline std::vector<AckItem> DecisionsAt(const FakeBroker& broker, AckVerdict verdict) {
    std::vector<AckItem> items = DecisionsAt(broker);
    std::erase_if(items, [verdict](const AckItem& item) { return item.verdict != verdict; });
    return items;
}

/// Messages that `items` are about.
inline std::uint64_t MessagesIn(const std::vector<AckItem>& items) {
    std::uint64_t count = 0;
    for (const AckItem& item : items) {
        count += item.last - item.first + 1;
    }
    return count;
}

}  // namespace qmq::testing
