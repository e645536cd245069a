#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "server/broker/delivery.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// Sees to it that what waits for a retry, waits in the redelivery queue, or is held by a living
/// consumer outlives the segment it lies in: it is appended anew to the retry subject of its group,
/// and the copy takes the original's place, message by message. Pull sequences, attempts and due
/// times stay.
///
/// What a group has not read yet goes with its segment. What lies in a subject that has no retry
/// subject (dead letters, retries that another group consumes) cannot be moved: its segment stays
/// for as long as somebody may still take it.
class Keeper {
public:
    Keeper(ShardCore& core, Delivery& delivery) : core_(core), delivery_(delivery) {}

    /// Whether all that is kept below `going` is appended anew, and as safe as it will be. False:
    /// some of it was appended now, or has to wait; ask again soon. Appends a bounded number of
    /// messages and bytes.
    bool MayDrop(std::span<const store::StoreListener::Going> going);

private:
    /// A message to move: where the record names it, and where it lies.
    struct Item {
        std::uint64_t key = 0;  ///< A pull sequence when it is held, else its sequence.
        std::uint64_t sequence = 0;
    };
    /// Items of a group that one record may name.
    struct Batch {
        Consumer* consumer = nullptr;  ///< Who holds them.
        Origin origin = Origin::kSubject;
        MoveCause cause = MoveCause::kKeptHeld;
        std::int64_t since_ms = 0;
        std::int64_t due_ms = 0;
        std::vector<Item> items;  ///< Ascending keys.
    };
    struct Copies {
        std::string body;
        std::uint32_t count = 0;
        std::vector<PullRange> keys;
        std::uint64_t first = 0;  ///< Where the originals begin.
        std::uint64_t next = 0;   ///< The sequence at which the next read goes on.
    };

    // Each says whether nothing is left below `end` that must be kept.
    bool KeepSubject(Subject& subject, std::uint64_t end);
    bool KeepOrigin(Group& group, Origin origin, std::uint64_t end);
    bool MoveAll(Group& group, const Batch& batch);
    /// One record with the first of `items`. Says where the rest begins.
    Result<std::size_t> MoveSome(Group& group, const Batch& batch, std::span<const Item> items);
    Result<Copies> Copy(Subject& source, std::span<const Item> items);
    Status Log(Group& group, const Batch& batch, Copies copies);
    /// There is no copy of these, and will be none.
    Status GiveUp(Group& group,
                  const Batch& batch,
                  const std::vector<PullRange>& keys,
                  LossCause cause,
                  const std::string& why);

    std::vector<Batch> Collect(Group& group, Origin origin, std::uint64_t end) const;
    bool NeededInPlace(const Group& group, std::uint64_t end);
    bool IsAbandoned(const Group& group);
    bool IsPinnedTooLong() const;
    bool MovesAreSynced(std::span<const store::StoreListener::Going> going);
    bool full() const { return messages_left_ == 0 || bytes_left_ == 0 || reads_left_ == 0; }

    ShardCore& core_;
    Delivery& delivery_;
    std::uint64_t messages_left_ = 0;
    std::uint64_t bytes_left_ = 0;
    std::uint64_t reads_left_ = 0;
    bool needed_in_place_ = false;  ///< In this call.
    bool told_in_place_ = false;
};

}  // namespace qmq::broker
