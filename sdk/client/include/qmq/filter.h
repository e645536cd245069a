#pragma once

#include <chrono>
#include <string>

#include "qmq/delivery_context.h"
#include "qmq/function.h"

namespace qmq {

/// How a delivery ended.
struct HandlerOutcome {
    enum class Kind : std::uint8_t { kAck, kRetry, kDeadLetter, kLater };
    Kind kind = Kind::kAck;  ///< Any other number counts as kRetry.
    /// kRetry: in this long; negative means by the group's back-off. kLater: as at `Later`.
    std::chrono::milliseconds delay{-1};
    std::string error{};

    static HandlerOutcome Ack() { return {}; }
    /// Failed: again by the group's back-off.
    static HandlerOutcome Retry(std::string error) {
        return {Kind::kRetry, std::chrono::milliseconds(-1), std::move(error)};
    }
    /// Failed: again in `delay`, at most 7 days.
    static HandlerOutcome Retry(std::chrono::milliseconds delay, std::string error) {
        return {Kind::kRetry, delay, std::move(error)};
    }
    /// Not now, and not the message's fault (somebody else is at it, a store is away, a producer is
    /// full): it costs no attempt. The consumer keeps it for `delay`, renewed and counted in
    /// `prefetch_count`, and then gives it back to the group, so that any member may have it next.
    /// `delay` is at most half of `max_processing_time`; a longer one is cut, a negative one is
    /// none. With `at_most_once` nothing can be given back: the message counts as failed.
    static HandlerOutcome Later(std::chrono::milliseconds delay, std::string reason) {
        return {Kind::kLater, delay, std::move(reason)};
    }
    static HandlerOutcome DeadLetter(std::string error) {
        return {Kind::kDeadLetter, std::chrono::milliseconds(-1), std::move(error)};
    }
};

/// One link of the chain around every handler of a client or subscription: logging, tracing,
/// transactions, access checks. Called on the handler's thread, from many threads at once. What it
/// throws counts as thrown by the handler.
///
/// A filter works on single messages. A subscription whose handler takes batches will ask for
/// filters that say how they take one, and refuse others; it will not call `Handle` for each
/// message of a batch.
class Filter {
public:
    using Next = UniqueFunction<HandlerOutcome()>;

    virtual ~Filter() = default;
    /// Calls `next` once to go on, or not at all and answers in its place. What handlers throw
    /// passes through `next`. A handler that takes a `Delivery` decides it when it likes: of that
    /// `next` says `Ack` once the handler has returned, and `OnSettled` what was decided. `next` is
    /// not called after `Handle` has returned.
    virtual HandlerOutcome Handle(DeliveryContext& context, Next& next) = 0;
    /// How the delivery ended, whoever decided it: the handler by returning or throwing, a filter,
    /// or the application through a `Delivery`, then on the thread where it did so, perhaps while
    /// `Handle` has not returned. Called once for each delivery that reached the filters, of every
    /// filter, also of those to which an outer one did not let it come, the innermost first, before
    /// the broker hears of it; not after shutdown. Of a message that
    /// was given up, or whose lease was lost, it hears what was decided here, which may count no
    /// more. What it throws is logged.
    virtual void OnSettled(DeliveryContext& context, const HandlerOutcome& verdict) {
        (void)context;
        (void)verdict;
    }
};

}  // namespace qmq
