#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "qmq/clock.h"
#include "qmq/status.h"

namespace qmq {

/// What a store says of one key: whose turn it is to do the work.
struct IdempotencyClaim {
    enum class State : std::uint8_t {
        kStarted,  ///< The caller's: do the work, then `Finish` or `Abandon`.
        kDone,     ///< The work has been done before: skip it.
        kBusy      ///< Somebody else does it at this moment: come back later.
    };
    State state = State::kStarted;
    std::string key;  ///< As given to `Start`, which need not fill it in; nor `lease`.
    /// Fencing token of a claim that is kStarted: of two claims on one key the later one has the
    /// greater token. Writes that carry it can be refused when a later claim has written.
    std::uint64_t token = 0;
    std::chrono::milliseconds lease{};
};

/// Remembers which messages were handled, by key. A key is unknown, claimed under a lease, or done;
/// never "insert first, delete on failure": the claim of a process that dies runs out.
///
/// The client calls `Start` inside the filters, before a handler, and `Renew` every third of the
/// lease (for at most `SubscriptionOptions::max_processing_time`) until the handler and all filters
/// have returned. Then it calls `Finish` when the outcome, as the filters left it, is ack, else
/// `Abandon`: what a filter failed to commit is not done. So two copies of a message run at the
/// same time only when the store cannot be reached for a whole lease, or when a handler takes
/// longer than that maximum. A handler that takes its `Delivery` has no store, nor has a
/// subscription with `at_most_once`: `Subscribe` refuses them together.
///
/// Thread-safe. May block: `Renew` is called on a thread of the client's that does nothing else,
/// the others on the handler's thread. What a function throws counts as kUnavailable.
class IdempotencyStore {
public:
    using Claim = IdempotencyClaim;

    virtual ~IdempotencyStore() = default;

    /// Claims `key` for `lease` from now. A claim whose lease is over does not stand in the way:
    /// the new one gets a greater token.
    ///
    /// An error that a repeat may cure (`Status::IsRetryable`), and whatever is thrown, delays the
    /// message without costing an attempt; any other error counts as a failure of the handler.
    virtual Result<Claim> Start(std::string_view key, std::chrono::milliseconds lease) = 0;

    // The three calls below act only while `claim` is the latest on its key, even if its lease is
    // over. Otherwise, or when the key is done or was abandoned, they change nothing and say
    // kFailedPrecondition, or kNotFound when nothing is known of the key.

    /// The work goes on: the lease begins anew. After an error that a repeat may cure the client
    /// tries again before the lease is over; after any other it gives the claim up for lost, which
    /// is logged, while the handler goes on.
    virtual Status Renew(const Claim& claim) = 0;
    /// The work is done. Ok also when this claim has said so before. An error is logged, and the
    /// message acked all the same: work that is done must not be done again for its record's sake.
    virtual Status Finish(const Claim& claim) = 0;
    /// The work failed, or was put off: the next `Start` may have the key at once.
    virtual Status Abandon(const Claim& claim) = 0;
};

struct MemoryIdempotencyOptions {
    /// How long a key that is done is remembered. Range: [1 min, 30 d].
    std::chrono::minutes retention{24 * 60};
    /// Beyond so many keys the oldest that are done are forgotten early, a sixteenth of them at a
    /// time; a key under a lease never is. Range: [1, 2^26].
    std::size_t max_keys = 1U << 20;
    /// Outlives the store. The system's when null.
    const Clock* clock = nullptr;
};

/// A store in memory, for one process. Keys that are done lie in time buckets that are dropped
/// whole. Values out of range are moved to the nearest that is in it.
std::shared_ptr<IdempotencyStore> MakeMemoryIdempotencyStore(MemoryIdempotencyOptions options = {});

}  // namespace qmq
