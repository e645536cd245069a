#include "plugins/grpc/client/live_calls.h"

#include <vector>

namespace qmq::rpc {
namespace {

/// The callbacks that this thread is inside of, innermost first: a callback of one transport may
/// call into another, whose callbacks come inline.
thread_local const LiveCalls::CallbackScope* t_innermost = nullptr;

}  // namespace

LiveCalls::CallbackScope::CallbackScope(const LiveCalls& calls)
    : calls_(calls), outer_(t_innermost) {
    t_innermost = this;
}
LiveCalls::CallbackScope::~CallbackScope() {
    t_innermost = outer_;
}

bool LiveCalls::InsideCallback() const {
    for (const CallbackScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (&scope->calls_ == this) {
            return true;
        }
    }
    return false;
}

bool LiveCalls::Begin(std::weak_ptr<Cancelable> call, std::uint64_t* id) {
    const std::lock_guard lock(mutex_);
    if (closed_) {
        return false;
    }
    *id = ++last_id_;
    live_.emplace(*id, std::move(call));
    return true;
}

void LiveCalls::End(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    live_.erase(id);
    // Under the lock: whoever waits may destroy this as soon as it can take it.
    ended_.notify_all();
}

void LiveCalls::CancelAndWait() {
    std::vector<std::shared_ptr<Cancelable>> calls;
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        for (const auto& [id, call] : live_) {
            if (auto alive = call.lock()) {
                calls.push_back(std::move(alive));
            }
        }
    }
    for (const auto& call : calls) {
        call->Cancel();
    }
    calls.clear();
    if (InsideCallback()) {
        return;
    }
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return live_.empty(); });
}

}  // namespace qmq::rpc
