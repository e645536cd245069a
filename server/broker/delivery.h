#pragma once

#include <cstdint>
#include <vector>

#include "server/broker/mover.h"
#include "server/broker/ring.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// Hands messages out: decides who gets what, logs it, and gives it away once that is written.
///
/// A group stands in line (`MarkReady`) when it may have something for somebody; every event that
/// can make it so calls `MarkReady`, so nobody polls and no wake-up is lost. A visit serves one
/// consumer with one frame; then the next group has its turn, and a round ends after a few MiB, so
/// that neither a busy group nor a busy consumer keeps others waiting.
class Delivery {
public:
    Delivery(ShardCore& core, Mover& mover) : core_(core), mover_(mover) {}

    void MarkReady(Group& group);
    /// Whether `consumer` is connected has changed: it joins the group's members, or leaves them.
    void Refresh(Consumer& consumer);
    /// Serves whoever is ready, into the round.
    void Pump();
    /// Whether the round's budget ended before the line did.
    bool unfinished() const { return !ready_.empty(); }

    /// The round was written, or has left no trace.
    void OnWritten(const Status& status);

    /// When a group whose hand-out could not be logged is to be tried again; -1: none.
    ShardMs retry_at_ms() const { return retry_at_ms_; }
    void RetryBlocked();

    /// Forgets all pointers to a group or consumer that goes.
    void Forget(Group& group);
    void Forget(Consumer& consumer);

    /// Whether `consumer` could take a message now.
    static bool IsHungry(const Consumer& consumer, std::uint32_t most_in_flight);

private:
    /// What one visit hands out.
    struct Plan {
        std::vector<HandOutRun> runs;
        std::vector<DeliveredBatch> batches;
        std::vector<HandOutRun> gone;
        std::uint64_t next_pull = 0;
        std::uint64_t next_sequence = 0;
        std::uint64_t messages = 0;  ///< Room left.
        std::uint64_t bytes = 0;     ///< Room left.
        bool full() const { return messages == 0 || bytes == 0; }
    };
    enum class Outcome : std::uint8_t { kNothing, kServed, kBlocked };

    void WakeSubjects();
    Outcome ServeGroup(Group& group);
    Outcome ServeConsumer(Consumer& consumer);
    Outcome Resend(Consumer& consumer, Plan& plan);
    std::uint64_t ResendRun(Consumer& consumer, std::uint64_t pull, Plan& plan);
    Status PlanLoose(Consumer& consumer, Origin origin, Plan& plan);
    Status PlanWaiting(Consumer& consumer, Plan& plan);
    Status PlanNew(Consumer& consumer, Plan& plan);
    Status BuryOverdelivered(Group& group, Origin origin);
    /// Reads the messages of `wanted` into the plan. Returns where the next read goes on.
    Result<std::uint64_t> Take(Consumer& consumer,
                               const HandOutRun& wanted,
                               bool filtered,
                               Plan& plan);
    Result<std::uint64_t> TakeWaiting(Consumer& consumer,
                                      const HandOutRun& wanted,
                                      bool filtered,
                                      Plan& plan);
    void AddRun(const HandOutRun& base, store::MessageRun& messages, Plan& plan);
    Plan MakePlan(const Consumer& consumer) const;
    Outcome Commit(Consumer& consumer, Plan& plan);
    void GiveOut(Consumer& consumer, Plan& plan);
    /// What the plan looked for in vain, because retention or damage took it, waits no longer.
    void DropGone(Group& group, const Plan& plan);
    void ArmDue(Group& group);
    void Block(Group& group);

    ShardCore& core_;
    Mover& mover_;
    Ring<Group*> ready_;
    std::vector<Group*> blocked_;
    std::vector<Consumer*> out_;
    std::uint64_t round_bytes_ = 0;
    std::uint64_t wake_count_ = 0;
    ShardMs retry_at_ms_ = -1;
};

}  // namespace qmq::broker
