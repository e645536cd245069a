#pragma once

#include <cstdint>
#include <vector>

#include "server/broker/mover.h"
#include "server/broker/planner.h"
#include "server/broker/ring.h"
#include "server/broker/shard_core.h"
#include "server/broker/suspects.h"

namespace qmq::broker {

/// Hands messages out: decides who gets what, logs it, and gives it away once that is written.
///
/// A group stands in line (`MarkReady`) when it may have something for somebody; every event that
/// can make it so calls `MarkReady`, so nobody polls and no wake-up is lost. A visit serves one
/// consumer with one frame; then the next group has its turn, and a round ends after a few MiB, so
/// that neither a busy group nor a busy consumer keeps others waiting.
class Delivery {
public:
    Delivery(ShardCore& core, Mover& mover)
        : core_(core), mover_(mover), planner_(core), suspects_(core, planner_) {}

    void MarkReady(Group& group);
    /// Whether `consumer` is connected has changed: it joins the group's members, or leaves them.
    /// One without a session is given up when it does not come back within its ack timeout.
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
    /// Looks at `group` again in a moment.
    void Block(Group& group);

    /// Forgets all pointers to a group or consumer that goes.
    void Forget(Group& group);
    void Forget(Consumer& consumer);

    /// Aborts, in builds with planted bugs and none planted, when a member with room would be given
    /// something by a visit that nobody will make. At the end of a round.
    void CheckNobodyIsForgotten() const;

    /// Whether `consumer` could take a message now, or be sent one again.
    static bool IsHungry(const Consumer& consumer, std::uint32_t most_in_flight);

private:
    enum class Outcome : std::uint8_t { kNothing, kServed, kBlocked };

    void WakeSubjects();
    Outcome ServeGroup(Group& group);
    Outcome ServeConsumer(Consumer& consumer);
    Outcome Resend(Consumer& consumer, Plan& plan);
    std::uint64_t ResendRun(Consumer& consumer, std::uint64_t pull, Plan& plan);
    Outcome PlanAndCommit(Consumer& consumer, Plan& plan);
    Outcome BurySpent(Group& group);
    Status BuryDue(Group& group, const Plan& plan);
    Outcome PassOver(Group& group);
    Plan MakePlan(const Consumer& consumer) const;
    Outcome Commit(Consumer& consumer, Plan& plan);
    Outcome CommitSkip(Consumer& consumer, const Plan& plan);
    static void NoteLooked(Consumer& consumer, const Plan& plan);
    void NoteStop(Group& group, const Plan& plan);
    void GiveOut(Consumer& consumer, Plan& plan);
    void EndRoom(Consumer& consumer);
    /// What the plan looked for in vain, because retention or damage took it, waits no longer.
    void DropGone(Group& group, const Plan& plan);
    void CountDamage(Group& group, const Plan& plan, std::uint64_t from);
    void ArmDue(Group& group);
    bool HasDue(const Consumer& consumer) const;

    ShardCore& core_;
    Mover& mover_;
    Planner planner_;
    Suspects suspects_;
    Ring<Group*> ready_;
    std::vector<Group*> blocked_;
    std::vector<Consumer*> out_;
    std::uint64_t round_bytes_ = 0;
    std::uint64_t wake_count_ = 0;
    ShardMs retry_at_ms_ = -1;
};

}  // namespace qmq::broker
