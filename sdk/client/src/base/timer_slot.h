#pragma once

#include <algorithm>
#include <cstdint>

#include "qmq/clock.h"
#include "qmq/executor.h"

namespace qmq::internal {

/// One timer of an owner that is kept alive by nobody but its users: setting it again replaces it.
/// One that is replaced while it fires runs all the same; its task says by its number which it was.
/// An executor may refuse a timer. Then nothing fires, but the time is remembered: the owner looks
/// at `refused` whenever it is called, and asks again.
/// Not thread-safe: used under its owner's lock.
class TimerSlot {
public:
    /// Which of the timers that there were.
    using Shot = std::uint64_t;

    explicit TimerSlot(Executor& executor) : executor_(executor) {}
    ~TimerSlot() { Cancel(); }
    TimerSlot(const TimerSlot&) = delete;
    TimerSlot& operator=(const TimerSlot&) = delete;

    bool armed() const { return timer_ != 0; }
    /// Whether it should be armed for `when()` and the executor has refused that: to be asked for
    /// again, by `ArmBy(when(), …)`.
    bool refused() const { return refused_; }
    TimePoint when() const { return when_; }
    /// Arms it for `when` unless it will fire sooner already; for the time that was refused, when
    /// that is sooner. `make_task(shot)` makes the task, which calls `OnFired(shot)`.
    template <typename MakeTask>
    void ArmBy(TimePoint when, MakeTask&& make_task) {
        if (timer_ != 0 && when_ <= when) {
            return;
        }
        when_ = refused_ ? std::min(when_, when) : when;
        Cancel();
        timer_ = executor_.PostAt(when_, make_task(++shot_));
        refused_ = timer_ == 0;
    }
    /// As above; the task calls `fired` of `owner`, if that is still there.
    template <typename Owner>
    void ArmBy(TimePoint when, Owner& owner, void (Owner::*fired)(Shot)) {
        ArmBy(when, [&owner, fired](Shot shot) {
            return [weak = owner.weak_from_this(), fired, shot] {
                if (const auto live = weak.lock()) {
                    (live.get()->*fired)(shot);
                }
            };
        });
    }
    /// The task runs: the slot is free, unless it has been armed anew since.
    void OnFired(Shot shot) {
        if (shot == shot_) {
            timer_ = 0;
        }
    }
    /// It is not wanted any more.
    void Cancel() {
        refused_ = false;
        if (timer_ != 0) {
            executor_.Cancel(timer_);
            timer_ = 0;
        }
    }

private:
    Executor& executor_;
    TimerId timer_ = 0;
    Shot shot_ = 0;
    bool refused_ = false;
    TimePoint when_{};
};

}  // namespace qmq::internal
