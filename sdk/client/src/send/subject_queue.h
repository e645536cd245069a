#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/client/src/base/prefetch.h"
#include "sdk/client/src/send/broker_selector.h"
#include "sdk/client/src/send/pending_batch.h"

namespace qmq::internal {

/// What an open batch has so far: what each message looks at, beside the name of its subject.
struct Gathered {
    std::uint32_t count = 0;
    std::uint64_t bytes = 0;
    TimePoint deadline{};
    Lane* lane = nullptr;
    StagedMessages staged;
};

struct SubjectDetails;

/// Where the messages of one subject gather; those with ordering keys gather in queues of their own
/// (`KeyQueues`). Two lines of the cache: what each message looks at.
struct alignas(2 * kCacheLine) SubjectQueue {
    SubjectQueue() = default;
    explicit SubjectQueue(std::string_view name) { Assign(name); }
    SubjectQueue(const SubjectQueue&) = delete;
    SubjectQueue& operator=(const SubjectQueue&) = delete;

    void Assign(std::string_view name);
    bool Is(std::string_view other) const;

    std::array<char, 40> name_front{};
    std::size_t name_bytes = 0;
    BatchPtr open;
    Gathered gathered;                        ///< Of `open`, while there is one.
    std::unique_ptr<SubjectDetails> details;  ///< Null while it has no subject.
};
static_assert(sizeof(SubjectQueue) == 2 * kCacheLine);

/// Batches of ordering keys go one after another, so that a retry overtakes nothing and nothing
/// overtakes a retry.
struct InOrder {
    PendingBatch* current = nullptr;  ///< The one that is on its way, open or not.
    BatchList behind;                 ///< Sealed, in their order.
};

/// The queues for ordering keys of a subject. A key has always the same queue, and a queue goes to
/// one broker group as long as the route stays. More queues spread keys better over broker groups,
/// and have more batches on their way at once; fewer make larger batches.
struct KeyQueues {
    static constexpr std::size_t kCount = 16;
    static std::size_t IndexOf(std::string_view key) {
        return std::hash<std::string_view>()(key) % kCount;
    }
    std::array<std::unique_ptr<SubjectQueue>, kCount> queues;
};

/// What is not looked at for each message.
struct SubjectDetails {
    explicit SubjectDetails(std::string_view subject_name) : name(subject_name) {}

    const std::string name;
    std::vector<LanePtr> lanes;  ///< Its route. Of a queue for keys: the one broker group, or none.
    std::uint64_t route_number = 0;  ///< Routes with a lower one are older.
    BrokerSelector selector;
    BatchList unrouted;
    Status route_error = Status::Unavailable("the route of the subject is not known yet");
    std::uint64_t max_batch_bytes = 0;  ///< What its brokers take; zero: not known yet.
    std::size_t last_bytes = 0;         ///< Of the batch before, to reserve for the next.
    std::size_t outstanding = 0;  ///< Batches that are not answered, those of its keys included.
    bool waits_for_lane = false;  ///< It is in the list of those that do.
    bool idle = false;            ///< Nothing was outstanding when somebody last looked.
    std::unique_ptr<KeyQueues> keys;    ///< Of a subject that has any.
    std::unique_ptr<InOrder> in_order;  ///< Of a queue for keys.
    std::size_t key_index = 0;          ///< Of a queue for keys.
    SubjectDetails* owner = nullptr;    ///< Of a queue for keys: its subject.

    /// Where batches are counted.
    SubjectDetails& subject() { return owner == nullptr ? *this : *owner; }
    const SubjectDetails& subject() const { return owner == nullptr ? *this : *owner; }
    /// Whether neither it nor its queues for keys are used by anything.
    bool IsUnused() const;
};

inline bool SubjectQueue::Is(std::string_view other) const {
    const std::string_view front(name_front.data(), std::min(name_bytes, name_front.size()));
    return other.size() == name_bytes && other.substr(0, front.size()) == front &&
           (name_bytes == front.size() || other == details->name);
}

/// Whether the open batch of `queue` waits for an earlier one of the same keys.
inline bool IsBehind(const SubjectQueue& queue, const PendingBatch& batch) {
    const InOrder* const in_order = queue.details->in_order.get();
    return in_order != nullptr && in_order->current != nullptr && in_order->current != &batch;
}

/// The subjects of a producer by name. A table of its own, because each message of a flood over
/// thousands of subjects looks one up, and each step from node to node is a miss of the cache.
class SubjectQueues {
public:
    SubjectQueues() = default;
    SubjectQueues(const SubjectQueues&) = delete;
    SubjectQueues& operator=(const SubjectQueues&) = delete;

    static std::size_t Hash(std::string_view name) { return std::hash<std::string_view>()(name); }
    /// `Find` will be called a little later; `PrefetchSubject` in between. Needs no lock.
    void PrefetchSlot(std::size_t hash) const {
        const std::size_t count = hint_.count.load(std::memory_order_relaxed);
        Prefetch(hint_.slots.load(std::memory_order_relaxed) + (hash & (count - 1)), sizeof(Slot));
    }
    /// Most subjects are in the first slot that is looked at.
    void PrefetchSubject(std::size_t hash) const {
        Prefetch(slots_[hash & (slots_.size() - 1)].subject, sizeof(SubjectQueue));
    }
    std::size_t count() const { return count_; }
    /// Null when it is not there.
    SubjectQueue* Find(std::string_view name) const { return Find(name, Hash(name)); }
    SubjectQueue* Find(std::string_view name, std::size_t hash) const;
    /// One that is not there.
    SubjectQueue& Add(std::string_view name);
    /// One that is unused. What it took but the two lines of the queue itself is given back.
    void Remove(SubjectQueue& subject);

    /// Every place that has, or had, a subject, by number: those of `details` null are free.
    std::size_t place_count() const { return blocks_.size() * kBlock; }
    SubjectQueue& place(std::size_t number) { return blocks_[number / kBlock][number % kBlock]; }

private:
    static constexpr std::size_t kBlock = 64;

    struct Slot {
        std::size_t hash = 0;
        SubjectQueue* subject = nullptr;
    };
    /// Where the slots are, or were a moment ago: nothing is read there, it is only prefetched.
    struct Hint {
        std::atomic<const Slot*> slots{nullptr};
        std::atomic<std::size_t> count{1};
    };
    void Place(Slot slot);
    void Grow();
    std::size_t SlotOf(const SubjectQueue& subject) const;

    // A power of two of them, at most half of them used.
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::vector<std::unique_ptr<SubjectQueue[]>> blocks_;  // So that they lie side by side.
    std::vector<SubjectQueue*> free_;
    std::size_t count_ = 0;
    Hint hint_;
};

}  // namespace qmq::internal
