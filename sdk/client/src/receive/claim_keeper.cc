#include "sdk/client/src/receive/claim_keeper.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "sdk/client/src/base/call_scope.h"
#include "sdk/client/src/base/thrown_text.h"

namespace qmq::internal {

namespace {

/// A store that could not be reached is asked again after this part of the usual interval.
constexpr int kSooner = 4;

Status RenewAt(IdempotencyStore& store, const IdempotencyClaim& claim) {
    try {
        return store.Renew(claim);
    } catch (const std::exception& error) {
        return Status::Unavailable(std::string("threw: ") + TextOf(error));
    } catch (...) {
        return Status::Unavailable("threw something that is no std::exception");
    }
}

}  // namespace

ClaimKeeper::ClaimKeeper(std::shared_ptr<ClientRuntime> runtime,
                         std::shared_ptr<IdempotencyStore> store,
                         std::chrono::milliseconds lease,
                         std::chrono::milliseconds longest)
    : runtime_(std::move(runtime)),
      store_(std::move(store)),
      interval_(std::chrono::nanoseconds(lease) / 3),
      longest_(longest),
      timer_(runtime_->work()) {}

std::uint64_t ClaimKeeper::Add(const IdempotencyClaim& claim) {
    const TimePoint now = runtime_->Now();
    const MutexLock lock(mutex_);
    entries_.emplace_hint(entries_.end(), ++last_number_, Entry{claim, now, now + interval_});
    if (!timer_.armed() && !renewing_) {
        ArmLocked();
    }
    return last_number_;
}

void ClaimKeeper::Remove(std::uint64_t number) {
    const MutexLock lock(mutex_);
    entries_.erase(number);
    if (timer_.refused()) {
        ArmLocked();
    }
    // The timer stays: most handlers are quick, and the next one needs it.
}

/// For the claim that is due first.
void ClaimKeeper::ArmLocked() {
    if (entries_.empty()) {
        return;
    }
    TimePoint first = TimePoint::max();
    for (const auto& [number, entry] : entries_) {
        first = std::min(first, entry.due);
    }
    ArmAt(first);
}

void ClaimKeeper::ArmAt(TimePoint when) {
    timer_.ArmBy(when, *this, &ClaimKeeper::OnTimer);
}

void ClaimKeeper::OnTimer(TimerSlot::Shot shot) {
    {
        const MutexLock lock(mutex_);
        timer_.OnFired(shot);
        const TimePoint now = runtime_->Now();
        const bool any = std::any_of(entries_.begin(), entries_.end(), [now](const auto& entry) {
            return entry.second.due <= now;
        });
        if (!any) {
            ArmLocked();  // Those for which it was armed have ended.
            return;
        }
        renewing_ = true;
    }
    if (!runtime_->PostRenewal([self = shared_from_this()] { self->Renew(); })) {
        const MutexLock lock(mutex_);
        renewing_ = false;
        ArmAt(runtime_->Now() + interval_ / kSooner);  // The executor is full for now.
    }
}

std::vector<std::pair<std::uint64_t, IdempotencyClaim>> ClaimKeeper::TakeDue(TimePoint now,
                                                                             std::string* line) {
    std::vector<std::pair<std::uint64_t, IdempotencyClaim>> due;
    const MutexLock lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
        Entry& entry = it->second;
        if (now - entry.since >= longest_) {
            *line = "idempotency: the claim of " + entry.claim.key +
                    " is not renewed any more: its handler runs for longer than "
                    "max_processing_time (" +
                    std::to_string(longest_.count()) + " ms)";
            it = entries_.erase(it);
            continue;
        }
        if (entry.due <= now) {
            entry.due = now + interval_;
            due.emplace_back(it->first, entry.claim);
        }
        ++it;
    }
    return due;
}

void ClaimKeeper::Renew() {
    std::string line;
    for (const auto& [number, claim] : TakeDue(runtime_->Now(), &line)) {
        RenewOne(number, claim);
    }
    if (!line.empty()) {
        runtime_->log().Warning(line);
    }
    const MutexLock lock(mutex_);
    renewing_ = false;
    ArmLocked();
}

void ClaimKeeper::RenewOne(std::uint64_t number, const IdempotencyClaim& claim) {
    {
        const MutexLock lock(mutex_);
        if (runtime_->stopped() || !entries_.contains(number)) {
            return;  // Its handler has ended.
        }
    }
    Status status;
    {
        const CallScope scope(runtime_.get(), this);
        status = RenewAt(*store_, claim);
    }
    if (status.ok()) {
        return;
    }
    {
        const MutexLock lock(mutex_);
        const auto found = entries_.find(number);
        if (found == entries_.end()) {
            return;  // It ended meanwhile, and the store may have refused for that reason.
        }
        if (status.IsRetryable()) {
            found->second.due = runtime_->Now() + interval_ / kSooner;
        } else {
            entries_.erase(found);
        }
    }
    runtime_->log().Warning("idempotency store: renewal of " + claim.key + ": " +
                            status.ToString() +
                            (status.IsRetryable() ? " (trying again)"
                                                  : "; another may handle it while this handler "
                                                    "still runs"));
}

}  // namespace qmq::internal
