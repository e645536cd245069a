#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <utility>

#include "qmq/batch.h"
#include "qmq/clock.h"

#include "sdk/client/src/send/message_stage.h"
#include "sdk/client/src/send/send_machine.h"
#include "sdk/client/src/send/send_state.h"

/// What a producer keeps of messages that are not answered. All of it is under the producer's lock,
/// but for what is said to need none.
namespace qmq::internal {

struct Frame;
struct Lane;
struct PendingBatch;
struct SubjectQueue;
class BatchList;

using BatchPtr = std::shared_ptr<PendingBatch>;
using LanePtr = std::shared_ptr<Lane>;

/// Messages of one subject that share one fate, from the first one taken to the answer.
struct PendingBatch {
    enum class Place : std::uint8_t {
        kOpen,      ///< It takes messages. It may be in a lane's list of open batches.
        kQueued,    ///< It is in its lane's queue.
        kEncoding,  ///< It is in a frame that one thread, without the lock, fills with what was
                    ///< staged.
        kInFlight,  ///< It is in a frame.
        kWaiting,   ///< It waits for its next attempt.
        kUnrouted,  ///< No broker group is available.
        kBehind,    ///< It waits for an earlier batch of the same ordering keys.
        kDone
    };

    /// By deadline and id.
    using Outstanding = std::pmr::map<std::pair<TimePoint, std::uint64_t>, BatchPtr>;
    /// By the time of the next attempt.
    using Waiting = std::multimap<TimePoint, BatchPtr>;

    PendingBatch(TimePoint deadline, BackoffOptions backoff) : machine(deadline, backoff) {}
    PendingBatch(const PendingBatch&) = delete;
    PendingBatch& operator=(const PendingBatch&) = delete;

    /// Bytes of memory that it takes, its state not included.
    std::size_t Footprint() const {
        // Beside itself: its node in the map of what is outstanding, and what the allocator adds.
        constexpr std::size_t kOverhead = 128;
        return sizeof(PendingBatch) + kOverhead + builder.capacity() + encoded.capacity();
    }

    Place place = Place::kOpen;
    bool single = false;  ///< Split off: answers for one position of `state`.
    std::uint32_t count = 0;
    std::uint64_t bytes = 0;
    std::shared_ptr<ProducerAccess::State> state;  ///< Null until somebody needs it.
    StagedMessages staged;                         ///< Those that come behind `builder`'s.
    BatchBuilder builder;
    std::string encoded;  ///< Once it has been in a frame.
    LanePtr lane;
    std::weak_ptr<Frame> frame;  ///< The last one that it was in.
    SubjectQueue* subject = nullptr;
    TimePoint opened{};
    std::uint64_t id = 0;
    /// For Flush: the id of the batch it was split from, or its own.
    std::uint64_t generation = 0;
    Outstanding::iterator outstanding;
    Waiting::iterator waiting;  ///< While it is waiting.
    SendMachine machine;
    std::uint32_t position = 0;  ///< Of its first message in `state`.
    std::size_t charged = 0;     ///< What the budget counts for it.
    /// Of what messages grow in it and in its state, when it was charged for one last.
    std::size_t charged_capacity = 0;

    /// Its place in the one list that it is in, and the list's share in it.
    struct Link {
        BatchList* list = nullptr;
        PendingBatch* before = nullptr;
        PendingBatch* behind = nullptr;
        BatchPtr self;
    };
    Link link;
};

/// Batches in an order, owned. A batch is in one list at most, and leaves it in no time wherever in
/// it it stands: so one that expires behind a thousand others is gone at once.
class BatchList {
public:
    BatchList() = default;
    BatchList(const BatchList&) = delete;
    BatchList& operator=(const BatchList&) = delete;
    ~BatchList() { Clear(); }

    bool empty() const { return count_ == 0; }
    std::size_t count() const { return count_; }
    /// Null when it is empty.
    PendingBatch* front() const { return front_; }
    void PushBack(BatchPtr batch);
    void PushFront(BatchPtr batch);
    /// Null when it is empty.
    BatchPtr PopFront() { return front_ == nullptr ? nullptr : Remove(*front_); }
    void Clear() {
        while (PopFront() != nullptr) {
        }
    }
    /// Takes `batch` out of the list that it is in. Null when it is in none.
    static BatchPtr Remove(PendingBatch& batch);

private:
    PendingBatch* front_ = nullptr;
    PendingBatch* back_ = nullptr;
    std::size_t count_ = 0;
};

/// Moves what is staged for `batches`, each of which has a state, to where it belongs; of `unsent`
/// ones, which will not be sent any more, only what their answers need. Needs no lock.
void TakeStaged(std::span<const BatchPtr> batches, bool unsent = false);

}  // namespace qmq::internal
