#pragma once

#include <grpcpp/server.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "qmq/clock.h"

namespace qmq::rpc {

/// Lets one of gRPC's polling threads rest while many small frames come.
///
/// gRPC 1.51 polls with two threads at least, and hands the sockets from one to the other with each
/// event: under load that is the largest part of the processor time of a small frame, and one
/// thread alone serves more of them. There is no setting for it. So, while frames come fast, one of
/// the two is kept inside a callback of a call that the server makes to itself. It looks around ten
/// times a second, and goes back to work when fewer come, also because the other one is held up.
/// Where gRPC has more than two, because there are more processors, all of them work. Thread-safe.
class PollerRest {
public:
    ~PollerRest() { Stop(); }

    /// Whether gRPC has no more than two polling threads on this machine.
    static bool IsPossible();
    /// From now on a thread of `server`, which has been started, may rest.
    void Start(grpc::Server& server);
    /// Before the server is shut down: wakes the thread, and waits until it no longer rests.
    void Stop();

    /// A frame has come. Cheap.
    void OnFrame() {
        if (frame_count_.fetch_add(1, std::memory_order_relaxed) % kWindowFrames ==
            kWindowFrames - 1) {
            OnWindow();
        }
    }
    bool resting() const;

private:
    struct SelfCall;
    static constexpr std::uint64_t kWindowFrames = 256;

    void OnWindow();
    void Rest();

    std::atomic<std::uint64_t> frame_count_{0};

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    grpc::Server* server_ = nullptr;  // guarded by mutex_; null: nobody may rest.
    bool resting_ = false;            // guarded by mutex_; the call to ourselves is under way.
    TimePoint window_begin_{};        // guarded by mutex_
};

}  // namespace qmq::rpc
