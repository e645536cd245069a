#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace qmq::rpc {

/// Something under way that can be told to end soon.
class Cancelable {
public:
    virtual ~Cancelable() = default;
    virtual void Cancel() = 0;
};

/// What a transport has under way, so that it can end it and wait for the end: gRPC's threads
/// belong to the process, and must not call into a client that is gone. Thread-safe.
class LiveCalls {
public:
    /// False after `CancelAndWait`: nothing new begins, and the id is not set.
    bool Begin(std::weak_ptr<Cancelable> call, std::uint64_t* id);
    void End(std::uint64_t id);

    /// Cancels everything and waits until all has ended; does not wait when this thread is inside a
    /// callback, which would be waiting for itself.
    void CancelAndWait();

    /// Lives while a callback of the transport's owner runs.
    class CallbackScope {
    public:
        explicit CallbackScope(const LiveCalls& calls);
        ~CallbackScope();
        CallbackScope(const CallbackScope&) = delete;
        CallbackScope& operator=(const CallbackScope&) = delete;

    private:
        friend class LiveCalls;
        const LiveCalls& calls_;
        const CallbackScope* const outer_;
    };

private:
    bool InsideCallback() const;

    std::mutex mutex_;
    std::condition_variable ended_;
    bool closed_ = false;                                      // guarded by mutex_
    std::uint64_t last_id_ = 0;                                // guarded by mutex_
    std::map<std::uint64_t, std::weak_ptr<Cancelable>> live_;  // guarded by mutex_
};

}  // namespace qmq::rpc
