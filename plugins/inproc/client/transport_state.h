#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>

#include "plugins/inproc/codec/inproc_broker.h"

namespace qmq::inproc {

class ConnectionCore;

/// What a transport and its connections share: the broker, and who is still there. The broker is
/// released with it.
class TransportState {
public:
    explicit TransportState(Broker& broker) : broker_(broker) {}
    ~TransportState();
    TransportState(const TransportState&) = delete;
    TransportState& operator=(const TransportState&) = delete;

    Broker& broker() { return broker_; }

    /// False once the transport is going: then there are no new connections.
    bool Add(ConnectionCore& connection);
    void Remove(ConnectionCore& connection);
    /// Closes all connections, and waits until all have ended; does not wait when this thread is
    /// inside a callback, which would be waiting for itself.
    void CloseAll();

    /// Lives while a callback of the transport's owner runs, and until what the callback held has
    /// been let go.
    class CallbackScope {
    public:
        explicit CallbackScope(const TransportState& state);
        ~CallbackScope();
        CallbackScope(const CallbackScope&) = delete;
        CallbackScope& operator=(const CallbackScope&) = delete;

    private:
        friend class TransportState;
        const TransportState* const state_;
        const CallbackScope* const outer_;
    };

private:
    bool InsideCallback() const;

    Broker& broker_;
    std::mutex mutex_;
    std::condition_variable ended_;
    bool closed_ = false;                    // guarded by mutex_
    std::set<ConnectionCore*> connections_;  // guarded by mutex_
};

}  // namespace qmq::inproc
