#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/broker/shard_core.h"
#include "server/broker/tag_matcher.h"

namespace qmq::broker {

/// What one visit hands out to its consumer.
struct Plan {
    std::vector<HandOutRun> runs;
    std::vector<DeliveredBatch> batches;
    /// Waited in the group, and are not in the log any more.
    std::vector<HandOutRun> gone;
    /// New ones in between, for others.
    std::vector<SequenceRun> aside;
    /// No more may be set aside, and this one would have to be.
    std::optional<std::uint64_t> stopped_at;
    /// How far the filter of the consumer has looked into the redelivery queues.
    std::array<std::optional<std::uint64_t>, kOriginCount> look_from;
    /// And into what waits for its time.
    std::optional<WaitingSet::Place> waiting_look_from;
    /// Retries that are due and have more attempts behind them than anybody allows now.
    std::vector<std::uint64_t> spent;
    /// The visit has ended before it had seen everything that may be for the consumer.
    bool more = false;
    std::uint64_t next_pull = 0;
    std::uint64_t next_sequence = 0;
    std::uint64_t messages = 0;  ///< Room left.
    std::uint64_t bytes = 0;     ///< Room left.
    std::uint64_t damaged = 0;   ///< New ones that cannot be read.
    /// Most runs in one hand-out: its record fits into the smallest segment.
    static constexpr std::size_t kMostRuns = 1'024;
    bool full() const { return messages == 0 || bytes == 0 || runs.size() >= kMostRuns; }
};

/// Finds what there is for a consumer: what its filter lets through of what waits in the group, and
/// of what is new. It reads, and changes nothing but what is known of filters.
class Planner {
public:
    explicit Planner(ShardCore& core) : core_(core) {}

    /// One message that is suspected to kill its consumers.
    Status PlanSuspect(Consumer& consumer, Plan& plan);
    bool HasSuspectFor(const Consumer& consumer) const;

    Status PlanLoose(Consumer& consumer, Origin origin, Plan& plan);
    Status PlanWaiting(Consumer& consumer, Plan& plan);
    Status PlanNew(Consumer& consumer, Plan& plan);

    struct Unseen {
        /// Set aside, and wanted by no member any more.
        std::vector<std::uint64_t> unwanted;
        std::optional<std::uint64_t> next;  ///< Where to go on; nothing: that was all.
        std::size_t looked = 0;
    };
    /// Asks the filters of all members, whether they are hungry, paused or away, about some of what
    /// was set aside, from the sequence `from` on.
    Result<Unseen> FindUnwantedUnseen(Group& group, std::uint64_t from);
    /// As well as `budget` allows, of what waits in `group` for a member that wants it: notes what
    /// all of them refuse.
    void LearnRefusals(Group& group, std::size_t& budget);

    struct Taken {
        std::uint64_t next = 0;  ///< Where the next read goes on.
        bool holes = false;      ///< Some are not in the log any more.
    };
    /// Reads the messages of `wanted` into the plan; when `filtered`, those that the consumer
    /// wants.
    Result<Taken> Take(Consumer& consumer, const HandOutRun& wanted, bool filtered, Plan& plan);

private:
    Status PlanNewAmongOthers(Consumer& consumer, Plan& plan);
    Result<std::uint64_t> FindForOthers(Consumer& consumer,
                                        std::vector<SequenceRun>& aside,
                                        Plan& plan);
    Result<std::uint64_t> TakeWaiting(Consumer& consumer, const HandOutRun& wanted, Plan& plan);
    Status NoteMissing(
        Consumer& consumer, const HandOutRun& wanted, std::uint64_t end, bool holes, Plan& plan);
    static AnyMatcher MatcherOf(const Group& group, Origin origin, FilterSlot own);
    Result<std::vector<std::uint64_t>> FindUnwanted(const Group& group,
                                                    Origin origin,
                                                    const AnyMatcher& members,
                                                    std::span<const std::uint64_t> asked);
    Result<bool> IsThere(const Group& group, Origin origin, std::uint64_t sequence);
    void NoteRefused(Consumer& consumer, const HandOutRun& wanted, std::uint64_t sequence);
    static void AddRun(const HandOutRun& base, store::MessageRun& messages, Plan& plan);

    ShardCore& core_;
};

}  // namespace qmq::broker
