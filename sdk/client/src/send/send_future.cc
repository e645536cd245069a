#include <algorithm>

#include "qmq/check.h"
#include "qmq/deadline.h"

#include "sdk/client/src/base/resumption.h"
#include "sdk/client/src/send/send_state.h"

namespace qmq {

namespace {

/// Bytes that callbacks give back are told of in such pieces, or at once where somebody waits.
constexpr std::size_t kToldAtOnce = 16U << 10;
/// Of memory that a coroutine costs which waits for its turn: its place in the queue.
constexpr std::size_t kTurnBytes = 128;
/// What is owed outlives the batch that it lay beside, and keeps some of the room of that: this
/// part of itself.
constexpr std::size_t kAlonePart = 8;

/// Resumes one coroutine that waits for a batch. When it is dropped, because the client ends before
/// its turn comes, it does so all the same: whoever waits in a coroutine is not left waiting.
template <typename State>
class ResumeTask {
public:
    explicit ResumeTask(std::shared_ptr<State> state) : state_(std::move(state)) {}
    ResumeTask(ResumeTask&&) noexcept = default;
    ResumeTask& operator=(ResumeTask&&) = delete;
    ~ResumeTask() {
        if (state_ != nullptr) {
            try {
                (*this)();
            } catch (...) {
                // The client has ended; nobody is left to tell.
            }
        }
    }
    void operator()() { State::ResumeOne(std::exchange(state_, nullptr)); }

private:
    std::shared_ptr<State> state_;
};

/// A coroutine that waits for its turn on an executor: until it comes its message counts.
template <typename State>
class KeptResumption {
public:
    KeptResumption(std::shared_ptr<State> state, std::shared_ptr<std::atomic<void*>> coroutine)
        : resumption_(std::move(coroutine)), state_(std::move(state)) {}
    KeptResumption(KeptResumption&&) noexcept = default;
    KeptResumption& operator=(KeptResumption&&) = delete;
    ~KeptResumption() { OnTurn(); }  // Dropped; it is resumed all the same.
    void operator()() {
        OnTurn();
        resumption_();
    }

private:
    void OnTurn() {
        if (const auto state = std::exchange(state_, nullptr)) {
            state->OnTurn();
        }
    }

