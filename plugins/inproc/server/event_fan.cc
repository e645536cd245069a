#include "plugins/inproc/server/event_fan.h"

#include <utility>

namespace qmq::inproc {

EventFan::Listening::Listening(std::shared_ptr<EventFan> fan, Executor& timers, Warn warn)
    : fan_(std::move(fan)), timers_(timers), warn_(std::make_shared<const Warn>(std::move(warn))) {}

EventFan::Listening::~Listening() {
    const std::lock_guard lock(fan_->mutex_);
    std::erase(fan_->listeners_, this);
}

std::unique_ptr<EventFan::Listening> EventFan::Listen(Executor& timers, Warn warn) {
    std::unique_ptr<Listening> listening(
        new Listening(shared_from_this(), timers, std::move(warn)));
    if (*listening->warn_) {
        const std::lock_guard lock(mutex_);
        listeners_.push_back(listening.get());
    }
    return listening;
}

void EventFan::Say(std::string_view line) {
    const auto text = std::make_shared<const std::string>(line);
    // Under the lock, so that no executor goes meanwhile; a post never runs the task.
    const std::lock_guard lock(mutex_);
    for (const Listening* listening : listeners_) {
        (void)listening->timers_.Post([weak = std::weak_ptr(listening->warn_), text] {
            if (const auto warn = weak.lock()) {
                (*warn)(*text);
            }
        });
    }
}

}  // namespace qmq::inproc
