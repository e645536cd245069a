#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/producer.h"

#include "sdk/client/src/base/callback_queue.h"
#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/send/budget.h"

namespace qmq {

namespace internal {

/// Told that somebody waits, so that what is gathered need not linger.
class SendWaker {
public:
    virtual ~SendWaker() = default;
    virtual void Wake() = 0;
    /// A coroutine that was kept waiting for its turn goes on: its message counts no more, and so
    /// many bytes.
    virtual void OnResumed(std::size_t bytes) = 0;
    /// Whether answers come on other threads than the calling one.
    virtual bool MayWaitForAnswers() const = 0;
};

}  // namespace internal

/// What the futures of one batch share: the ids, and once it is known the outcome, of every message
/// in it. While the batch is open only the producer writes, under its lock; `Publish` publishes;
/// afterwards it never changes.
struct SendFuture::State {
    struct Outcome {
        SendOutcome outcome = SendOutcome::kUnknown;
        Status status;
        Durability durability = Durability::kDefault;
        std::string broker_group;
        std::uint64_t first_sequence = 0;
        std::uint32_t attempts = 0;
    };
    using Callback = std::pair<std::uint32_t, SendCallback>;

    /// As if new.
    void Reset();
    void AddId(std::string_view id);
    std::string_view Id(std::uint32_t position) const;
    /// Bytes of memory that it takes.
    std::size_t Footprint() const {
        // Beside itself: what the allocator and the shared pointer add.
        constexpr std::size_t kOverhead = 64;
        return sizeof(State) + kOverhead + ids.capacity() +
               id_ends.capacity() * sizeof(std::uint32_t) + each.capacity() * sizeof(Outcome) +
               callbacks.capacity() * sizeof(Callback);
    }

    /// The outcome of all messages at once.
    void CompleteAll(Outcome result);
    /// Of one of them; true when it was the last.
    bool CompleteOne(std::uint32_t position, Outcome result);
    /// Makes the futures ready, wakes those who wait, and sees to it that coroutines are resumed.
    /// Callbacks are left for `RunCallbacks`.
    static void Publish(const std::shared_ptr<State>& state);
    /// On the callback thread. Each callback is destroyed when it has run, and its room given back;
    /// `wake` is called when somebody waits for that. Called again inside one of them it goes on
    /// with the next one.
    void RunCallbacks(internal::Budget::Owed& owed, const std::function<void()>& wake);
    void GiveBack(internal::Budget::Owed& owed, std::size_t bytes);
    /// Under the producer's lock, when the outcome is known and before `Publish`: how many messages
    /// still count, because a callback has not run or a coroutine that waits was not resumed. These
    /// share what `budget` is charged, the coroutines' turns included.
    std::uint64_t KeepOwed(internal::Budget& budget);

    void FillReceipt(std::uint32_t position, SendReceipt* receipt) const;
    void Wake();
    /// Why the calling thread must not wait; ok when it may.
    Status MayWait() const;
    bool WaitUntil(TimePoint when);

    /// A coroutine waits. False: it need not.
    static bool Enter(const std::shared_ptr<State>& state, SendAwaiter& awaiter);
    void Leave(SendAwaiter& awaiter);
    void Unlink(SendAwaiter& awaiter) QMQ_REQUIRES(mutex);
    /// Resumes the coroutine that has waited longest, if there is one: on its executor, or here.
    static void ResumeOne(const std::shared_ptr<State>& state);
    /// One of the coroutines that were to be resumed has had its turn.
    void OnTurn();
    /// As many messages count as coroutines are still to be resumed, and no more.
    void GiveBackKept();

    std::atomic<bool> ready{false};
    std::uint32_t count = 0;
    std::uint32_t id_bytes = 0;  // Of each, while all are equally long, as generated ones are.
    std::string ids;
    std::vector<std::uint32_t> id_ends;  // From when they are not.
    Outcome whole;
    std::vector<Outcome> each;         // Instead of `whole`, when the batch was split.
    std::uint32_t answered_count = 0;  // Of `each`.
    std::vector<Callback> callbacks;
    std::size_t begun_callbacks = 0;
    std::size_t reason_bytes = 0;  // Of texts in outcomes that are its alone.
    std::size_t charged = 0;       // What the budget counts for it.
    std::shared_ptr<internal::CallbackQueue> queue;
    std::weak_ptr<internal::SendWaker> producer;

    internal::Mutex mutex;
    internal::CondVar changed;
    /// Coroutines that wait, in their order.
    SendAwaiter* first_awaiter QMQ_GUARDED_BY(mutex) = nullptr;
    SendAwaiter* last_awaiter QMQ_GUARDED_BY(mutex) = nullptr;
    std::uint32_t awaiter_count QMQ_GUARDED_BY(mutex) = 0;
    std::uint32_t waiting QMQ_GUARDED_BY(mutex) = 0;
    /// Coroutines that are to be resumed, once it is published.
    std::uint32_t turns QMQ_GUARDED_BY(mutex) = 0;
    /// Messages that count until then, and their bytes: fewer, when several coroutines wait for
    /// one, and then they are given back with the last turns.
    std::uint32_t kept QMQ_GUARDED_BY(mutex) = 0;
    std::size_t kept_bytes QMQ_GUARDED_BY(mutex) = 0;
};

struct ProducerAccess {
    using State = SendFuture::State;
    static SendFuture MakeFuture(std::shared_ptr<State> state, std::uint32_t position) {
        SendFuture future;
        future.state_ = std::move(state);
        future.position_ = position;
        return future;
    }
    /// Of a message that was not taken.
    static SendFuture MakeRefused(const Message& message,
                                  Status status,
                                  std::shared_ptr<internal::CallbackQueue> queue);
    static Producer MakeProducer(std::shared_ptr<internal::ProducerCore> core) {
        return Producer(std::move(core));
    }
    static const std::shared_ptr<internal::ProducerCore>& Core(const Producer& producer) {
        return producer.core_;
    }
};

}  // namespace qmq
