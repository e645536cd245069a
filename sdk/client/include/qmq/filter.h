#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "qmq/function.h"
#include "qmq/message.h"
#include "qmq/status.h"

namespace qmq {

/// How a delivery ended.
struct HandlerOutcome {
    enum class Kind : std::uint8_t { kAck, kRetry, kDeadLetter };
    Kind kind = Kind::kAck;
    /// kRetry: in this long; negative means by the group's back-off.
    std::chrono::milliseconds delay{-1};
    std::string error;

    static HandlerOutcome Ack() { return {}; }
    static HandlerOutcome Retry(std::string error,
                                std::chrono::milliseconds delay = std::chrono::milliseconds(-1)) {
        return {Kind::kRetry, delay, std::move(error)};
    }
    static HandlerOutcome DeadLetter(std::string error) {
        return {Kind::kDeadLetter, std::chrono::milliseconds(-1), std::move(error)};
    }
};

/// One link of the chain around every handler of a client or subscription: logging, tracing,
/// idempotency, access checks. Called on the handler's thread, from many threads at once. What it
/// throws counts as thrown by the handler.
class Filter {
public:
    virtual ~Filter() = default;
    /// Calls `next` once to go on, or not at all and answers in its place.
    virtual HandlerOutcome Handle(const Message& message,
                                  std::string_view group,
                                  UniqueFunction<HandlerOutcome()>& next) = 0;
};

/// Remembers which messages were handled. Two states with a lease, never "insert first, delete on
/// failure": a process that dies between leaves a record that runs out. Thread-safe; may block (it
/// runs on the handler's thread).
class IdempotencyStore {
public:
    enum class Begin : std::uint8_t {
        kStarted,  ///< Go on, then `Finish`.
        kDone,     ///< Handled before: ack and skip.
        kBusy      ///< Somebody handles it now: retry later.
    };
    virtual ~IdempotencyStore() = default;
    virtual Result<Begin> Start(std::string_view key, std::chrono::milliseconds lease) = 0;
    virtual Status Finish(std::string_view key) = 0;
    /// The handler failed: the next delivery may start.
    virtual Status Abandon(std::string_view key) = 0;
};

/// In memory, for one process: keys are kept for `retention` in time buckets that are dropped
/// whole, `max_keys` at most (beyond it the oldest bucket goes). Ranges: [1 min, 30 d], [1, 2^26].
std::shared_ptr<IdempotencyStore> MakeMemoryIdempotencyStore(
    std::chrono::minutes retention = std::chrono::minutes(24 * 60),
    std::size_t max_keys = 1U << 20);

}  // namespace qmq
