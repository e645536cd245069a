#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/message.h"
#include "qmq/producer.h"

#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/send/budget.h"
#include "sdk/client/src/send/message_stage.h"
#include "sdk/client/src/send/spare_parts.h"
#include "sdk/client/src/send/subject_queue.h"

namespace qmq::internal {

/// Makes batches of messages: finds the queue of a message's subject and ordering key, encodes the
/// message into the open batch or, where many are open, into the stage, and closes batches. It
/// knows nothing of broker groups, and charges the budget for the memory that it uses.
///
/// Under the producer's lock, but for `many`, `PrefetchSlot` and what `SpareParts` says.
class Batcher {
public:
    /// A message that is taken.
    struct Taken {
        const Message& message;
        std::size_t bytes;  ///< Encoded.
        TimePoint now;
        TimePoint deadline;
        SendCallback& callback;
        StagedMessage* staged = nullptr;  ///< When it is staged already.
    };

    Batcher(ClientRuntime& runtime, const ProducerOptions& options, Budget& budget);

    /// What somebody who waits for a message tells that to. Before anything else.
    void SetWaker(std::weak_ptr<SendWaker> waker) { waker_ = std::move(waker); }

    /// A flood over many subjects: messages are staged, and what they look at is asked for early.
    bool many() const { return open_count_.load(std::memory_order_relaxed) > kFewOpen; }
    void PrefetchSlot(std::size_t hash) const { subjects_.PrefetchSlot(hash); }
    void PrefetchSubject(std::size_t hash) const { subjects_.PrefetchSubject(hash); }

    SubjectQueues& subjects() { return subjects_; }
    /// The queue of a subject. When it is not there it is made, and has the caller as a user.
    SubjectQueue& SubjectFor(std::string_view name, std::optional<std::size_t> hash, bool* made);
    /// A subject that nobody uses.
    void Forget(SubjectQueue& subject);

    /// Whether the message fits into the open batch of its queue.
    bool Joins(const SubjectQueue& queue, const Taken& taken) const;
    /// A new open batch for a queue that has none.
    const BatchPtr& Open(SubjectQueue& queue, TimePoint now, TimePoint deadline);
    /// Encodes a message before it is known which batch it is for; not when there is no room.
    void Stage(Taken* taken);
    /// Adds a message to the open batch of its queue.
    void Add(SubjectQueue& queue, Taken taken);
    bool IsFull(const Gathered& gathered, std::size_t next_bytes) const;
    /// Closes the open batch, which then has all that was gathered for it. Null when there is none.
    BatchPtr Close(SubjectQueue& queue);

    const std::shared_ptr<ProducerAccess::State>& StateOf(PendingBatch& batch);
    /// Gives a batch what its staged messages will be moved to.
    void Prepare(PendingBatch& batch);
    /// Moves what is staged for a batch that no frame takes, or not yet.
    void Unstage(const BatchPtr& batch);
    /// Drops what is staged for a batch that ends without having been sent.
    void DropStaged(const BatchPtr& batch);
    /// The messages of a batch that has been in a frame, each as a batch of its own.
    std::vector<BatchPtr> Split(const PendingBatch& batch);
    /// Charges the budget for what the batch and its state have become.
    void Charge(PendingBatch& batch);

    std::size_t open_count() const { return open_count_.load(std::memory_order_relaxed); }
    std::size_t staged_bytes() const { return stage_.used_bytes(); }
    /// The id of the next batch: all that there are have smaller ones.
    std::uint64_t next_id() const { return next_id_; }
    /// The bytes that the smallest broker takes in one batch.
    std::uint64_t max_batch_bytes() const { return max_batch_bytes_; }
    /// A route says what its brokers take, instead of what it said before.
    void SetLimit(SubjectQueue& subject, std::uint64_t max_batch_bytes);
    SpareParts& spare() { return spare_; }
    /// Gives back what is kept for later batches: for a while there were none.
    void Trim() {
        spare_.Trim();
        stage_.Trim();
    }

private:
    /// Above so many open batches messages are staged. Fewer stay in the cache, and a message that
    /// goes straight into its batch is copied once less.
    static constexpr std::size_t kFewOpen = 4;

    WallTime WallAt(TimePoint now);
    void Append(PendingBatch& batch, const Taken& taken);
    void AddOpen(std::ptrdiff_t count);
    void DropLimit(const SubjectQueue& subject);

    ClientRuntime& runtime_;
    const ProducerOptions& options_;
    Budget& budget_;
    std::weak_ptr<SendWaker> waker_;
    MessageStage stage_;
    SubjectQueues subjects_;
    SubjectQueue* last_subject_ = nullptr;
    std::atomic<std::size_t> open_count_{0};
    SpareParts spare_;
    std::uint64_t next_id_ = 1;
    std::map<std::uint64_t, std::size_t> limits_;  // What brokers take, of how many subjects.
    std::uint64_t max_batch_bytes_;                // The least of these.
    std::pair<TimePoint, WallTime> wall_;  // The wall clock's last reading, and when that was.
};

}  // namespace qmq::internal
