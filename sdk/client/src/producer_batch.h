#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/slice.h"
#include "qmq/transport.h"

#include "sdk/client/src/broker_link.h"
#include "sdk/client/src/broker_selector.h"
#include "sdk/client/src/message_stage.h"
#include "sdk/client/src/prefetch.h"
#include "sdk/client/src/send_machine.h"
#include "sdk/client/src/send_state.h"

/// What a producer keeps; all of it under the producer's lock.
namespace qmq::internal {

struct SubjectQueue;
struct Lane;

/// Messages of one subject that share one fate, from the first one taken to the answer.
struct PendingBatch {
    enum class Place : std::uint8_t {
        kOpen,      ///< Takes messages.
        kQueued,    ///< In its lane's queue.
        kEncoding,  ///< In a frame that one thread, without the lock, fills with what was staged.
        kInFlight,  ///< In a frame.
        kWaiting,   ///< For its next attempt.
        kStranded,  ///< No broker group is available.
        kDone
    };

    /// By deadline and id.
    using Outstanding =
        std::pmr::map<std::pair<TimePoint, std::uint64_t>, std::shared_ptr<PendingBatch>>;

    PendingBatch(TimePoint deadline, BackoffOptions backoff) : machine(deadline, backoff) {}
    PendingBatch(const PendingBatch&) = delete;
    PendingBatch& operator=(const PendingBatch&) = delete;

    Place place = Place::kOpen;
    bool single = false;  ///< Split off: answers for one position of `state`.
    std::uint32_t count = 0;
    std::uint64_t bytes = 0;
    std::shared_ptr<ProducerAccess::State> state;  ///< Null until somebody needs it.
    StagedMessages staged;                         ///< Those that come behind `builder`'s.
    BatchBuilder builder;
    std::string encoded;  ///< Once it has been in a frame.
    std::shared_ptr<Lane> lane;
    SubjectQueue* subject = nullptr;
    TimePoint opened{};
    std::uint64_t id = 0;
    std::uint64_t generation =
        0;  ///< For Flush: the id of the batch it was split from, or its own.
    Outstanding::iterator outstanding;
    SendMachine machine;
    std::uint32_t position = 0;  ///< Of its first message in `state`.
};

/// Moves what is staged for `batches`, each of which has a state, to where it belongs.
void TakeStaged(std::span<const std::shared_ptr<PendingBatch>> batches);

/// What an open batch has so far: what each message looks at, beside the name of its subject.
struct Gathered {
    std::uint32_t count = 0;
    std::uint64_t bytes = 0;
    TimePoint deadline{};
    const Lane* lane = nullptr;
    StagedMessages staged;
};

/// Gives `batch`, which is open, what was gathered for it so far.
inline void PassOn(Gathered& gathered, PendingBatch& batch) {
    batch.count = gathered.count;
    batch.bytes = gathered.bytes;
    batch.staged = std::move(gathered.staged);
}

/// What is not looked at for each message.
struct SubjectDetails {
    explicit SubjectDetails(std::string_view subject_name) : name(subject_name) {}

    const std::string name;
    std::vector<std::shared_ptr<Lane>> lanes;  ///< Its route.
    BrokerSelector selector;
    std::deque<std::shared_ptr<PendingBatch>> stranded;
    Status route_error = Status::Unavailable("the route of the subject is not known yet");
    std::size_t last_bytes = 0;  ///< Of the batch before, to reserve for the next.
};

/// Two lines of the cache: what each message looks at.
struct alignas(2 * kCacheLine) SubjectQueue {
    explicit SubjectQueue(std::string_view name)
        : name_bytes(name.size()), details(std::make_unique<SubjectDetails>(name)) {
        name.copy(name_front.data(), name_front.size());
    }
    bool Is(std::string_view other) const {
        const std::string_view front(name_front.data(), std::min(name_bytes, name_front.size()));
        return other.size() == name_bytes && other.substr(0, front.size()) == front &&
               (name_bytes == front.size() || other == details->name);
    }

