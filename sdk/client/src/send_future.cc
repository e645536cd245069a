#include <algorithm>

#include "qmq/check.h"

#include "sdk/client/src/send_state.h"

namespace qmq {

void SendFuture::State::Reset() {
    ready.store(false, std::memory_order_relaxed);
    count = id_bytes = answered_count = 0;
    ids.clear();
    id_ends.clear();
    whole = {};
    each.clear();
    callbacks.clear();
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

bool SendFuture::State::Publish() {
    std::lock_guard lock(mutex);
    ready.store(true, std::memory_order_release);
    if (waiting > 0) {
        changed.notify_all();
    }
    return !callbacks.empty() || !coroutines.empty();
}

void SendFuture::State::RunCallbacks() {
    std::vector<std::coroutine_handle<>> resume;
    {
        std::lock_guard lock(mutex);
        resume.swap(coroutines);
    }
    // One receipt for all, so that a batch of callbacks does not allocate for each of them.
    SendReceipt receipt;
    for (auto& [position, callback] : callbacks) {
        FillReceipt(position, &receipt);
        queue->RunUserCode([&callback = callback, &receipt] { callback(receipt); });
    }
    callbacks.clear();
    for (std::coroutine_handle<> handle : resume) {
        queue->RunUserCode([handle] { handle.resume(); });
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

void SendFuture::State::Kick() {
    if (auto live = producer.lock()) {
        live->Kick();
    }
}

void SendFuture::State::Wait() {
    if (ready.load(std::memory_order_acquire)) {
        return;
    }
    Kick();
    std::unique_lock lock(mutex);
    ++waiting;
    changed.wait(lock, [this] { return ready.load(std::memory_order_relaxed); });
    --waiting;
}

bool SendFuture::State::WaitUntil(std::chrono::steady_clock::time_point when) {
    if (ready.load(std::memory_order_acquire)) {
        return true;
    }
    Kick();
    std::unique_lock lock(mutex);
    ++waiting;
    const bool came =
        changed.wait_until(lock, when, [this] { return ready.load(std::memory_order_relaxed); });
    --waiting;
    return came;
}

void SendFuture::State::ResumeWhenReady(std::coroutine_handle<> handle) {
    {
        std::lock_guard lock(mutex);
        if (!ready.load(std::memory_order_relaxed)) {
            coroutines.push_back(handle);
            handle = nullptr;
        }
    }
    if (!handle) {
        Kick();
        return;
    }
    queue->Post([handle] { handle.resume(); });
}

bool SendFuture::ready() const {
    return state_ != nullptr && state_->ready.load(std::memory_order_acquire);
}

SendReceipt SendFuture::Get() const {
    QMQ_CHECK(state_ != nullptr, "SendFuture::Get on a future that came from no send");
    state_->Wait();
    SendReceipt receipt;
    state_->FillReceipt(position_, &receipt);
    return receipt;
}

std::optional<SendReceipt> SendFuture::WaitFor(std::chrono::milliseconds time) const {
    QMQ_CHECK(state_ != nullptr, "SendFuture::WaitFor on a future that came from no send");
    if (!state_->WaitUntil(std::chrono::steady_clock::now() + time)) {
        return std::nullopt;
    }
    return Get();
}

void SendFuture::OnReady(std::coroutine_handle<> handle) const {
    QMQ_CHECK(state_ != nullptr, "co_await on a future that came from no send");
    state_->ResumeWhenReady(handle);
}

}  // namespace qmq
