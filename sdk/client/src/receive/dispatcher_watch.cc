// Whether a subscription's handlers go on: what waits behind handlers that do not is for others.

#include <algorithm>
#include <utility>

#include "sdk/client/src/receive/dispatcher.h"

namespace qmq::internal {

namespace {

/// When all handlers have been busy with the same messages for so long, it is told; then at twice
/// the time, and so on.
constexpr std::chrono::seconds kBusy{10};

std::string Seconds(std::chrono::nanoseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

}  // namespace

TimePoint Dispatcher::LastClaim() const {
    TimePoint last = gone_claimed_at_;
    for (const RunnerPtr& runner : runners_) {
        last = std::max(last, runner->claimed_at.load(std::memory_order_relaxed));
    }
    return last;
}

/// From the first message on until nothing is here any more.
void Dispatcher::BeginWatch(TimePoint now) {
    if (watch_timer_.armed() || watch_timer_.refused()) {
        return;
    }
    progress_at_ = none_waited_at_ = now;
    next_busy_line_ = kBusy;
    ArmWatch(now);
}

bool Dispatcher::AnyUnclaimed() const {
    return std::any_of(queue_.begin(), queue_.end(), [](const Queued& queued) {
        return queued.run->unclaimed_count() > 0;
    });
}

void Dispatcher::ArmWatch(TimePoint now) {
    // When there is something to tell or to give back, unless handlers go on; but not seldom: what
    // goes on is seen, and what begins to wait.
    TimePoint due = now + std::min<std::chrono::nanoseconds>(options_.patience, kBusy);
    for (const TimePoint one : {progress_at_ + next_busy_line_,
                                std::max(progress_at_, none_waited_at_) + options_.patience}) {
        due = one > now ? std::min(due, one) : due;
    }
    ArmWatchAt(due);
}

void Dispatcher::ArmWatchAt(TimePoint due) {
    watch_timer_.ArmBy(due, *this, &Dispatcher::OnWatch);
}

Dispatcher::Stall Dispatcher::SetStalled(bool stalled) {
    stalled_ = stalled;
    return {++stall_order_, stalled};
}

void Dispatcher::OnWatch(TimerSlot::Shot shot) {
    std::string line;
    Stall begun;
    const TimePoint now = runtime_->Now();
    {
        MutexLock lock(mutex_);
        watch_timer_.OnFired(shot);
        if (closed_ || (runners_.empty() && queue_.empty() && !stalled_)) {
            return;
        }
        const bool any_waits = AnyUnclaimed();
        if (!any_waits) {
            none_waited_at_ = now;
        }
        if (const TimePoint claim = LastClaim(); claim > progress_at_) {
            progress_at_ = claim;
            next_busy_line_ = kBusy;
        }
        line = BusyLine(now, any_waits);
        // Handlers that take long are no reason while nothing waits for them: others are free.
        if (any_waits && now - std::max(progress_at_, none_waited_at_) >= options_.patience) {
            begun = SetStalled(true);
        }
        RearmRefused();
        ArmWatch(now);
    }
    if (begun.on) {
        streams_->SetHold(StreamSet::Hold::kStalled, begun.order, begun.on);
        streams_->GiveBack(now, 0);
    } else if (options_.most_waiting > 0) {
        streams_->GiveBack(now - options_.patience, options_.most_waiting);
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
}

/// Empty when there is nothing to tell (now).
std::string Dispatcher::BusyLine(TimePoint now, bool any_waits) {
    const std::uint64_t busy = Inside();
    const bool all = busy >= options_.parallelism;
    // Where handlers are free, what has just come has not waited since the one before it.
    const std::chrono::nanoseconds since =
        now - (all ? progress_at_ : std::max(progress_at_, none_waited_at_));
    if (since < next_busy_line_ || !(all || any_waits || stalled_)) {
        return {};
    }
    next_busy_line_ = since * 2;
    const std::string of = std::to_string(options_.parallelism) + " handlers";
    return "subject " + handling_->subject() + ", group " + handling_->group() + ": " +
           (all ? "all " + of + " have been busy for " + Seconds(since) +
                      ": no further message is begun until one returns"
                : "no message was begun for " + Seconds(since) +
                      " though some waited: " + std::to_string(busy) + " of " + of +
                      " are busy, and their executor has no thread for more");
}

}  // namespace qmq::internal
