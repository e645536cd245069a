#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qmq/awaitable.h"
#include "qmq/executor.h"
#include "qmq/filter.h"
#include "qmq/function.h"
#include "qmq/idempotency.h"
#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/status.h"
#include "qmq/tags.h"

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

/// Thrown by a handler: not now, and not the message's fault. What `HandlerOutcome::Later` says.
class Later : public std::exception {
public:
    explicit Later(std::chrono::milliseconds delay, std::string reason = "the handler put it off")
        : delay_(delay), reason_(std::move(reason)) {}
    std::chrono::milliseconds delay() const { return delay_; }
    const char* what() const noexcept override { return reason_.c_str(); }

private:
    std::chrono::milliseconds delay_;
    std::string reason_;
};

/// Thrown by a handler: this message can never be handled; to the dead-letter subject at once. One
/// that was delivered from there is done with: it stays where it is, and does not come again.
class Reject : public std::exception {
public:
    explicit Reject(std::string reason) : reason_(std::move(reason)) {}
    const char* what() const noexcept override { return reason_.c_str(); }

private:
    std::string reason_;
};

/// One delivery in the hands of the application, which decides when and how it ends. Move-only; any
/// thread. Exactly one decision counts, the first. A delivery that is destroyed without one,
/// wherever that happens, is retried at once ("forgotten"; while an exception passes through its
/// own handler: when that has ended); one that is destroyed while its own handler ends by an
/// exception, is retried with the text of that exception. Until it is decided its lease is renewed,
/// up to `SubscriptionOptions::max_processing_time`.
class Delivery {
public:
    Delivery(Delivery&&) noexcept;
    Delivery& operator=(Delivery&&) noexcept;
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;
    ~Delivery();

    const Message& message() const;

    /// Done with. `done` (may be empty) tells once, on the client's callback thread, whether the
    /// broker has recorded it: kNotFound when this message was no longer ours (its lease was lost:
    /// it will be or was delivered again; or decided before),
    /// kUnavailable when the connection was lost before the answer and it may or may not be
    /// recorded, kCancelled when the client shut down first. With `at_most_once` each decision but
    /// this one is answered kFailedPrecondition. Once shutdown has returned it is not called any
    /// more.
    void Ack(UniqueFunction<void(const Status&)> done = nullptr);
    /// `Status recorded = co_await delivery.AckAsync()`: decided when this returns, and the answer
    /// is what `done` of `Ack` is told. Of those below alike.
    Awaitable<Status> AckAsync();
    /// Failed: deliver again by the group's back-off, or as a dead letter when the attempts are
    /// used up.
    void Nack(std::string error, UniqueFunction<void(const Status&)> done = nullptr);
    Awaitable<Status> NackAsync(std::string error);
    /// In `delay`, at most 7 days; for more `done` is told kInvalidArgument, and it is a `Nack`.
    void RetryIn(std::chrono::milliseconds delay,
                 std::string error = {},
                 UniqueFunction<void(const Status&)> done = nullptr);
    Awaitable<Status> RetryInAsync(std::chrono::milliseconds delay, std::string error = {});
    void Reject(std::string error, UniqueFunction<void(const Status&)> done = nullptr);
    Awaitable<Status> RejectAsync(std::string error);
    /// Not now, and not its fault: as `HandlerOutcome::Later`. `done` is told when it was given
    /// back.
    void Later(std::chrono::milliseconds delay,
               std::string reason,
               UniqueFunction<void(const Status&)> done = nullptr);
    Awaitable<Status> LaterAsync(std::chrono::milliseconds delay, std::string reason);

private:
    friend struct DeliveryAccess;
    explicit Delivery(std::unique_ptr<internal::DeliveryCore> core);
    std::unique_ptr<internal::DeliveryCore> core_;
};

