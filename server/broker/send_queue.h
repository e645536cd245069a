#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qmq/batch.h"
#include "qmq/protocol.h"
#include "qmq/subject.h"

#include "server/broker/ring.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// A frame of batches on its way: answered once, when all shards that it touches are done.
struct SendFrame {
    std::vector<BatchReceipt> receipts;  ///< Each shard writes those of its own batches.
    SendDone done;
    std::atomic<std::uint32_t> open_parts{0};

    /// One part is done.
    void FinishPart() {
        if (open_parts.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            done(std::move(receipts));
        }
    }
};

/// A batch that was checked on the caller's thread.
struct CheckedBatch {
    std::uint32_t index = 0;  ///< In the frame.
    std::string subject;
    Slice batch;
    BatchView view;
    Durability durability = Durability::kDefault;  ///< Asked for, or more as the subject promises.
};

/// What one shard has to do for a frame.
struct SendPart {
    std::shared_ptr<SendFrame> frame;
    std::vector<CheckedBatch> batches;
    std::uint64_t bytes = 0;
    store::LogOffset sync_end = 0;  ///< A sync up to here is waited for. Zero: none.
};

/// Checks `batch` on any thread, before it costs the shard anything. The promise of its subject is
/// `promise`.
Result<CheckedBatch> CheckBatch(SendBatch batch,
                                std::uint32_t index,
                                const BrokerOptions& options,
                                Durability promise,
                                WallTime now);

/// The sends of a shard, from the append to the answer: each is answered when it is as durable as
/// was asked, in the order of the log.
class SendQueue {
public:
    explicit SendQueue(ShardCore& core) : core_(core) {}

    /// Appends the batches of `part` to the round.
    void Add(std::unique_ptr<SendPart> part);

    /// The round was written, or (`status` not ok) has left no trace.
    void OnWritten(const Status& status);
    void OnSynced(store::LogOffset synced);
    /// The shard has stopped writing: what waits has an unknown fate.
    void Fail(const Status& status);

    bool empty() const { return round_.empty() && syncing_.empty(); }
    /// Requests and bytes answered since the last call.
    struct Answered {
        std::uint32_t requests = 0;
        std::uint64_t bytes = 0;
    };
    Answered TakeAnswered() { return std::exchange(answered_, Answered{}); }

private:
    Status CheckRoomForRetry(const CheckedBatch& batch) const;
    void AppendBatch(SendPart& part, CheckedBatch& batch, Subject& subject);
    void Finish(std::unique_ptr<SendPart> part);
    void FailPart(std::unique_ptr<SendPart> part, SendOutcome outcome, const Status& status);

    ShardCore& core_;
    std::vector<Subject*> subjects_;  // Of the part that is added.
    std::vector<std::unique_ptr<SendPart>> round_;
    Ring<std::unique_ptr<SendPart>> syncing_;
    Answered answered_;
};

}  // namespace qmq::broker
