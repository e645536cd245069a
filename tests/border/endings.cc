// How the application of a world ends its client.

#include <string>
#include <utility>

#include "tests/border/world.h"

namespace qmq::border {

using std::chrono::milliseconds;

void World::BeginEnd() {
    const std::lock_guard lock(end_mutex_);
    ending_ = true;
}

/// Of several that end the client at once, one from a callback may have its report before the
/// others are done: the end is when the last of them is.
void World::EndedBy(const ShutdownReport& report, bool may_leave_running) {
    may_leave_running_ = may_leave_running_ || may_leave_running;
    if (--enders_ == 0) {
        Ended(&report);
    }
}

bool World::EndByShutdown(Place place, ClientBox& box) {
    ++enders_;
    BeginEnd();
    const auto begin = Clock::now();
    const milliseconds timeout(OneIn(4) ? 0 : Pick(300));
    const ShutdownReport report = box.client.Shutdown(timeout);
    const auto took = Clock::now() - begin;
    // Its own graces, and a machine that is busy with sanitizers and other rounds.
    if (took > timeout + std::chrono::milliseconds(5'000)) {
        Problem(std::string("Shutdown took over 5 s more than its deadline, in ") +
                ToString(place));
    }
    EndedBy(report, !report.drained || took > timeout);
    return true;
}

bool World::EndByShutdownAsync(Place, ClientBox& box) {
    ++enders_;
    BeginEnd();
    ++shutdowns_->taken;
    box.client.ShutdownAsync(
        milliseconds(Pick(300)),
        [self = shared_from_this(), owed = Owed(shutdowns_)](const ShutdownReport& report) mutable {
            owed.Called();
            const Inside inside(self->inside_);  // Also behind the end of which it tells.
            self->EndedBy(report, !report.drained);
            self->Visit(Place::kShutdownCallback);
        });
    return true;
}

bool World::EndByDestruction(Place, std::shared_ptr<ClientBox> box) {
    BeginEnd();
    {
        const std::lock_guard lock(mutex_);
        client_.reset();
    }
    // Those who are in a call with it let go soon.
    for (int i = 0; i < 200 && box.use_count() > 1; ++i) {
        std::this_thread::sleep_for(milliseconds(1));
    }
    return box.use_count() == 1;
}

bool World::DoEnd(Place place, Thing thing) {
    auto box = client();
    if (box == nullptr) {
        return false;
    }
    switch (thing) {
        case Thing::kShutdown:
            return EndByShutdown(place, *box);
        case Thing::kShutdownAsync:
            return EndByShutdownAsync(place, *box);
        default:
            return EndByDestruction(place, std::move(box));
    }
}

}  // namespace qmq::border
