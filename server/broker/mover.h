#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/broker/shard_core.h"

namespace qmq::broker {

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
    };

    /// Moves what `consumer` holds of `range`. Where the attempts are used up a retry becomes a
    /// dead letter. What cannot be read any more is acked.
    Status MoveHeld(Consumer& consumer, PullRange range, const Order& order);

    /// Moves messages out of the redelivery queue to the dead-letter subject: consumers have died
    /// of them too often.
    Status MoveLoose(Group& group, Origin origin, PullRange sequences, std::string_view error);

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
               std::int64_t since_ms,
               Copies copies);
    Status LogCopies(Group& group, const Moved& moved, Copies copies);

    ShardCore& core_;
};

}  // namespace qmq::broker