struct SubscriptionOptions {
    std::string subject{};
    /// Each group gets every message once. Empty only together with `broadcast`.
    std::string group{};
    /// Every client gets every message: the group is the client's id.
    bool broadcast = false;
    /// What this member asks for, and all that it is handed. Members of one group may differ, for
    /// instance while a new version is rolled out: the group passes over a message only when none
    /// of them wants it, those included that are away for a moment. A message that one member
    /// passes over waits for one that wants it; when that is full or paused for long, the group
    /// waits too. What was handed out once is never passed over: when the last member that wants it
    /// has gone, it stays, counted in the group's lag, until one comes that does. Members that
    /// differ are told: see `Subscription::warnings`.
    Tags tags{};
    /// Where a group begins that the broker does not know. kLatest is what other clients do.
    StartPosition start = StartPosition::kLatest;
    /// Most handlers at once. On the client's own threads there are as many, unless all
    /// subscriptions together want more than `ClientOptions::handler_threads`. Range: [1, 1,024].
    ///
    /// When all of them have been busy with the same messages for 10 s the log says so, then at
    /// twice the time, and so on.
    std::uint32_t parallelism = 4;
    /// Messages held here, handled or waiting. Range: [1, 65,536]; raised to `parallelism` when
    /// lower. Zero, the default, lets it follow the handlers: between two for each handler and
    /// 1,000 in all (two for each handler, where that is more than 1,000), about as many as are
    /// begun within some tenths of a second. So what one member of a group is too slow for is left
    /// to the others. (Deliveries that a manual handler keeps count as begun.)
    /// Each broker group may send one at least.
    std::uint32_t prefetch_count = 0;
    std::size_t prefetch_bytes = 16U << 20;  ///< Range: [64 KiB, 1 GiB].
    /// Of this member. The waits before redeliveries are those of the member whose handler failed;
    /// the attempts are the most that any member of the group allows.
    ///
    /// An attempt is one of a handler. What waits here and was not begun when this process dies
    /// loses none: the broker is told what handlers have begun, when they take longer than some
    /// milliseconds. A message that is lost with its process before anything was said of it is
    /// suspected: it loses no attempt the first two times, and is then handed out alone, so that
    /// one that kills its process becomes a dead letter and its neighbours do not.
    RetryPolicy retry{};
    /// A message that this process does not renew for this long goes to another consumer. Range: [1
    /// s, 12 h].
    std::chrono::milliseconds ack_timeout{60'000};
    /// How long a message may be in the application's hands: from the call of its handler to the
    /// handler's return, or to the decision about its `Delivery`. So long its lease is renewed;
    /// then, within a third of `ack_timeout`, it is given up and delivered again, which is an
    /// attempt, and what is said of it later counts no more. Range: [ack_timeout, 7 d].
    ///
    /// What waits here for a handler is renewed too, for however long. But when no handler has
    /// taken a message for a third of `ack_timeout`, all that waits is handed back for others,
    /// which is no attempt, and nothing more is taken until a handler is free.
    std::chrono::milliseconds max_processing_time{12 * 3'600'000};
    /// Acked on receipt: the handler runs only when the broker has confirmed the ack, as durably as
    /// the subject promises its messages. So what a handler has seen does not come again, whatever
    /// crashes: over a power cut of the broker too where the subject promises kFsync, over its
    /// kill -9 where it promises kPageCache. What this process had received and not handled is lost
    /// with it; an orderly end handles it first, up to its deadline, and tells what was left
    /// (`ShutdownReport::deliveries_dropped`). Where the confirmation does not come, the message is
    /// not handled here: it is delivered again unless the ack was recorded. The outcome of the
    /// handler counts for nothing. Each message waits for a sync of the broker's disk, where that
    /// is what the subject promises.
    bool at_most_once = false;
    /// How long acks may gather before they are sent. Range: [0, 1 s].
    std::chrono::microseconds ack_linger{500};
    /// Where handlers run; the client's pool when null. It outlives the client. A task that it
    /// refuses or drops is offered again after a pause.
    Executor* executor = nullptr;
    /// Around the handler, the first outermost; inside the client's own filters.
    std::vector<std::shared_ptr<Filter>> filters{};
    /// Refused with a handler that takes its `Delivery`, and with `at_most_once`.
    std::shared_ptr<IdempotencyStore> idempotency{};
    /// The idempotency key of a message; its id when this is empty or answers an empty key. Stores
    /// are given "subject%group%key".
    std::function<std::string(const Message&)> idempotency_key{};
    bool start_paused = false;
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const SubscriptionOptions& options);

/// A running subscription. A handle: copies share it, and dropping all of them leaves it running
/// until the client shuts down.
class Subscription {
public:
    Subscription() = default;
    /// No more messages are taken; those here go on. Idempotent.
    void Pause();
    void Resume();
    /// Leaves the group for good: takes no more, waits for running handlers, sends their acks,
    /// hands the rest back (with `at_most_once` handles it first). Idempotent; blocks at most
    /// `timeout` (never from inside one of its own handlers: then it returns at once and goes on in
    /// the background). kDeadlineExceeded with how many handlers still ran. Callbacks of decisions
    /// (`Delivery::Ack`) may run a little after it.
    Status Close(std::chrono::milliseconds timeout);

    /// Waits until every broker group of the route has confirmed this member. `Subscribe` returns
    /// before that, and a group that is new begins where its first member was confirmed: with
    /// `StartPosition::kLatest` it never sees what was sent before. So wait here before you send
    /// what this subscription is to receive. Blocks at most `timeout`; zero or less answers at
    /// once.
    ///
    /// Errors: kDeadlineExceeded with the last reason; at once, since waiting does not help,
    /// kPermissionDenied, kInvalidArgument, kFailedPrecondition, kUnimplemented (a broker, or who
    /// knows the route, refuses this subscription; the client goes on trying, in case that changes)
    /// and kCancelled (closed, or the client was shut down).
    Status WaitReady(std::chrono::milliseconds timeout);

    struct Stats {
        std::uint64_t delivered_count = 0;
        std::uint64_t acked_count = 0;
        /// Retried or dead letters; of `at_most_once`, which acks before, handlers that failed.
        std::uint64_t failed_count = 0;
        std::uint64_t later_count = 0;    ///< How often one was put off (`HandlerOutcome::Later`).
        std::uint64_t waiting_count = 0;  ///< Here, not begun.
        std::uint64_t running_count = 0;  ///< Handlers that run.
        /// Given to a manual handler and not decided, whether that has returned or not.
        std::uint64_t undecided_count = 0;
        bool connected = false;  ///< To every broker group of its route.
        /// Why it does not take part in its group everywhere; ok when it does. kCancelled once
        /// closed.
        Status last_error;
    };
    Stats stats() const;
    /// What the brokers said, for people, when this subscribed last: other members of the group ask
    /// for other tags or have another retry policy. Each text is logged as well, once for each
    /// broker group. Empty when all agreed then; of members that came later, they are told.
    std::vector<std::string> warnings() const;

private:
    friend struct SubscriptionAccess;
    explicit Subscription(std::shared_ptr<internal::SubscriptionCore> core)
        : core_(std::move(core)) {}
    std::shared_ptr<internal::SubscriptionCore> core_;
};

}  // namespace qmq
