// The public handles: thin skins over the cores.

#include <utility>

#include "qmq/check.h"

#include "sdk/client/src/receive/pull_core.h"
#include "sdk/client/src/receive/subscription_core.h"
#include "sdk/client/src/send/producer_core.h"

namespace qmq {

namespace {

using internal::ProducerCore;

template <typename Core>
Core& Checked(const std::shared_ptr<Core>& core, const char* empty) {
    QMQ_CHECK(core != nullptr, empty);
    return *core;
}

/// Held for a call that waits, since a callback that runs meanwhile may move or destroy the handle.
template <typename Core>
std::shared_ptr<Core> Held(const std::shared_ptr<Core>& core, const char* empty) {
    (void)Checked(core, empty);
    return core;
}

constexpr char kNoProducer[] =
    "a Producer is used that is empty: made by its default constructor, or moved from";
constexpr char kNoSubscription[] =
    "a Subscription is used that is empty: made by its default constructor, or moved from";
constexpr char kNoPullConsumer[] =
    "a PullConsumer is used that is empty: made by its default constructor, or moved from";

using How = ProducerCore::How;

/// As `Held`. A send that cannot wait costs nothing more.
std::shared_ptr<ProducerCore> HeldToWait(const std::shared_ptr<ProducerCore>& handle, How how) {
    return how.may_wait ? handle : nullptr;
}

SendFuture SendBy(const std::shared_ptr<ProducerCore>& handle, Message message, How how) {
    auto& core = Checked(handle, kNoProducer);
    if (core.process().foreign()) {
        return ProducerAccess::MakeRefused(
            message, core.process().Refusal("the producer"), nullptr);
    }
    const auto held = HeldToWait(handle, how);
    return core.Send(std::move(message), how);
}

Status SendBy(const std::shared_ptr<ProducerCore>& handle,
              Message& message,
              How how,
              SendCallback callback) {
    auto& core = Checked(handle, kNoProducer);
    const auto held = HeldToWait(handle, how);
    return core.process().foreign() ? core.process().Refusal("the producer")
                                    : core.Send(message, how, std::move(callback));
}

How Usual(const std::shared_ptr<ProducerCore>& handle) {
    return Checked(handle, kNoProducer).Usual();
}

}  // namespace

SendFuture Producer::Send(Message message) {
    return SendBy(core_, std::move(message), Usual(core_));
}

SendFuture Producer::Send(Message message, std::chrono::milliseconds timeout) {
    return SendBy(core_, std::move(message), {timeout, Usual(core_).may_wait});
}

Status Producer::Send(Message&& message, SendCallback callback) {
    return SendBy(core_, message, Usual(core_), std::move(callback));
}

Status Producer::Send(Message&& message, std::chrono::milliseconds timeout, SendCallback callback) {
    return SendBy(core_, message, {timeout, Usual(core_).may_wait}, std::move(callback));
}

SendFuture Producer::TrySend(Message message) {
    return SendBy(core_, std::move(message), {Usual(core_).timeout, false});
}

Status Producer::TrySend(Message&& message, SendCallback callback) {
    return SendBy(core_, message, {Usual(core_).timeout, false}, std::move(callback));
}

Status Producer::Flush(std::chrono::milliseconds timeout) {
    const auto core = Held(core_, kNoProducer);
    return core->process().foreign() ? core->process().Refusal("the producer")
                                     : core->Flush(timeout);
}

Producer::Stats Producer::stats() const {
    auto& core = Checked(core_, kNoProducer);
    return core.process().foreign() ? Stats() : core.stats();
}

void Subscription::Pause() {
    auto& core = Checked(core_, kNoSubscription);
    if (!core.process().foreign()) {
        core.Pause();
    }
}

void Subscription::Resume() {
    auto& core = Checked(core_, kNoSubscription);
    if (!core.process().foreign()) {
        core.Resume();
    }
}

Status Subscription::Close(std::chrono::milliseconds timeout) {
    const auto core = Held(core_, kNoSubscription);
    return core->process().foreign() ? core->process().Refusal("the subscription")
                                     : core->Close(timeout);
}

Status Subscription::WaitReady(std::chrono::milliseconds timeout) {
    const auto core = Held(core_, kNoSubscription);
    return core->process().foreign() ? core->process().Refusal("the subscription")
                                     : core->WaitReady(timeout);
}

Subscription::Stats Subscription::stats() const {
    const auto& core = Checked(core_, kNoSubscription);
    if (core.process().foreign()) {
        Stats stats;
        stats.last_error = core.process().Refusal("the subscription");
        return stats;
    }
    return core.stats();
}

std::vector<std::string> Subscription::warnings() const {
    const auto& core = Checked(core_, kNoSubscription);
    if (core.process().foreign()) {
        return {core.process().Refusal("the subscription").ToString()};
    }
    return core.warnings();
}

Result<std::vector<Delivery>> PullConsumer::Pull(const PullOptions& options) {
    const auto core = Held(core_, kNoPullConsumer);
    if (core->process().foreign()) {
        return core->process().Refusal("the pull consumer");
    }
    return core->Pull(options);
}

Status PullConsumer::PullAsync(const PullOptions& options, Callback callback) {
    auto& core = Checked(core_, kNoPullConsumer);
    if (core.process().foreign()) {
        return core.process().Refusal("the pull consumer");
    }
    if (!callback) {
        return Status::InvalidArgument("PullAsync: the callback is empty");
    }
    return core.PullAsync(options, std::move(callback));
}

Awaitable<Result<std::vector<Delivery>>> PullConsumer::PullAsync(const PullOptions& options) {
    using Pulled = Result<std::vector<Delivery>>;
    return Awaitable<Pulled>::Of(
        [&](auto answer) { return PullAsync(options, std::move(answer)); });
}

Status PullConsumer::WaitReady(std::chrono::milliseconds timeout) {
    const auto core = Held(core_, kNoPullConsumer);
    return core->process().foreign() ? core->process().Refusal("the pull consumer")
                                     : core->WaitReady(timeout);
}

Status PullConsumer::Close(std::chrono::milliseconds timeout) {
    const auto core = Held(core_, kNoPullConsumer);
    return core->process().foreign() ? core->process().Refusal("the pull consumer")
                                     : core->Close(timeout);
}

}  // namespace qmq
