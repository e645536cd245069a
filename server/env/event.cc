#include "server/env/event.h"

namespace qmq::env {

std::string_view ToString(EventKind kind) {
    switch (kind) {
        case EventKind::kLoss:
            return "loss";
        case EventKind::kDamage:
            return "damage";
        case EventKind::kClockJump:
            return "clock jump";
        case EventKind::kLimit:
            return "limit";
        case EventKind::kDisagreement:
            return "disagreement";
        case EventKind::kStopped:
            return "stopped";
    }
    return "unknown";
}

EventListener& NoEvents() {
    class Silence final : public EventListener {
    public:
        void OnEvent(const Event&) override {}
    };
    static Silence silence;
    return silence;
}

}  // namespace qmq::env
