#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qmq/awaitable.h"
#include "qmq/protocol.h"
#include "qmq/status.h"
#include "qmq/subscription.h"
#include "qmq/tags.h"

namespace qmq {

struct PullConsumerOptions {
    std::string subject{};
    std::string group{};
    bool broadcast = false;
    /// As in `SubscriptionOptions`.
    Tags tags{};
    StartPosition start = StartPosition::kLatest;
    /// As in `SubscriptionOptions`; what `Pull` has given out counts as begun.
    RetryPolicy retry{};
    /// Range: [1 s, 12 h]. Leases of what was pulled are renewed while the `Delivery` lives, up to
    /// `max_processing_time`.
    std::chrono::milliseconds ack_timeout{60'000};
    std::chrono::milliseconds max_processing_time{12 * 3'600'000};
    /// Most messages pulled and not ended; a further pull waits. Range: [1, 65,536].
    std::uint32_t max_unacked_count = 10'000;
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const PullConsumerOptions& options);

struct PullOptions {
    /// Most messages in one batch. Range: [1, 10,000].
    std::uint32_t max_messages = 50;
    /// How long to wait for the first message. Zero answers at once with what has arrived for
    /// earlier pulls, and asks for more. Range: [0, 1 h].
    std::chrono::milliseconds max_wait{1'000};
};

namespace internal {
class PullCore;
}

/// A member of a consumer group that takes messages when it wants them. Messages of its group's
/// retries come too.
///
/// A handle: copies share one membership. Thread-safe; concurrent pulls are served in order.
class PullConsumer {
public:
    using Callback = UniqueFunction<void(Result<std::vector<Delivery>>)>;

    PullConsumer() = default;

    /// Waits for a batch: as soon as one message is there, up to `max_messages` of what is there;
    /// an empty batch once `max_wait` has passed. Nothing is fetched that was not asked for (each
    /// of several broker groups is asked for a share, rounded up); what comes too late waits for
    /// the next pull, and goes back after a third of the ack time-out. Errors: kInvalidArgument,
    /// kUnavailable (no broker by the deadline; where the route is refused, the code of that, such
    /// as kPermissionDenied), kCancelled (closed). Not from a callback or handler of the same
    /// client.
    Result<std::vector<Delivery>> Pull(const PullOptions& options);
    /// As above; `callback` comes on the client's callback thread, exactly once (unless the
    /// client's shutdown reports it as dropped). Not ok means that the pull was not taken, and no
    /// callback comes: kInvalidArgument (options out of range, an empty callback), kCancelled
    /// (closed, or the client has been shut down).
    [[nodiscard]] Status PullAsync(const PullOptions& options, Callback callback);
    /// `Result<std::vector<Delivery>> batch = co_await consumer.PullAsync(options)`. The pull has
    /// begun when this returns; what comes for one that nobody awaits any more is retried at once.
    Awaitable<Result<std::vector<Delivery>>> PullAsync(const PullOptions& options);

    /// As `Subscription::WaitReady`: a message that is sent once this is ok can be pulled.
    Status WaitReady(std::chrono::milliseconds timeout);

    /// Leaves the group. Waiting pulls end with kCancelled; what waits for a pull goes back.
    /// Deliveries that are out may be decided while this waits for them, for at most `timeout`
    /// (inside a callback or handler it does not wait); afterwards they can no longer be acked.
    /// Idempotent.
    Status Close(std::chrono::milliseconds timeout);

private:
    friend struct PullConsumerAccess;
    explicit PullConsumer(std::shared_ptr<internal::PullCore> core) : core_(std::move(core)) {}
    std::shared_ptr<internal::PullCore> core_;
};

}  // namespace qmq
