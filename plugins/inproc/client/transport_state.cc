#include "plugins/inproc/client/transport_state.h"

#include <vector>

#include "plugins/inproc/client/inproc_connection.h"

namespace qmq::inproc {
namespace {

/// The callbacks that this thread is inside of, innermost first: a callback may send, and be called
/// back within that.
thread_local const TransportState::CallbackScope* t_innermost = nullptr;

}  // namespace

TransportState::CallbackScope::CallbackScope(const TransportState& state)
    : state_(&state), outer_(t_innermost) {
    t_innermost = this;
}
TransportState::CallbackScope::~CallbackScope() {
    t_innermost = outer_;
}

bool TransportState::InsideCallback() const {
    for (const CallbackScope* scope = t_innermost; scope != nullptr; scope = scope->outer_) {
        if (scope->state_ == this) {
            return true;
        }
    }
    return false;
}

TransportState::~TransportState() {
    // Inside a callback of another transport it may be one of the same broker: do not wait either.
    broker_.Release(t_innermost != nullptr);
}

bool TransportState::Add(ConnectionCore& connection) {
    const std::lock_guard lock(mutex_);
    if (closed_) {
        return false;
    }
    connections_.insert(&connection);
    return true;
}

void TransportState::Remove(ConnectionCore& connection) {
    const std::lock_guard lock(mutex_);
    connections_.erase(&connection);
    ended_.notify_all();
}

void TransportState::CloseAll() {
    std::vector<std::shared_ptr<ConnectionCore>> connections;
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        for (ConnectionCore* connection : connections_) {
            if (auto alive = connection->weak_from_this().lock()) {
                connections.push_back(std::move(alive));
            }
        }
    }
    for (const auto& connection : connections) {
        connection->Close();
    }
    connections.clear();
    if (InsideCallback()) {
        return;
    }
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return connections_.empty(); });
}

}  // namespace qmq::inproc
