#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <tuple>

#include "server/broker/group.h"

namespace qmq::broker {

enum class TimerKind : std::uint8_t {
    kLease,  ///< A consumer's oldest leases may be over.
    kGone,   ///< A consumer has been away for too long.
    kPull,   ///< A pull has waited long enough.
    kDue     ///< A group's next retry is due.
};

struct Timer {
    ShardMs when_ms = 0;
    TimerKind kind = TimerKind::kLease;
    std::uint64_t serial = 0;  ///< Of the consumer or group: order must not hang on addresses.
    Consumer* consumer = nullptr;
    Group* group = nullptr;

    friend bool operator<(const Timer& a, const Timer& b) {
        return std::tie(a.when_ms, a.kind, a.serial) < std::tie(b.when_ms, b.kind, b.serial);
    }
};

/// The timers of a shard's consumers and groups. Idle ones have none, so they cost nothing. Each
/// consumer and group remembers when its timers run (-1: not set), which finds them again.
class TimerQueue {
public:
    void Set(Consumer& consumer, TimerKind kind, ShardMs when_ms) {
        Move(Slot(consumer, kind), Timer{when_ms, kind, consumer.serial, &consumer, nullptr});
    }
    void Set(Group& group, ShardMs when_ms) {
        Move(group.due_timer_ms, Timer{when_ms, TimerKind::kDue, group.serial, nullptr, &group});
    }
    void Cancel(Consumer& consumer, TimerKind kind) {
        Drop(Slot(consumer, kind), Timer{0, kind, consumer.serial, &consumer, nullptr});
    }
    void Cancel(Group& group) {
        Drop(group.due_timer_ms, Timer{0, TimerKind::kDue, group.serial, nullptr, &group});
    }
    void CancelAll(Consumer& consumer) {
        Cancel(consumer, TimerKind::kLease);
        Cancel(consumer, TimerKind::kGone);
        Cancel(consumer, TimerKind::kPull);
    }

    /// -1: none.
    ShardMs earliest_ms() const { return timers_.empty() ? -1 : timers_.begin()->when_ms; }

    /// The next one that is due, which is then no longer set.
    std::optional<Timer> Take(ShardMs now_ms) {
        if (timers_.empty() || timers_.begin()->when_ms > now_ms) {
            return std::nullopt;
        }
        const Timer timer = *timers_.begin();
        timers_.erase(timers_.begin());
        (timer.consumer != nullptr ? Slot(*timer.consumer, timer.kind)
                                   : timer.group->due_timer_ms) = -1;
        return timer;
    }

private:
    static ShardMs& Slot(Consumer& consumer, TimerKind kind) {
        return kind == TimerKind::kLease  ? consumer.lease_timer_ms
               : kind == TimerKind::kGone ? consumer.gone_timer_ms
                                          : consumer.pull_timer_ms;
    }

    void Move(ShardMs& slot, Timer timer) {
        if (slot != timer.when_ms) {
            Drop(slot, timer);
            slot = timer.when_ms;
            timers_.insert(timer);
        }
    }

    void Drop(ShardMs& slot, Timer timer) {
        if (slot >= 0) {
            timer.when_ms = slot;
            timers_.erase(timer);
            slot = -1;
        }
    }

    std::set<Timer> timers_;
};

}  // namespace qmq::broker
