#include <algorithm>
#include <chrono>
#include <deque>
#include <string>
#include <unordered_map>

#include "qmq/clock.h"
#include "qmq/deadline.h"
#include "qmq/idempotency.h"

#include "sdk/client/src/base/mutex.h"

namespace qmq {

namespace {

using Claim = IdempotencyClaim;

/// The claims, and what is done: keys in buckets in the order in which they were done, each for a
/// part of the retention or of the keys, and dropped whole.
class MemoryIdempotencyStore final : public IdempotencyStore {
public:
    explicit MemoryIdempotencyStore(const MemoryIdempotencyOptions& options)
        : retention_(options.retention),
          width_(std::chrono::nanoseconds(options.retention) / kBuckets),
          max_keys_(options.max_keys),
          most_in_bucket_(std::max<std::size_t>(options.max_keys / kBuckets, 1)),
          clock_(options.clock != nullptr ? *options.clock : SystemClock()) {}

    Result<Claim> Start(std::string_view key, std::chrono::milliseconds lease) override {
        const internal::MutexLock lock(mutex_);
        const TimePoint now = clock_.Now();
        DropOld(now);
        Claim claim{Claim::State::kStarted, std::string(key), 0, lease};
        if (IsDone(claim.key)) {
            claim.state = Claim::State::kDone;
            return claim;
        }
        auto found = claimed_.find(claim.key);
        if (found == claimed_.end()) {
            MakeRoom(now);
            found = claimed_.try_emplace(claim.key).first;
        } else if (now < found->second.lease_until) {
            claim.state = Claim::State::kBusy;
            return claim;
        }
        claim.token = ++last_token_;
        found->second = {claim.token, DeadlineAfter(now, lease)};
        return claim;
    }

    Status Renew(const Claim& claim) override {
        const internal::MutexLock lock(mutex_);
        const auto found = claimed_.find(claim.key);
        if (Status status = Check(found, claim); !status.ok()) {
            return status;
        }
        found->second.lease_until = DeadlineAfter(clock_.Now(), claim.lease);
        return Status::Ok();
    }

    Status Finish(const Claim& claim) override {
        const internal::MutexLock lock(mutex_);
        const auto found = claimed_.find(claim.key);
        if (Status status = Check(found, claim); !status.ok()) {
            return DoneBy(claim) ? Status::Ok() : status;
        }
        OpenBucket(Slot(clock_.Now())).insert_or_assign(claim.key, claim.token);
        ++done_count_;
        claimed_.erase(found);
        return Status::Ok();
    }

    Status Abandon(const Claim& claim) override {
        const internal::MutexLock lock(mutex_);
        const auto found = claimed_.find(claim.key);
        if (Status status = Check(found, claim); !status.ok()) {
            return status;
        }
        claimed_.erase(found);
        return Status::Ok();
    }

private:
    static constexpr int kBuckets = 16;
    struct Claimed {
        std::uint64_t token = 0;
        TimePoint lease_until{};
    };
    using ClaimedMap = std::unordered_map<std::string, Claimed>;
    using Keys = std::unordered_map<std::string, std::uint64_t>;  // The tokens. Never walked.
    struct Bucket {
        std::int64_t slot = 0;
        Keys keys;
    };

    std::int64_t Slot(TimePoint now) const { return now.time_since_epoch() / width_; }

    const std::uint64_t* FindDone(const std::string& key) const QMQ_REQUIRES(mutex_) {
        for (const Bucket& bucket : done_) {
            if (const auto found = bucket.keys.find(key); found != bucket.keys.end()) {
                return &found->second;
            }
        }
        return nullptr;
    }
    bool IsDone(const std::string& key) const QMQ_REQUIRES(mutex_) {
        return FindDone(key) != nullptr;
    }
    bool DoneBy(const Claim& claim) const QMQ_REQUIRES(mutex_) {
        const std::uint64_t* token = FindDone(claim.key);
        return token != nullptr && *token == claim.token;
    }

    /// Whether `claim` is the latest on its key.
    Status Check(ClaimedMap::const_iterator found, const Claim& claim) const QMQ_REQUIRES(mutex_) {
        if (found == claimed_.end()) {
            return IsDone(claim.key)
                       ? Status::FailedPrecondition(NameOf(claim) + ": the key is done")
                       : Status::NotFound(NameOf(claim) + ": abandoned, never made, or forgotten");
        }
        if (found->second.token != claim.token) {
            return Status::FailedPrecondition(NameOf(claim) + ": claim " +
                                              std::to_string(found->second.token) +
                                              " has the key since");
        }
        return Status::Ok();
    }
    static std::string NameOf(const Claim& claim) {
        return "claim " + std::to_string(claim.token) + " of " + claim.key;
    }

    Keys& OpenBucket(std::int64_t slot) QMQ_REQUIRES(mutex_) {
        if (done_.empty() || done_.back().slot != slot ||
            done_.back().keys.size() >= most_in_bucket_) {
            done_.push_back({slot, {}});
        }
        return done_.back().keys;
    }
    void DropOldest() QMQ_REQUIRES(mutex_) {
        done_count_ -= done_.front().keys.size();
        done_.pop_front();
    }
    void DropOld(TimePoint now) QMQ_REQUIRES(mutex_) {
        while (!done_.empty() && done_.front().slot < Slot(now) - kBuckets) {
            DropOldest();
        }
    }
    void MakeRoom(TimePoint now) QMQ_REQUIRES(mutex_) {
        while (done_count_ + claimed_.size() >= max_keys_ && !done_.empty()) {
            DropOldest();
        }
        // Claims whose owner has gone without a word are swept out now and then. One whose owner is
        // only late may have been done all the same, so it stays for the retention.
        if (claimed_.size() >= sweep_at_) {
            std::erase_if(claimed_, [this, now](const auto& entry) {
                return DeadlineAfter(entry.second.lease_until, retention_) < now;
            });
            sweep_at_ = std::max(kFirstSweep, 2 * claimed_.size());
        }
    }

    static constexpr std::size_t kFirstSweep = 1'024;

    const std::chrono::minutes retention_;
    const std::chrono::nanoseconds width_;
    const std::size_t max_keys_;
    const std::size_t most_in_bucket_;
    const Clock& clock_;
    internal::Mutex mutex_;
    ClaimedMap claimed_ QMQ_GUARDED_BY(mutex_);
    std::deque<Bucket> done_ QMQ_GUARDED_BY(mutex_);  // Oldest first.
    std::size_t done_count_ QMQ_GUARDED_BY(mutex_) = 0;
    std::size_t sweep_at_ QMQ_GUARDED_BY(mutex_) = kFirstSweep;
    std::uint64_t last_token_ QMQ_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::shared_ptr<IdempotencyStore> MakeMemoryIdempotencyStore(MemoryIdempotencyOptions options) {
    options.retention =
        std::clamp(options.retention, std::chrono::minutes(1), std::chrono::minutes(30 * 24 * 60));
    options.max_keys = std::clamp<std::size_t>(options.max_keys, 1, std::size_t{1} << 26);
    return std::make_shared<MemoryIdempotencyStore>(options);
}

}  // namespace qmq
