#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "qmq/clock.h"
#include "qmq/filter.h"

namespace qmq {

namespace {

/// Keys in buckets by the time they were begun, each a part of the retention long, and dropped
/// whole.
class MemoryIdempotencyStore final : public IdempotencyStore {
public:
    MemoryIdempotencyStore(std::chrono::minutes retention, std::size_t max_keys)
        : width_(std::chrono::milliseconds(retention) / kBuckets), max_keys_(max_keys) {}

    Result<Begin> Start(std::string_view key, std::chrono::milliseconds lease) override {
        std::lock_guard lock(mutex_);
        const TimePoint now = SystemClock().Now();
        DropOld(now);
        if (Entry* entry = Find(key)) {
            if (entry->done) {
                return Begin::kDone;
            }
            if (now < entry->lease_until) {
                return Begin::kBusy;
            }
            entry->lease_until = now + lease;
            return Begin::kStarted;
        }
        MakeRoom();
        buckets_[Slot(now)].emplace(std::string(key), Entry{now + lease, false});
        ++count_;
        return Begin::kStarted;
    }

    Status Finish(std::string_view key) override {
        std::lock_guard lock(mutex_);
        if (Entry* entry = Find(key)) {
            entry->done = true;
            return Status::Ok();
        }
        return Status::NotFound("key " + std::string(key) +
                                " was not started, or its bucket has been dropped");
    }

    Status Abandon(std::string_view key) override {
        std::lock_guard lock(mutex_);
        for (auto& [slot, bucket] : buckets_) {
            count_ -= bucket.erase(std::string(key));
        }
        return Status::Ok();
    }

private:
    static constexpr int kBuckets = 16;
    struct Entry {
        TimePoint lease_until{};
        bool done = false;
    };
    using Bucket = std::unordered_map<std::string, Entry>;  // Looked up, never walked.

    std::int64_t Slot(TimePoint now) const { return now.time_since_epoch() / width_; }

    Entry* Find(std::string_view key) {
        const std::string text(key);
        for (auto& [slot, bucket] : buckets_) {
            if (auto found = bucket.find(text); found != bucket.end()) {
                return &found->second;
            }
        }
        return nullptr;
    }
    void DropFirst() {
        count_ -= buckets_.begin()->second.size();
        buckets_.erase(buckets_.begin());
    }
    void DropOld(TimePoint now) {
        while (!buckets_.empty() && buckets_.begin()->first < Slot(now) - kBuckets) {
            DropFirst();
        }
    }
    void MakeRoom() {
        while (count_ >= max_keys_ && !buckets_.empty()) {
            DropFirst();
        }
    }

    const std::chrono::nanoseconds width_;
    const std::size_t max_keys_;
    std::mutex mutex_;
    std::map<std::int64_t, Bucket> buckets_;  // guarded by mutex_: by slot, oldest first.
    std::size_t count_ = 0;                   // guarded by mutex_
};

}  // namespace

std::shared_ptr<IdempotencyStore> MakeMemoryIdempotencyStore(std::chrono::minutes retention,
                                                             std::size_t max_keys) {
    retention = std::clamp(retention, std::chrono::minutes(1), std::chrono::minutes(30 * 24 * 60));
    max_keys = std::clamp<std::size_t>(max_keys, 1, std::size_t{1} << 26);
    return std::make_shared<MemoryIdempotencyStore>(retention, max_keys);
}

}  // namespace qmq
