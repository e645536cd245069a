#include "qmq/clock.h"

namespace qmq {

namespace {

class MachineClock final : public Clock {
public:
    TimePoint Now() const override { return std::chrono::steady_clock::now(); }
    WallTime WallNow() const override {
        return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
    }
};

}  // namespace

const Clock& SystemClock() {
    // Never destroyed: a thread that is left to itself may ask for the time while the process ends.
    static const MachineClock* const clock = new MachineClock;
    return *clock;
}

}  // namespace qmq
