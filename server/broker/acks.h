#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "server/broker/delivery.h"
#include "server/broker/mover.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// The verdicts of consumers on what they hold. Each request is answered once its round is written.
class Acks {
public:
    Acks(ShardCore& core, Mover& mover, Delivery& delivery)
        : core_(core), mover_(mover), delivery_(delivery) {}

    /// Does what `items` say with what `consumer` (null: nobody) still holds.
    void Add(Consumer* consumer, const std::vector<AckItem>& items, AckDone done);

    /// The round was written, or has left no trace.
    void OnWritten(const Status& status);

    /// Leases of `consumer` that are over: the messages go to others. Looks again when the next
    /// one can be.
    void ExpireLeases(Consumer& consumer);

    std::uint32_t TakeAnswered() { return std::exchange(answered_, 0); }

private:
    struct Waiting {
        AckDone done;
        Result<AckReply> reply;
    };

    Result<AckReply> Judge(Consumer* consumer, const std::vector<AckItem>& items);
    Result<AckReply> Apply(Consumer& consumer, const std::vector<AckItem>& items);
    Status ApplyAcks(Consumer& consumer, std::vector<PullRange> ranges);
    Status ApplyOther(Consumer& consumer, const AckItem& item);
    Status Retry(Consumer& consumer, const AckItem& item);
    Status GiveBack(Consumer& consumer, PullRange range, bool counted);
    void Renew(Consumer& consumer, PullRange range);

    ShardCore& core_;
    Mover& mover_;
    Delivery& delivery_;
    std::vector<Waiting> round_;
    std::uint32_t answered_ = 0;
    std::uint64_t ack_count_ = 0;
};

/// Checks `items` on any thread. kInvalidArgument names the first that is wrong.
Status ValidateAcks(const std::vector<AckItem>& items);

}  // namespace qmq::broker
