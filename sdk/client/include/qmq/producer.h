#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "qmq/function.h"
#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq {

/// What became of one message.
struct SendReceipt {
    SendOutcome outcome = SendOutcome::kUnknown;
    /// Ok exactly when persisted; else why. kUnknown comes with kDeadlineExceeded or kUnavailable.
    Status status;
    std::string message_id;
    Durability durability = Durability::kDefault;  ///< Reached, when persisted.
    std::string broker_group;
    std::uint64_t sequence = 0;  ///< In its subject and broker group, when persisted.
    std::uint32_t attempts = 0;  ///< Frames it travelled in.
    bool ok() const { return outcome == SendOutcome::kPersisted; }
};

/// Called exactly once for a message that was taken, on the client's callback thread, never from
/// inside the call that took it.
using SendCallback = UniqueFunction<void(const SendReceipt&)>;

enum class WhenFull : std::uint8_t {
    kFail,  ///< The send is refused with kResourceExhausted.
    kBlock  ///< The calling thread waits for room, up to the send's deadline. Not from callbacks or
            ///< handlers.
};

struct ProducerOptions {
    /// At least this durable before a message counts as persisted; the subject's own promise counts
    /// when it is higher.
    Durability durability = Durability::kDefault;
    /// How long a message may wait for company when the connection is busy, or when messages come
    /// in quick succession and nobody waits for their answers. Otherwise an idle connection sends
    /// at once. With as many frames or batches unanswered as may be, messages wait for an answer
    /// however long ago they came. Range: [0, 1 s]; zero never waits.
    std::chrono::microseconds linger{1'000};
    /// Largest batch. Ranges: [1 KiB, 4 MiB], [1, 65,536].
    std::size_t max_batch_bytes = 64 * 1024;
    std::uint32_t max_batch_count = 4'096;
    /// Frames on their way to a broker group that are not answered. Range: [1, 1,024].
    std::uint32_t max_in_flight_frames = 8;
    /// Messages taken and not answered. Ranges: [1, 2^24], [64 KiB, 16 GiB].
    std::size_t max_pending_count = 1U << 20;
    std::size_t max_pending_bytes = 256U << 20;
    WhenFull when_full = WhenFull::kFail;
    /// From `Send` to the receipt, retries included. Range: [1 ms, 1 h].
    std::chrono::milliseconds timeout{30'000};
    /// Between attempts: exponential with full jitter. Ranges: [1 ms, 1 min], [initial, 5 min].
    std::chrono::milliseconds initial_backoff{20};
    std::chrono::milliseconds max_backoff{2'000};
};

/// One send in the future form. Cheap to copy; keeps the outcome of its batch alive. Dropping it
/// loses nothing but the answer.
class [[nodiscard]] SendFuture {
public:
    SendFuture() = default;

    /// Whether the receipt is there.
    bool ready() const;
    /// Waits for the receipt. Not from a callback or handler of the same client (they would wait
    /// for each other).
    SendReceipt Get() const;
    /// The receipt, or nothing when it has not come by then.
    std::optional<SendReceipt> WaitFor(std::chrono::milliseconds time) const;
    /// The fire-and-forget form, said aloud: the message is sent, nobody looks at the outcome.
    void Detach() && {}

    /// `SendReceipt receipt = co_await producer.Send(…)`. Resumes on the client's callback thread.
    auto operator co_await() const;

private:
    friend struct ProducerAccess;
    void OnReady(std::coroutine_handle<> handle) const;
    struct State;
    std::shared_ptr<State> state_;  // Of the whole batch.
    std::uint32_t position_ = 0;

    friend struct SendAwaiter;
};

struct SendAwaiter {
    SendFuture future;
    bool await_ready() const { return future.ready(); }
    void await_suspend(std::coroutine_handle<> handle) const { future.OnReady(handle); }
    SendReceipt await_resume() const { return future.Get(); }
};
inline auto SendFuture::operator co_await() const {
    return SendAwaiter{*this};
}

namespace internal {
class ProducerCore;
}

/// Sends messages, gathered into batches by broker group and subject.
///
/// Order: messages that one thread sends to one subject are stored in that order as long as no
/// attempt fails. Delivery is at least once: a message whose answer was lost is sent again.
///
/// A handle: copies share one producer, and the client's shutdown ends it. Thread-safe.
class Producer {
public:
    Producer() = default;

    /// Takes `message` and returns at once (but see `WhenFull::kBlock`). A message that cannot be
    /// taken has a ready future, or a callback on the callback thread, with kRefused and:
    /// kInvalidArgument (`Message::Validate`, too large, a timeout out of range),
    /// kResourceExhausted (too much pending), kCancelled (shut down), kUnimplemented (a delay of
    /// 500 ms or more: no delay server yet; a shorter one is sent at once).
    ///
    /// Later, at the deadline: kUnknown with kDeadlineExceeded when it was sent and may have been
    /// stored; else kRefused with the last reason: kUnavailable (no route, no connection), or what
    /// the broker refused for. What the broker refuses for good is kRefused at once. After
    /// shutdown: kUnknown, or kRefused with kCancelled.
    SendFuture Send(Message message);
    void Send(Message message, SendCallback callback);
    /// With a deadline of its own instead of `ProducerOptions::timeout`.
    SendFuture Send(Message message, std::chrono::milliseconds timeout);
    void Send(Message message, std::chrono::milliseconds timeout, SendCallback callback);

    /// Sends what has been taken so far without lingering, and waits until all of it is answered.
    /// kDeadlineExceeded with how many are not. Not from a callback or handler of the same client.
    Status Flush(std::chrono::milliseconds timeout);

private:
    friend struct ProducerAccess;
    explicit Producer(std::shared_ptr<internal::ProducerCore> core) : core_(std::move(core)) {}
    std::shared_ptr<internal::ProducerCore> core_;
};

}  // namespace qmq
