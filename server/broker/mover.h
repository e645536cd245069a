#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/broker/shard_core.h"

namespace qmq::broker {

/// What the copy of a message for a retry or a dead letter may have more than the original, and its
/// record besides: names, times, and what the consumer said of the failure.
inline constexpr std::uint64_t kRetryReserveBytes = 8U << 10U;

/// Sends messages to the retry or dead-letter subject of their group: copy and ack are one record,
/// so that neither a loss nor a duplicate can come between them.
class Mover {
public:
    explicit Mover(ShardCore& core) : core_(core) {}

    struct Order {
        bool to_dead_letter = false;
        /// kRetry: wait this long instead of the group's back-off.
        std::optional<std::chrono::milliseconds> delay;
        std::string_view error;
        /// A copy that waits says of which delivery it would be, and that is not made.
        bool was_waiting = false;
    };

    /// Moves what `consumer` holds of `range`. Where the attempts are used up a retry becomes a
    /// dead letter. What cannot be read any more is acked.
    Status MoveHeld(Consumer& consumer, PullRange range, const Order& order);

    /// Moves messages out of the redelivery queue to the dead-letter subject: consumers have died
    /// of them too often.
    Status MoveLoose(Group& group, Origin origin, PullRange sequences, std::string_view error);

    /// Moves a retry that waits to the dead-letter subject: nobody allows so many attempts any
    /// more.
    Status MoveWaiting(Group& group, std::uint64_t sequence);

    /// When the next delivery of a message of `attempt` deliveries is due, by the group's policy.
    static std::chrono::milliseconds Backoff(const RetryPolicy& policy, std::uint32_t attempt);

private:
    struct Source {
        std::uint64_t pull_sequence = 0;  ///< Or the sequence, of a loose one.
        std::uint64_t sequence = 0;
        std::uint32_t attempt = 1;
        std::int64_t since_ms = 0;
    };
    struct Copies {
        bool to_dead_letter = false;
        std::string body;
        std::uint32_t count = 0;
    };

    /// Copies messages of `reply` until one goes elsewhere than those before. Returns the sequence
    /// at which the rest begins.
    Result<std::uint64_t> Copy(const Group& group,
                               const store::ReadReply& reply,
                               std::uint32_t attempt,
                               const Order& order,
                               const RetryPolicy& waits,
                               Copies& copies);

    Status MoveRun(Group& group,
                   Consumer* consumer,
                   Origin origin,
                   const std::vector<Source>& run,
                   const Order& order);
    Status Log(Group& group,
               Consumer* consumer,
               Origin origin,
               PullRange range,
               std::uint64_t first_sequence,
               std::int64_t since_ms,
               Copies copies);
    Status LogCopies(Group& group,
                     const Moved& moved,
                     Origin origin,
                     std::uint64_t first_sequence,
                     Copies copies);
    /// The messages are done with, and have no copy.
    Status LogGone(const Moved& moved);

    ShardCore& core_;
};

}  // namespace qmq::broker
