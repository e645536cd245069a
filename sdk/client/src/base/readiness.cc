#include "sdk/client/src/base/readiness.h"

#include <string>

#include "qmq/clock.h"
#include "qmq/deadline.h"

namespace qmq::internal {

void Readiness::Changed() {
    const MutexLock lock(mutex_);
    ++change_count_;
    changed_.NotifyAll();
}

Status Readiness::Wait(std::chrono::milliseconds timeout, UniqueFunction<Status()> look) {
    const TimePoint until = DeadlineAfter(SystemClock().Now(), timeout);
    while (true) {
        std::uint64_t seen = 0;
        {
            const MutexLock lock(mutex_);
            seen = change_count_;
        }
        Status status = look();
        if (status.ok() || IsFinal(status)) {
            return status;
        }
        const MutexLock lock(mutex_);
        while (change_count_ == seen) {
            if (!changed_.WaitUntil(mutex_, until)) {
                return Status::DeadlineExceeded("not ready after " +
                                                std::to_string(timeout.count()) +
                                                " ms; last: " + status.ToString());
            }
        }
    }
}

bool Readiness::IsFinal(const Status& status) {
    switch (status.code()) {
        case StatusCode::kInvalidArgument:
        case StatusCode::kCancelled:
        case StatusCode::kFailedPrecondition:
        case StatusCode::kPermissionDenied:
        case StatusCode::kUnimplemented:
            return true;
        case StatusCode::kOk:
        case StatusCode::kNotFound:
        case StatusCode::kResourceExhausted:
        case StatusCode::kUnavailable:
        case StatusCode::kDeadlineExceeded:
        case StatusCode::kDataLoss:
        case StatusCode::kAlreadyExists:
        case StatusCode::kInternal:
            return false;
    }
    return false;
}

}  // namespace qmq::internal
