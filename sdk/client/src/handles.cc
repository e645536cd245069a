// The public handles: thin skins over the cores.

#include <utility>

#include "sdk/client/src/producer_core.h"
#include "sdk/client/src/pull_core.h"
#include "sdk/client/src/subscription_core.h"

namespace qmq {

SendFuture Producer::Send(Message message) {
    return core_->Send(std::move(message), core_->options().timeout, nullptr);
}

void Producer::Send(Message message, SendCallback callback) {
    core_->Send(std::move(message), core_->options().timeout, std::move(callback)).Detach();
}

SendFuture Producer::Send(Message message, std::chrono::milliseconds timeout) {
    return core_->Send(std::move(message), timeout, nullptr);
}

void Producer::Send(Message message, std::chrono::milliseconds timeout, SendCallback callback) {
    core_->Send(std::move(message), timeout, std::move(callback)).Detach();
}

Status Producer::Flush(std::chrono::milliseconds timeout) {
    return core_->Flush(timeout);
}

void Subscription::Pause() {
    core_->Pause();
}

void Subscription::Resume() {
    core_->Resume();
}

Status Subscription::Close(std::chrono::milliseconds timeout) {
    return core_->Close(timeout);
}

Subscription::Stats Subscription::stats() const {
    return core_->stats();
}

Result<std::vector<Delivery>> PullConsumer::Pull(const PullOptions& options) {
    return core_->Pull(options);
}

void PullConsumer::PullAsync(const PullOptions& options, Callback callback) {
    core_->PullAsync(options, std::move(callback));
}

Status PullConsumer::Close(std::chrono::milliseconds timeout) {
    return core_->Close(timeout);
}

}  // namespace qmq
