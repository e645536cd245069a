#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "server/broker/delivery.h"
#include "server/broker/mover.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// The verdicts of consumers on what they hold. Each request is answered once its round is written,
/// or synced when one of its items asks for that.
class Acks {
public:
    Acks(ShardCore& core, Mover& mover, Delivery& delivery)
        : core_(core), mover_(mover), delivery_(delivery) {}

    /// Does what `items` say with what `consumer` (null: nobody) still holds. The subject promises
    /// its messages to be as durable as `promise`.
    void Add(Consumer* consumer,
             const std::vector<AckItem>& items,
             Durability promise,
             AckDone done);

    /// The round was written, or has left no trace.
    void OnWritten(const Status& status);
    void OnSynced(store::LogOffset synced);
    /// The shard has stopped writing: nobody knows how durable the verdicts are that wait.
    void Fail(const Status& status);

    /// Leases of `consumer` that are over: the messages go to others. Looks again when the next
    /// one can be.
    void ExpireLeases(Consumer& consumer);
    /// `consumer` is back, and asks for another time than its leases were given. `was_known`: that
    /// was its own word, and not a guess in place of a record that is damaged.
    void OnNewLease(Consumer& consumer, bool was_known);

    std::uint32_t TakeAnswered() { return std::exchange(answered_, 0); }

private:
    struct Waiting {
        bool durable = false;  ///< It is answered once it survives a power cut.
        store::LogOffset end = 0;
        AckDone done;
        Result<AckReply> reply = AckReply{};
    };

    void Answer(Waiting& waiting, const Status& status);
    Result<AckReply> Judge(Consumer* consumer, const std::vector<AckItem>& items);
    Result<AckReply> Apply(Consumer& consumer, const std::vector<AckItem>& items);
    Status ApplyItems(Consumer& consumer, const std::vector<AckItem>& items, AckReply& reply);
    /// What of `ranges` was not held is added to `reply`, unless that is null.
    Status ApplyAcks(Consumer& consumer, std::vector<PullRange> ranges, AckReply* reply);
    Status ApplyOther(Consumer& consumer, const AckItem& item);
    Status Retry(Consumer& consumer, const AckItem& item);
    Status GiveBack(Consumer& consumer, PullRange range, ReleaseCause cause);
    Status LogRelease(Consumer& consumer,
                      ReleaseCause cause,
                      const std::vector<PullRange>& ranges,
                      const std::vector<PullRange>& begun);
    static void Begin(Consumer& consumer, PullRange range);
    void Renew(Consumer& consumer, PullRange range);

    ShardCore& core_;
    Mover& mover_;
    Delivery& delivery_;
    std::vector<Waiting> round_;
    Ring<Waiting> syncing_;
    std::uint32_t answered_ = 0;
    std::uint64_t ack_count_ = 0;
};

/// What `consumer` holds of `range` and has begun, or was handed alone: should it die or let the
/// lease end, the attempt counts.
std::vector<PullRange> BegunOf(Consumer& consumer, PullRange range);
/// `ranges` in pieces that one action holds.
std::vector<std::vector<PullRange>> Cut(const std::vector<PullRange>& ranges);

/// Checks `items` on any thread. kInvalidArgument names the first that is wrong, kUnimplemented one
/// that asks for more than `best`, the most that this broker promises.
Status ValidateAcks(const std::vector<AckItem>& items, Durability best);

}  // namespace qmq::broker
