#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

#include "sdk/client/src/base/hook_list.h"
#include "sdk/client/src/base/prefetch.h"
#include "sdk/client/src/base/slab_resource.h"
#include "sdk/client/src/send/broker_selector.h"
#include "sdk/client/src/send/budget.h"
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
    SubjectQueue(std::string_view name, std::pmr::memory_resource* memory);
    ~SubjectQueue();
    SubjectQueue(const SubjectQueue&) = delete;
    SubjectQueue& operator=(const SubjectQueue&) = delete;

    bool Is(std::string_view other) const;

    std::array<char, 40> name_front{};
    std::size_t name_bytes = 0;
    BatchPtr open;
    Gathered gathered;  ///< Of `open`, while there is one.
    const ResourcePtr<SubjectDetails> details;
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
    std::array<ResourcePtr<SubjectQueue>, kCount> queues;
};

/// What is not looked at for each message.
struct SubjectDetails {
    SubjectDetails(SubjectQueue& its_queue,
                   std::string_view subject_name,
                   std::pmr::memory_resource* memory)
        : queue(its_queue), name(subject_name, memory), lanes(memory) {}

    SubjectQueue& queue;
    const std::pmr::string name;
    /// Its route. Of a queue for keys: the one broker group, or none.
    std::pmr::vector<LanePtr> lanes;
    std::uint64_t route_number = 0;  ///< Routes with a lower one are older.
    BrokerSelector selector;
    BatchList unrouted;
    Status route_error = Status::Unavailable("the route of the subject is not known yet");
    std::uint64_t max_batch_bytes = 0;  ///< What its brokers take; zero: not known yet.
    std::size_t last_bytes = 0;         ///< Of the batch before, to reserve for the next.
    std::size_t users = 0;              ///< As `SubjectQueues::Use` counts.
    std::size_t footprint = 0;  ///< Bytes that it costs, with its queues for keys and its route.
    TimePoint used_at{};        ///< Somebody sent to it.
    /// Linked: it has batches and a route, but no lane is available.
    ListHook<SubjectDetails> unrouted_hook{*this};
    ListHook<SubjectDetails> idle_hook{*this};  ///< Linked: it has no users.
    ResourcePtr<KeyQueues> keys;                ///< Of a subject that has any.
    ResourcePtr<InOrder> in_order;              ///< Of a queue for keys.
    std::size_t key_index = 0;                  ///< Of a queue for keys.
    SubjectDetails* owner = nullptr;            ///< Of a queue for keys: its subject.

    /// Where batches are counted.
    SubjectDetails& subject() { return owner == nullptr ? *this : *owner; }
    const SubjectDetails& subject() const { return owner == nullptr ? *this : *owner; }
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
///
/// What a subject costs is pending while something of it is. Those that nobody uses are kept, so
/// that their routes are known when somebody does, as far as they are few or were used lately.
class SubjectQueues {
public:
    explicit SubjectQueues(Budget& budget);
    SubjectQueues(const SubjectQueues&) = delete;
    SubjectQueues& operator=(const SubjectQueues&) = delete;
    ~SubjectQueues();

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
    /// One that is not there. It has a user, who calls `Leave`.
    SubjectQueue& Add(std::string_view name);
    /// The queue of a key of `subject`.
    SubjectQueue& KeyQueueOf(SubjectQueue& subject, std::string_view key);
    /// One without users.
    void Remove(SubjectQueue& subject);

    template <typename F>
    void ForEach(F&& call) const {
        for (const Slot& slot : slots_) {
            if (slot.subject != nullptr) {
                call(*slot.subject);
            }
        }
    }

    /// Users of a subject, or of the subject of a queue for keys: batches that are not answered,
    /// and whoever else needs that it stays.
    void Use(const SubjectQueue& queue);
    void Leave(const SubjectQueue& queue);
    /// Those without users cost more than may be kept for them.
    bool has_excess() const { return idle_bytes_ > max_idle_bytes_; }
    /// The subject that has been without users for longest, if there is an excess, or if there are
    /// many subjects and nobody has sent to it after `since`; else null.
    SubjectQueue* TooIdle(TimePoint since) const;
    /// Fewer subjects are kept however long nobody sends to them.
    static constexpr std::size_t kFew = 1'024;

    /// Of what subjects are made of; for tests.
    std::size_t slab_bytes() const { return memory_.slab_bytes(); }

private:
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
    void AddFootprint(SubjectDetails& subject, std::size_t bytes);

    SlabResource memory_;
    Budget& budget_;
    const std::size_t max_idle_bytes_;
    // A power of two of them, at most half of them used.
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::size_t count_ = 0;
    HookList<SubjectDetails> idle_;  // The one that was used last is the last.
    std::size_t idle_bytes_ = 0;
    Hint hint_;
};

}  // namespace qmq::internal
