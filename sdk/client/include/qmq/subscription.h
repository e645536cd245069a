#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qmq/executor.h"
#include "qmq/filter.h"
#include "qmq/function.h"
#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq {

namespace internal {
class SubscriptionCore;
class DeliveryCore;
}  // namespace internal

/// Thrown by a handler: deliver this message again, in `delay` or by the group's back-off. Not
/// logged as an error.
class RetryLater : public std::exception {
public:
    explicit RetryLater(std::string reason = "the handler asked for a retry")
        : reason_(std::move(reason)) {}
    explicit RetryLater(std::chrono::milliseconds delay,
                        std::string reason = "the handler asked for a retry")
        : delay_(delay), reason_(std::move(reason)) {}
    /// Negative: by the group's back-off. Over 7 days counts as negative, and is logged.
    std::chrono::milliseconds delay() const { return delay_; }
    const char* what() const noexcept override { return reason_.c_str(); }

private:
    std::chrono::milliseconds delay_{-1};
    std::string reason_;
};

/// Thrown by a handler: this message can never be handled; to the dead-letter subject at once.
class Reject : public std::exception {
public:
    explicit Reject(std::string reason) : reason_(std::move(reason)) {}
    const char* what() const noexcept override { return reason_.c_str(); }

private:
    std::string reason_;
};

/// One delivery in the hands of the application, which decides when and how it ends. Move-only; any
/// thread. Exactly one decision counts, the first; a delivery destroyed without one is retried
/// ("forgotten"). Until then its lease is renewed, up to
/// `SubscriptionOptions::max_processing_time`.
class Delivery {
public:
    Delivery(Delivery&&) noexcept;
    Delivery& operator=(Delivery&&) noexcept;
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;
    ~Delivery();

    const Message& message() const;

    /// Done with. `done` (may be empty) tells once, on the client's callback thread, whether the
    /// broker has recorded it: kNotFound when it, or another that was acked in the same moment, no
    /// longer was ours (lease lost: it will be or was delivered again; or decided before),
    /// kUnavailable when the connection was lost before the answer and it may or may not be
    /// recorded, kCancelled when the client shut down first. Once shutdown has returned it is not
    /// called any more.
    void Ack(UniqueFunction<void(const Status&)> done = nullptr);
    /// Failed: deliver again by the group's back-off, or as a dead letter when the attempts are
    /// used up.
    void Nack(std::string error, UniqueFunction<void(const Status&)> done = nullptr);
    /// In `delay`, at most 7 days; for more `done` is told kInvalidArgument, and it is a `Nack`.
    void RetryIn(std::chrono::milliseconds delay,
                 std::string error = {},
                 UniqueFunction<void(const Status&)> done = nullptr);
    void Reject(std::string error, UniqueFunction<void(const Status&)> done = nullptr);

private:
    friend struct DeliveryAccess;
    explicit Delivery(std::unique_ptr<internal::DeliveryCore> core);
    std::unique_ptr<internal::DeliveryCore> core_;
};

/// The forms of a handler. It may run for hours; it is called from many threads at once when
/// `parallelism` > 1. Return acks; throwing `RetryLater` or `Reject` does what they say; throwing
/// anything else delivers again with the text of the exception.
using Handler = std::function<void(const Message&)>;
/// Ends deliveries itself, perhaps later and elsewhere.
using ManualHandler = std::function<void(Delivery)>;
/// Says the outcome instead of throwing.
using OutcomeHandler = std::function<HandlerOutcome(const Message&)>;

struct SubscriptionOptions {
    std::string subject;
    /// Each group gets every message once. Empty only together with `broadcast`.
    std::string group;
    /// Every client gets every message: the group is the client's id.
    bool broadcast = false;
    TagFilter tags;
    /// Where a group begins that the broker does not know. kLatest is what other clients do.
    StartPosition start = StartPosition::kLatest;
    /// Handlers at once. Range: [1, 1,024].
    std::uint32_t parallelism = 4;
    /// Messages held here, handled or waiting. Range: [1, 65,536]. Raised to `parallelism` when
    /// lower.
    std::uint32_t prefetch_count = 1'000;
    std::size_t prefetch_bytes = 16U << 20;  ///< Range: [64 KiB, 1 GiB].
    RetryPolicy retry;
    /// A message that this process does not renew for this long goes to another consumer. Range: [1
    /// s, 12 h].
    std::chrono::milliseconds ack_timeout{60'000};
    /// Leases are renewed for at most this long; then the message is given up and delivered again.
    /// Range: [ack_timeout, 7 d].
    std::chrono::milliseconds max_processing_time{12 * 3'600'000};
    /// Acked on receipt, before the handler: a crash loses it, nothing is handled twice because of
    /// us.
    bool at_most_once = false;
    /// How long acks may gather before they are sent. Range: [0, 1 s].
    std::chrono::microseconds ack_linger{500};
    /// Where handlers run; the client's pool when null. It outlives the client. A refused task is
    /// offered again after a pause.
    Executor* executor = nullptr;
    /// Around the handler, the first outermost; inside the client's own filters.
    std::vector<std::shared_ptr<Filter>> filters;
    std::shared_ptr<IdempotencyStore> idempotency;
    /// The idempotency key of a message; its id when empty.
    std::function<std::string(const Message&)> idempotency_key;
    bool start_paused = false;
};

/// A running subscription. A handle: copies share it, and dropping all of them leaves it running
/// until the client shuts down.
class Subscription {
public:
    Subscription() = default;
    /// No more messages are taken; those here go on. Idempotent.
    void Pause();
    void Resume();
    /// Leaves the group for good: takes no more, waits for running handlers, sends their acks,
    /// hands the rest back. Idempotent; blocks at most `timeout` (never from inside one of its own
    /// handlers: then it returns at once and goes on in the background). kDeadlineExceeded with how
    /// many handlers still ran.
    Status Close(std::chrono::milliseconds timeout);

    struct Stats {
        std::uint64_t delivered_count = 0;
        std::uint64_t acked_count = 0;
        std::uint64_t failed_count = 0;
        std::uint64_t waiting_count = 0;  ///< Here, not begun.
        std::uint64_t running_count = 0;
        bool connected = false;  ///< To every broker group of its route.
    };
    Stats stats() const;

private:
    friend struct SubscriptionAccess;
    explicit Subscription(std::shared_ptr<internal::SubscriptionCore> core)
        : core_(std::move(core)) {}
    std::shared_ptr<internal::SubscriptionCore> core_;
};

}  // namespace qmq
