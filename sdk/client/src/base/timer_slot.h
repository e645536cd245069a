#pragma once

#include "qmq/clock.h"
#include "qmq/executor.h"

namespace qmq::internal {

/// One timer of an owner that is kept alive by nobody but its users: setting it again replaces it.
/// Not thread-safe: used under its owner's lock.
class TimerSlot {
public:
    explicit TimerSlot(Executor& executor) : executor_(executor) {}
    ~TimerSlot() { Cancel(); }
    TimerSlot(const TimerSlot&) = delete;
    TimerSlot& operator=(const TimerSlot&) = delete;

    bool armed() const { return timer_ != 0; }
    TimePoint when() const { return when_; }
    /// Arms it for `when` unless it will fire sooner already.
    template <typename MakeTask>
    void ArmBy(TimePoint when, MakeTask&& make_task) {
        if (timer_ != 0 && when_ <= when) {
            return;
        }
        Cancel();
        when_ = when;
        timer_ = executor_.PostAt(when, make_task());
    }
    /// The task runs: the slot is free.
    void OnFired() { timer_ = 0; }
    void Cancel() {
        if (timer_ != 0) {
            executor_.Cancel(timer_);
            timer_ = 0;
        }
    }

private:
    Executor& executor_;
    TimerId timer_ = 0;
    TimePoint when_{};
};

}  // namespace qmq::internal
