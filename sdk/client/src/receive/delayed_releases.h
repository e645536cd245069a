#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "qmq/clock.h"
#include "qmq/protocol.h"

#include "sdk/client/src/receive/ack_window.h"
#include "sdk/client/src/receive/delivery_run.h"

namespace qmq::internal {

/// Messages that handlers have put off (`HandlerOutcome::Later`). A broker takes a release at once
/// or not at all, so the consumer keeps such a message, undecided and renewed, until its delay is
/// over. Not thread-safe: under the lock of its stream.
class DelayedReleases {
public:
    struct Entry {
        std::shared_ptr<DeliveryRun> run;
        AckItem item;
        AckCallback done;
    };

    void Add(TimePoint when, Entry entry) { entries_.emplace(when, std::move(entry)); }
    /// When the next one is due.
    std::optional<TimePoint> next() const {
        return entries_.empty() ? std::nullopt : std::optional(entries_.begin()->first);
    }
    /// Those due by `now`, or all of them.
    std::vector<Entry> Take(TimePoint now = TimePoint::max()) {
        std::vector<Entry> taken;
        while (!entries_.empty() && entries_.begin()->first <= now) {
            taken.push_back(std::move(entries_.begin()->second));
            entries_.erase(entries_.begin());
        }
        return taken;
    }

private:
    std::multimap<TimePoint, Entry> entries_;
};

}  // namespace qmq::internal
