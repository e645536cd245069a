#pragma once

#include <atomic>
#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/producer.h"

#include "sdk/client/src/callback_queue.h"

namespace qmq {

namespace internal {
/// Told that somebody waits, so that what is gathered need not linger.
class SendKicker {
public:
    virtual ~SendKicker() = default;
    virtual void Kick() = 0;
};
}  // namespace internal

/// What the futures of one batch share: the ids, and once it is known the outcome, of every message
/// in it. While the batch is open only the producer writes, under its lock; `Complete` publishes;
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

    /// As if new.
    void Reset();
    void AddId(std::string_view id);
    std::string_view Id(std::uint32_t position) const;

    /// The outcome of all messages at once.
    void CompleteAll(Outcome result);
    /// Of one of them; true when it was the last.
    bool CompleteOne(std::uint32_t position, Outcome result);
    /// Makes the futures ready and wakes those who wait. Callbacks and coroutines are left for
    /// `RunCallbacks`: true when there are any.
    bool Publish();
    /// On the callback thread.
    void RunCallbacks();

    void FillReceipt(std::uint32_t position, SendReceipt* receipt) const;
    void Kick();
    void Wait();
    bool WaitUntil(std::chrono::steady_clock::time_point when);
    void ResumeWhenReady(std::coroutine_handle<> handle);

    std::atomic<bool> ready{false};
    std::uint32_t count = 0;
    std::uint32_t id_bytes = 0;  // Of each, while all are equally long, as generated ones are.
    std::string ids;
    std::vector<std::uint32_t> id_ends;  // From when they are not.
    Outcome whole;
    std::vector<Outcome> each;         // Instead of `whole`, when the batch was split.
    std::uint32_t answered_count = 0;  // Of `each`.
    std::vector<std::pair<std::uint32_t, SendCallback>> callbacks;
    std::shared_ptr<internal::CallbackQueue> queue;
    std::weak_ptr<internal::SendKicker> producer;

    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::coroutine_handle<>> coroutines;  // guarded by mutex
    std::uint32_t waiting = 0;                        // guarded by mutex
};

struct ProducerAccess {
    using State = SendFuture::State;
    static SendFuture MakeFuture(std::shared_ptr<State> state, std::uint32_t position) {
        SendFuture future;
        future.state_ = std::move(state);
        future.position_ = position;
        return future;
    }
    static Producer MakeProducer(std::shared_ptr<internal::ProducerCore> core) {
        return Producer(std::move(core));
    }
};

}  // namespace qmq