    std::array<char, 40> name_front{};
    const std::size_t name_bytes;
    std::shared_ptr<PendingBatch> open;
    Gathered gathered;  ///< Of `open`, while there is one.
    const std::unique_ptr<SubjectDetails> details;
};
static_assert(sizeof(SubjectQueue) == 2 * kCacheLine);

/// The subjects of a producer by name. A table of its own, because each message of a flood over
/// thousands of subjects looks one up, and each step from node to node is a miss of the cache.
class SubjectQueues {
public:
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
    /// Null when it is not there.
    SubjectQueue* Find(std::string_view name) const { return Find(name, Hash(name)); }
    SubjectQueue* Find(std::string_view name, std::size_t hash) const;
    /// One that is not there.
    SubjectQueue& Add(std::string_view name);
    std::pmr::deque<SubjectQueue>& all() { return all_; }

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
    void SetHint();

    std::vector<Slot> slots_ =
        std::vector<Slot>(64);  // A power of two of them, at most half of them used.
    std::pmr::monotonic_buffer_resource memory_;  // So that they lie side by side.
    std::pmr::deque<SubjectQueue> all_{&memory_};
    Hint hint_;
};

/// The way of batches to one broker group.
struct Lane {
    std::shared_ptr<BrokerLink> link;
    std::shared_ptr<BrokerConnection> connection;  ///< Null while it is down.
    bool writable = true;
    std::uint32_t subjects = 0;   ///< That have it in their route.
    std::uint32_t in_flight = 0;  ///< Frames.
    std::uint32_t in_flight_batches = 0;
    bool pumping = false;
    TimePoint blocked_until{};  ///< By the circuit breaker.
    std::deque<std::shared_ptr<PendingBatch>> queue;
    /// Those that take messages, oldest first; behind an open one also some that are open no more.
    std::deque<std::shared_ptr<PendingBatch>> open;
    std::size_t open_count = 0;  ///< Really open.

    /// Batches hold their lane: without this those that it has would stay for ever.
    void Clear() {
        queue.clear();
        open.clear();
        open_count = 0;
    }
    /// Those whose deadline came while they waited in vain.
    void DropDone() {
        while (!queue.empty() && queue.front()->place == PendingBatch::Place::kDone) {
            queue.pop_front();
        }
    }
    void AddOpen(const std::shared_ptr<PendingBatch>& batch) {
        open.push_back(batch);
        ++open_count;
    }
    /// After the place of an open batch has changed.
    void DropOpen() {
        --open_count;
        while (!open.empty() && open.front()->place != PendingBatch::Place::kOpen) {
            open.pop_front();
        }
    }
};

/// What was made for a batch and can serve another: in a flood over many subjects the allocator
/// would else be the dearest part, because the thread that frees is another than the one that
/// allocates. Guarded by the producer's lock.
class SpareParts {
public:
    using BatchPtr = std::shared_ptr<PendingBatch>;
    using StatePtr = std::shared_ptr<ProducerAccess::State>;

    /// Leaves of `batches` what nobody else holds, as if new. Needs no lock.
    static void Clean(std::vector<BatchPtr>* batches);
    static void Clean(std::vector<StatePtr>* states);
    /// Keeps what is clean, as far as there is room.
    void Keep(std::vector<BatchPtr>* clean);
    void Keep(std::vector<StatePtr>* clean);
    /// Null when there is none.
    BatchPtr TakeBatch();
    StatePtr TakeState();
    /// To write messages to; empty when there is none.
    std::string TakeMemory();

private:
    std::vector<BatchPtr> batches_;
    std::vector<StatePtr> states_;
    std::vector<std::string> memory_;
    std::size_t bytes_ = 0;  // Of memory_.
};

struct Frame {
    std::shared_ptr<Lane> lane;
    std::vector<std::shared_ptr<PendingBatch>> batches;
    /// Some of them have staged messages, and are "encoding" until these are moved.
    bool staged = false;
};

/// Batches whose futures and callbacks are due, to be handed out without the lock.
struct FinishedBatch {
    std::shared_ptr<ProducerAccess::State> state;
    std::optional<ProducerAccess::State::Outcome> whole;  ///< None: it was split, and has all.
};
using Finished = std::vector<FinishedBatch>;

}  // namespace qmq::internal
