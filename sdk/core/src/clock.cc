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
    static const MachineClock clock;
    return clock;
}

}  // namespace qmq
