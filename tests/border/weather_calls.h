#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>

#include "qmq/function.h"

namespace qmq::border {

/// What comes back to one client: passed on at once, or kept while the broker hangs. In order.
class Calls {
public:
    /// Runs `call` now, or later when something is kept before it.
    void Deliver(Task call);
    /// While it hangs all is kept. Its end runs what was kept, on this thread.
    void SetHanging(bool hanging);
    /// The end: runs what is kept, and waits for whoever does, unless that is this thread. What
    /// comes afterwards is passed on at once.
    void Close();

private:
    void Drain(std::unique_lock<std::mutex>& lock);

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Task> kept_;    // guarded by mutex_
    bool hanging_ = false;     // guarded by mutex_
    bool closed_ = false;      // guarded by mutex_
    bool draining_ = false;    // guarded by mutex_
    std::thread::id drainer_;  // guarded by mutex_
};

}  // namespace qmq::border