    internal::Resumption resumption_;
    std::shared_ptr<State> state_;
};

}  // namespace

void SendFuture::State::Reset() {
    ready.store(false, std::memory_order_relaxed);
    count = id_bytes = answered_count = 0;
    ids.clear();
    id_ends.clear();
    whole = {};
    each.clear();
    callbacks.clear();
    begun_callbacks = 0;
    reason_bytes = 0;
    charged = 0;
}

void SendFuture::State::AddId(std::string_view id) {
    if (count == 0) {
        id_bytes = static_cast<std::uint32_t>(id.size());
    } else if (id_ends.empty() && id.size() != id_bytes) {
        for (std::uint32_t i = 1; i <= count; ++i) {
            id_ends.push_back(i * id_bytes);
        }
    }
    ids.append(id);
    ++count;
    if (!id_ends.empty()) {
        id_ends.push_back(static_cast<std::uint32_t>(ids.size()));
    }
}

std::string_view SendFuture::State::Id(std::uint32_t position) const {
    if (id_ends.empty()) {
        return std::string_view(ids).substr(std::size_t{position} * id_bytes, id_bytes);
    }
    const std::uint32_t begin = position == 0 ? 0 : id_ends[position - 1];
    return std::string_view(ids).substr(begin, id_ends[position] - begin);
}

void SendFuture::State::CompleteAll(Outcome result) {
    whole = std::move(result);
}

bool SendFuture::State::CompleteOne(std::uint32_t position, Outcome result) {
    each.resize(count);
    each[position] = std::move(result);
    return ++answered_count == count;
}

void SendFuture::State::Publish(const std::shared_ptr<State>& state) {
    std::uint32_t awaiters = 0;
    {
        internal::MutexLock lock(state->mutex);
        state->ready.store(true, std::memory_order_release);
        if (state->waiting > 0) {
            state->changed.NotifyAll();
        }
        awaiters = state->turns = state->awaiter_count;
    }
    state->GiveBackKept();  // Of those who have left since `KeepOwed`.
    // A task each, so that one that stops for long holds up only what comes behind it; and one that
    // is dropped because the client ends resumes its coroutine all the same.
    for (; awaiters > 0; --awaiters) {
        state->queue->PostResumption(ResumeTask<State>(state));
    }
}

std::uint64_t SendFuture::State::KeepOwed(internal::Budget& budget) {
    internal::MutexLock lock(mutex);
    const auto called = static_cast<std::uint32_t>(callbacks.size());
    // A future may be copied, and several coroutines wait for one message.
    kept = std::min(awaiter_count, count - called);
    const std::uint32_t all = called + kept;
    if (all == 0) {
        budget.Charge(&charged, 0);
        return 0;
    }
    const std::size_t bytes = Footprint() + reason_bytes + awaiter_count * kTurnBytes;
    budget.Charge(&charged, bytes + bytes / kAlonePart);
    kept_bytes = called == 0 ? charged : charged / all * kept;
    charged -= kept_bytes;
    return all;
}

void SendFuture::State::OnTurn() {
    if (queue->process().foreign()) {
        return;  // It counts in the other one, whose locks may be held.
    }
    {
        internal::MutexLock lock(mutex);
        --turns;
    }
    GiveBackKept();
}

void SendFuture::State::GiveBackKept() {
    for (;;) {
        std::size_t bytes = 0;
        {
            internal::MutexLock lock(mutex);
            if (kept <= turns) {
                return;
            }
            bytes = kept_bytes / kept--;
            kept_bytes -= bytes;
        }
        if (auto live = producer.lock()) {
            live->OnResumed(bytes);
        }
    }
}

void SendFuture::State::RunCallbacks(internal::Budget::Owed& owed,
                                     const std::function<void()>& wake) {
    const std::size_t left = callbacks.size() - begun_callbacks;
    const std::size_t share = left == 0 ? 0 : charged / left;
    std::size_t untold = 0;
    // One receipt for all, so that a batch of callbacks does not allocate for each of them.
    SendReceipt receipt;
    while (begun_callbacks < callbacks.size()) {
        if (queue->time_is_over()) {
            return;  // What is left is counted as dropped.
        }
        auto& [position, callback] = callbacks[begun_callbacks++];
        FillReceipt(position, &receipt);
        const bool ran = queue->RunUserCode([&callback = callback, &receipt] {
            // What it captured goes with it, also when it throws.
            SendCallback once = std::exchange(callback, nullptr);
            once(receipt);
        });
        if (!ran) {
            return;  // The client has ended: as above.
        }
        owed.Ran();
        untold += share;
        if (owed.awaited() || untold >= kToldAtOnce) {
            GiveBack(owed, std::exchange(untold, 0));
        }
        // Asked behind each return: who has begun to wait before it has not seen it.
        if (owed.awaited()) {
            wake();
        }
    }
    GiveBack(owed, charged);
    if (owed.awaited()) {
        wake();
    }
    callbacks.clear();
    begun_callbacks = 0;
}

/// `bytes`, or what is left: a call inside of a callback has given back the rest.
void SendFuture::State::GiveBack(internal::Budget::Owed& owed, std::size_t bytes) {
    const std::size_t given = std::min(bytes, charged);
    charged -= given;
    owed.GiveBack(given);
}

bool SendFuture::State::Enter(const std::shared_ptr<State>& state, SendAwaiter& awaiter) {
    {
        internal::MutexLock lock(state->mutex);
        if (state->ready.load(std::memory_order_relaxed)) {
            return false;
        }
        awaiter.waits_ = true;
        awaiter.before_ = state->last_awaiter;
        (state->last_awaiter == nullptr ? state->first_awaiter : state->last_awaiter->behind_) =
            &awaiter;
        state->last_awaiter = &awaiter;
        ++state->awaiter_count;
    }
    // From here on another thread may resume the coroutine, which may end: the awaiter is not
    // touched any more.
    state->Wake();
    return true;
}

void SendFuture::State::Unlink(SendAwaiter& awaiter) {
    (awaiter.before_ == nullptr ? first_awaiter : awaiter.before_->behind_) = awaiter.behind_;
    (awaiter.behind_ == nullptr ? last_awaiter : awaiter.behind_->before_) = awaiter.before_;
    awaiter.before_ = awaiter.behind_ = nullptr;
    awaiter.waits_ = false;
    --awaiter_count;
}

void SendFuture::State::Leave(SendAwaiter& awaiter) {
    internal::MutexLock lock(mutex);
    if (awaiter.waits_) {
        Unlink(awaiter);
    }
    if (awaiter.posted_ != nullptr) {
        awaiter.posted_->store(nullptr);
    }
}

void SendFuture::State::ResumeOne(const std::shared_ptr<State>& state) {
    std::coroutine_handle<> handle;
    Executor* executor = nullptr;
    std::shared_ptr<std::atomic<void*>> posted;
    {
        internal::MutexLock lock(state->mutex);
        if (state->first_awaiter != nullptr) {  // Else it was destroyed.
            SendAwaiter& awaiter = *state->first_awaiter;
            state->Unlink(awaiter);
            handle = awaiter.handle_;
            executor = awaiter.executor_;
            if (executor != nullptr) {
                posted = std::make_shared<std::atomic<void*>>(handle.address());
                awaiter.posted_ = posted;
            }
        }
    }
    if (executor != nullptr) {
        // Refused, the task is dropped there, and resumes the coroutine on this thread.
        (void)executor->Post(KeptResumption<State>(state, std::move(posted)));
        return;
    }
    state->OnTurn();
    if (handle) {
        handle.resume();
    }
}

void SendFuture::State::FillReceipt(std::uint32_t position, SendReceipt* receipt) const {
    const Outcome& outcome = each.empty() ? whole : each[position];
    receipt->outcome = outcome.outcome;
    receipt->status = outcome.status;
    receipt->message_id.assign(Id(position));
    receipt->durability = outcome.durability;
    receipt->broker_group.assign(outcome.broker_group);
    receipt->attempts = outcome.attempts;
    receipt->sequence = 0;
    if (outcome.outcome == SendOutcome::kPersisted) {
        receipt->sequence = outcome.first_sequence + (each.empty() ? position : 0);
    }
}

void SendFuture::State::Wake() {
    if (auto live = producer.lock()) {
        live->Wake();
    }
}

Status SendFuture::State::MayWait() const {
    const auto live = producer.lock();
    if (live == nullptr || live->MayWaitForAnswers()) {
        return Status::Ok();
    }
    return Status::FailedPrecondition(
        "waited for on a thread that brings the answers of the same client: it would wait for "
        "itself; use a callback or co_await there");
}

bool SendFuture::State::WaitUntil(TimePoint when) {
    if (ready.load(std::memory_order_acquire)) {
        return true;
    }
    Wake();
    internal::MutexLock lock(mutex);
    ++waiting;
    const bool came =
        changed.WaitUntil(mutex, when, [this] { return ready.load(std::memory_order_relaxed); });
    --waiting;
    return came;
}

bool SendFuture::ready() const {
    return state_ != nullptr && state_->ready.load(std::memory_order_acquire);
}

SendReceipt SendFuture::Get() const {
    return *WaitFor(std::chrono::milliseconds::max());
}

std::optional<SendReceipt> SendFuture::WaitFor(std::chrono::milliseconds time) const {
    QMQ_CHECK(state_ != nullptr, "a SendFuture that came from no send was waited for");
    SendReceipt receipt;
    // Held, since a callback that runs meanwhile may assign or destroy this future.
    const std::shared_ptr<State> state = state_;
    const std::uint32_t position = position_;
    if (!ready()) {
        if (state->queue->process().foreign()) {
            // Nobody answers it in this process; the other one may have its answer.
            receipt.status = state->queue->process().Refusal("the producer");
            return receipt;
        }
        if (Status status = state->MayWait(); !status.ok()) {
            receipt.status = std::move(status);
            return receipt;
        }
    }
    if (!state->WaitUntil(DeadlineAfter(std::chrono::steady_clock::now(), time))) {
        return std::nullopt;
    }
    state->FillReceipt(position, &receipt);
    return receipt;
}

SendAwaiter SendFuture::operator co_await() const {
    return SendAwaiter(*this, nullptr);
}

SendAwaiter SendFuture::On(Executor& executor) const {
    return SendAwaiter(*this, &executor);
}

SendAwaiter::~SendAwaiter() {
    if (future_.state_ != nullptr) {
        future_.state_->Leave(*this);
    }
}

bool SendAwaiter::await_suspend(std::coroutine_handle<> handle) {
    QMQ_CHECK(future_.state_ != nullptr, "co_await on a SendFuture that came from no send");
    if (future_.state_->queue->process().foreign()) {
        return false;  // Nobody would resume it; `Get` says why.
    }
    handle_ = handle;
    // Kept, since the awaiter may be gone before `Enter` returns.
    const std::shared_ptr<SendFuture::State> state = future_.state_;
    return SendFuture::State::Enter(state, *this);
}

SendFuture ProducerAccess::MakeRefused(const Message& message,
                                       Status status,
                                       std::shared_ptr<internal::CallbackQueue> queue) {
    auto state = std::make_shared<State>();
    state->queue = std::move(queue);
    state->AddId(message.id());
    state->CompleteAll({SendOutcome::kRefused, std::move(status), Durability::kDefault, {}, 0, 0});
    State::Publish(state);
    return MakeFuture(std::move(state), 0);
}

}  // namespace qmq
