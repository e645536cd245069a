#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qmq/idempotency.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"

namespace qmq::internal {

/// Renews the idempotency claims of the handlers that run: every third of the lease, for at most
/// `longest`. A store that cannot be reached is asked again sooner; a claim that is lost is logged
/// and let go. The store is called on a thread for renewals and without a lock, since it may block.
/// Thread-safe.
class ClaimKeeper : public std::enable_shared_from_this<ClaimKeeper> {
public:
    ClaimKeeper(std::shared_ptr<ClientRuntime> runtime,
                std::shared_ptr<IdempotencyStore> store,
                std::chrono::milliseconds lease,
                std::chrono::milliseconds longest);

    /// Renews `claim` until it is destroyed. A renewal that has begun by then may still overlap
    /// what the owner does next, so the store refuses renewals of what is done.
    class Kept {
    public:
        Kept(ClaimKeeper& keeper, const IdempotencyClaim& claim)
            : keeper_(keeper), number_(keeper.Add(claim)) {}
        ~Kept() { keeper_.Remove(number_); }
        Kept(const Kept&) = delete;
        Kept& operator=(const Kept&) = delete;

    private:
        ClaimKeeper& keeper_;
        const std::uint64_t number_;
    };

private:
    struct Entry {
        IdempotencyClaim claim;
        TimePoint since{};
        TimePoint due{};
    };

    std::uint64_t Add(const IdempotencyClaim& claim) QMQ_EXCLUDES(mutex_);
    void Remove(std::uint64_t number) QMQ_EXCLUDES(mutex_);
    void ArmLocked() QMQ_REQUIRES(mutex_);
    void ArmAt(TimePoint when) QMQ_REQUIRES(mutex_);
    void OnTimer(TimerSlot::Shot shot) QMQ_EXCLUDES(mutex_);
    /// Renews what is due, then sees to the rest.
    void Renew() QMQ_EXCLUDES(mutex_);
    void RenewOne(std::uint64_t number, const IdempotencyClaim& claim) QMQ_EXCLUDES(mutex_);
    /// Those due by `now`; what has been kept for `longest` is let go.
    std::vector<std::pair<std::uint64_t, IdempotencyClaim>> TakeDue(TimePoint now,
                                                                    std::string* line)
        QMQ_EXCLUDES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<IdempotencyStore> store_;
    const std::chrono::nanoseconds interval_;
    const std::chrono::milliseconds longest_;

    Mutex mutex_;
    /// By number, oldest first.
    std::map<std::uint64_t, Entry> entries_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t last_number_ QMQ_GUARDED_BY(mutex_) = 0;
    bool renewing_ QMQ_GUARDED_BY(mutex_) = false;
    TimerSlot timer_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal
