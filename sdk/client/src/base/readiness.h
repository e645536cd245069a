#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "qmq/function.h"
#include "qmq/status.h"

#include "sdk/client/src/base/mutex.h"

namespace qmq::internal {

/// Lets threads wait until something is ready, or never will be: a consumer that takes part
/// everywhere, a subject that is served. Its owner says when something has changed, and answers the
/// question how things are. Thread-safe.
class Readiness {
public:
    /// What the answer depends on has changed: whoever waits asks again.
    void Changed() QMQ_EXCLUDES(mutex_);

    /// Asks `look`, without a lock, until it answers ok, or an error that waiting does not cure; at
    /// the latest after `timeout`. Then kDeadlineExceeded with the last answer.
    Status Wait(std::chrono::milliseconds timeout, UniqueFunction<Status()> look)
        QMQ_EXCLUDES(mutex_);

    /// Whether waiting does not cure `status`: what is asked for is refused, or who asks has ended.
    static bool IsFinal(const Status& status);

    /// Ok when all of `streams` are ready; else the first reason, or one that is final.
    template <typename Streams>
    static Status OfAll(const Streams& streams) {
        Status reason;
        for (const auto& stream : streams) {
            Status status = stream->ready();
            if (!status.ok() && (reason.ok() || (IsFinal(status) && !IsFinal(reason)))) {
                reason = std::move(status);
            }
        }
        return reason;
    }

private:
    Mutex mutex_;
    CondVar changed_;
    std::uint64_t change_count_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace qmq::internal
