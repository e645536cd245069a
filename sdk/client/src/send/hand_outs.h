#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sdk/client/src/base/mutex.h"

namespace qmq::internal {

/// Which answers are on their way to futures and to the queue of callbacks, by number. No code of
/// the application's runs meanwhile, so they end soon.
///
/// Its lock is its own, behind the producer's: whoever has handed out wants the producer's only
/// when somebody waits for that. Who waits says so by `Watch` first, under the producer's lock, and
/// looks then: so either it sees that the hand-out is over, or that one sees it.
class HandOuts {
public:
    /// A hand-out begins. Its number is not zero.
    std::uint64_t Begin() {
        MutexLock lock(mutex_);
        open_.push_back(++last_);
        return last_;
    }
    /// It is over. True: somebody watches.
    [[nodiscard]] bool End(std::uint64_t number) {
        MutexLock lock(mutex_);
        std::erase(open_, number);
        return watchers_ > 0;
    }

    void Watch() {
        MutexLock lock(mutex_);
        ++watchers_;
    }
    void Unwatch() {
        MutexLock lock(mutex_);
        --watchers_;
    }
    bool empty() const {
        MutexLock lock(mutex_);
        return open_.empty();
    }
    std::uint64_t last() const {
        MutexLock lock(mutex_);
        return last_;
    }
    /// Whether one is under way whose number is at most `last`.
    bool AnyUpTo(std::uint64_t last) const {
        MutexLock lock(mutex_);
        return std::any_of(
            open_.begin(), open_.end(), [last](std::uint64_t number) { return number <= last; });
    }

private:
    mutable Mutex mutex_;
    std::vector<std::uint64_t> open_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t last_ QMQ_GUARDED_BY(mutex_) = 0;
    std::uint64_t watchers_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace qmq::internal
