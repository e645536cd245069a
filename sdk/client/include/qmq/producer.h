#pragma once

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>

#include "qmq/executor.h"
#include "qmq/function.h"
#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

namespace qmq {

class SendAwaiter;

/// What became of one message.
struct SendReceipt {
    SendOutcome outcome = SendOutcome::kUnknown;
    /// Ok exactly when persisted; else why. kUnknown comes with kDeadlineExceeded or kUnavailable;
    /// with kFailedPrecondition where waiting for the receipt was refused.
    Status status{};
    /// The id of the message. Of a message that was not taken: the one that the application gave
    /// it, if any. Empty where waiting for the receipt was refused.
    std::string message_id{};
    Durability durability = Durability::kDefault;  ///< Reached, when persisted.
    std::string broker_group{};
    std::uint64_t sequence = 0;  ///< In its subject and broker group, when persisted.
    std::uint32_t attempts = 0;  ///< Frames it travelled in.
    bool ok() const { return outcome == SendOutcome::kPersisted; }
};
/// "message 7: persisted, fsync, in broker group a at 12, attempts 1".
std::ostream& operator<<(std::ostream& out, const SendReceipt& receipt);

/// Called exactly once for a message that was taken, on the client's callback thread (but see
/// `ClientOptions::inline_callbacks`), never from inside the call that took it.
using SendCallback = UniqueFunction<void(const SendReceipt&)>;

enum class WhenFull : std::uint8_t {
    kFail,  ///< The message is not taken: kResourceExhausted.
    /// The calling thread waits for room, up to the send's deadline. A callback does not wait,
    /// since it would wait for itself: kResourceExhausted. A handler may wait, unless any executor
    /// was given in `ClientOptions::runtime`.
    kBlock
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
    /// Messages that are pending: taken and not answered, or answered and their callback has not
    /// run, or the coroutine that waits for the receipt has not been resumed. The bytes are those
    /// of memory that such messages cost, not those of their bodies alone: encoded, with their ids,
    /// callbacks, share in a batch, and their subjects (about 1 KiB each). One message that is
    /// alone may exceed them. Beside these, subjects that have no such message are kept for the
    /// next one, as far as all of them cost no more than a quarter of the bytes or 1 MiB, whichever
    /// is more, and of more than 1,024 those to which something was sent in the last minutes. Who
    /// sends over more subjects than are kept has the route of each asked for again, so give such a
    /// producer the bytes. Ranges: [1, 2^24], [64 KiB, 16 GiB].
    std::size_t max_pending_count = 1U << 20;
    std::size_t max_pending_bytes = 256U << 20;
    WhenFull when_full = WhenFull::kFail;
    /// From `Send` to the receipt, retries included. Range: [1 ms, 1 h].
    std::chrono::milliseconds timeout{30'000};
    /// Between attempts: exponential with full jitter. Ranges: [1 ms, 1 min], [initial, 5 min].
    std::chrono::milliseconds initial_backoff{20};
    std::chrono::milliseconds max_backoff{2'000};
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const ProducerOptions& options);

/// One send in the future form. Cheap to copy; keeps the outcome of its batch alive. Dropping it
/// loses nothing but the answer.
class [[nodiscard]] SendFuture {
public:
    SendFuture() = default;

    /// Whether the receipt is there.
    bool ready() const;
    /// Waits for the receipt. Callbacks and handlers may wait as well. Where the calling thread is
    /// the one that would bring the answer (a callback with `ClientOptions::inline_callbacks`; any
    /// callback or handler with executors of `ClientOptions::runtime`), and the receipt is not
    /// there yet, it does not wait: the outcome is then kUnknown, with kFailedPrecondition, and
    /// says nothing of the message.
    SendReceipt Get() const;
    /// As `Get`, for at most `time`: then nothing, as the receipt has not come.
    std::optional<SendReceipt> WaitFor(std::chrono::milliseconds time) const;
    /// The fire-and-forget form, said aloud: the message is sent, nobody looks at the outcome.
    void Detach() && {}

    /// `SendReceipt receipt = co_await producer.Send(…)`. When the receipt is there already, the
    /// coroutine goes on; else it is resumed on the client's callback thread, and what it does then
    /// holds up callbacks and other coroutines of the client. It is always resumed: where the
    /// client shuts down before its turn comes, by the thread that does so.
    ///
    /// A coroutine that waits may be destroyed; it is then not resumed. Destroy it on the thread
    /// that would resume it, or while the receipt is certain not to have come.
    SendAwaiter operator co_await() const;
    /// `co_await producer.Send(…).On(executor)`: resumed on `executor`, which outlives the wait;
    /// where that refuses or drops the task, by the thread that does so. As the message counts as
    /// pending until then, what runs on `executor` does not wait for room (`WhenFull::kBlock`): it
    /// may wait for what stands behind it there.
    SendAwaiter On(Executor& executor) const;

private:
    friend struct ProducerAccess;
    friend class SendAwaiter;
    struct State;
    std::shared_ptr<State> state_;  // Of the whole batch.
    std::uint32_t position_ = 0;
};

/// What `co_await` makes of a `SendFuture`. It lives in the coroutine, and its destructor takes the
/// coroutine out of those that are to be resumed.
class [[nodiscard]] SendAwaiter {
public:
    SendAwaiter(SendFuture future, Executor* executor)
        : future_(std::move(future)), executor_(executor) {}
    ~SendAwaiter();
    SendAwaiter(const SendAwaiter&) = delete;
    SendAwaiter& operator=(const SendAwaiter&) = delete;

    bool await_ready() const { return future_.ready(); }
    bool await_suspend(std::coroutine_handle<> handle);
    SendReceipt await_resume() const { return future_.Get(); }

private:
    friend struct SendFuture::State;
    const SendFuture future_;
    Executor* const executor_;
    std::coroutine_handle<> handle_;
    SendAwaiter* before_ = nullptr;  // Of those that wait for the same batch.
    SendAwaiter* behind_ = nullptr;
    bool waits_ = false;
    std::shared_ptr<std::atomic<void*>> posted_;  // What a task on `executor_` will resume.
};

namespace internal {
class ProducerCore;
}

/// Sends messages, gathered into batches by broker group and subject.
///
/// Order: messages without an ordering key that one thread sends to one subject are stored, in each
/// broker group, in that order as long as no attempt fails and its broker groups stay the same and
/// connected. Messages with an ordering key: one producer sends those of one key of a subject to
/// one broker group, in the order of its calls, also after a retry. Only a change of the route of
/// the subject moves a key to another broker group, after what was sent before has been answered.
///
/// A message that fails does not hold up those behind it. Where a broker refuses a batch as a
/// whole, its messages are sent one by one, so that only the bad ones fail; their receipts come
/// when the last of them has its answer.
///
/// Delivery is at least once: a message whose answer was lost is sent again.
///
/// A handle: copies share one producer. The last one lets it go, and what was taken is still sent;
/// the client's shutdown ends it. Thread-safe.
class Producer {
public:
    Producer() = default;

    /// Takes `message` and returns at once (but see `WhenFull::kBlock`). The receipt of a message
    /// that cannot be taken is there at once, with kRefused and:
    /// kInvalidArgument (`Message::Validate`; a timeout out of range; larger than the brokers of
    /// the subject take, which is 4 MiB unless they say otherwise; where these are not known yet,
    /// the message is taken, and refused once they are), kResourceExhausted (too much pending),
    /// kCancelled (shut down), kUnimplemented (a delay of 500 ms or more: no delay server yet; a
    /// shorter one is sent at once).
    ///
    /// Later, at the deadline, or when no further attempt would begin before it: kUnknown with
    /// kDeadlineExceeded when it was sent and may have been stored; else kRefused with the last
    /// reason: kUnavailable (no route, no connection), or what the broker refused for. The messages
    /// of a batch have one deadline, of some of them by up to a hundredth of their time too early.
    /// What the broker refuses for good is kRefused at once, and kUnknown with kUnavailable when an
    /// answer before was lost. After shutdown: kUnknown, or kRefused with kCancelled.
    SendFuture Send(Message message);
    /// With a deadline of its own instead of `ProducerOptions::timeout`. Range: [1 ms, 1 h].
    SendFuture Send(Message message, std::chrono::milliseconds timeout);

    /// Ok: the message is taken, and `callback` comes exactly once, also through a shutdown (unless
    /// another callback does not return; then `ShutdownReport` counts it). Not ok: it is not taken,
    /// with the errors above; `message` is the caller's and as it was, and no callback comes. An
    /// empty callback is none.
    ///
    /// The message counts as pending until the callback has run.
    [[nodiscard]] Status Send(Message&& message, SendCallback callback);
    [[nodiscard]] Status Send(Message&& message,
                              std::chrono::milliseconds timeout,
                              SendCallback callback);

    /// As `Send`, and never waits for room, whatever `WhenFull` says.
    SendFuture TrySend(Message message);
    [[nodiscard]] Status TrySend(Message&& message, SendCallback callback);

    /// Sends what has been taken so far without lingering, and waits until all of it is answered.
    /// kDeadlineExceeded with how many are not. kFailedPrecondition where the calling thread would
    /// wait for itself (as `SendFuture::Get`).
    Status Flush(std::chrono::milliseconds timeout);

    struct Stats {
        /// As `ProducerOptions::max_pending_count` and `max_pending_bytes` count.
        std::uint64_t pending_count = 0;
        std::uint64_t pending_bytes = 0;
        std::uint64_t in_flight_batches = 0;  ///< On their way, not answered.
        std::uint64_t callbacks_owed = 0;     ///< Due and not run.
        std::uint64_t blocked_calls = 0;      ///< Threads that wait for room at this moment.
        std::uint64_t subjects = 0;  ///< Kept with their routes, whether they have messages or not.
        // Messages, since the producer was made.
        std::uint64_t persisted_count = 0;
        std::uint64_t unknown_count = 0;
        std::uint64_t refused_count = 0;  ///< Those that were not taken included.
        /// Attempts after which another one was planned, of the batch or of its messages singly.
        std::uint64_t retried_batches = 0;
    };
    Stats stats() const;

private:
    friend struct ProducerAccess;
    explicit Producer(std::shared_ptr<internal::ProducerCore> core) : core_(std::move(core)) {}
    std::shared_ptr<internal::ProducerCore> core_;
};
/// One line, for logs.
std::ostream& operator<<(std::ostream& out, const Producer::Stats& stats);

}  // namespace qmq
