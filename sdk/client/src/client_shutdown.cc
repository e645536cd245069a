// How a client ends.

#include <algorithm>
#include <utility>

#include "sdk/client/src/call_scope.h"
#include "sdk/client/src/client_core.h"

namespace qmq::internal {

namespace {

/// After its deadline a shutdown waits this much longer for threads that are about to end, so that
/// the usual one leaves none behind.
constexpr std::chrono::milliseconds kThreadGrace{1'000};
/// And this much when a handler is known to be stuck.
constexpr std::chrono::milliseconds kStuckGrace{20};
/// And for callbacks that are owed: each is called exactly once, unless one does not return.
constexpr std::chrono::milliseconds kCallbackGrace{200};

}  // namespace

bool ClientCore::BeginShutdown() {
    std::vector<std::shared_ptr<ProducerCore>> producers;
    std::vector<std::shared_ptr<SubscriptionCore>> subscriptions;
    std::vector<std::shared_ptr<PullCore>> pullers;
    {
        Lock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return false;
        }
        stage_ = Stage::kDraining;
        producers = producers_;
        for (const auto& [key, subscription] : subscriptions_) {
            if (subscription != nullptr) {
                subscriptions.push_back(subscription);
            }
        }
        for (const auto& [key, puller] : pullers_) {
            pullers.push_back(puller);
        }
        // One more, so that it cannot reach zero before all have begun.
        draining_ = producers.size() + subscriptions.size() + pullers.size() + 1;
        ending_producers_ = producers;
        ending_subscriptions_ = subscriptions;
        ending_pullers_ = pullers;
    }
    const auto one = [self = weak_from_this()] {
        if (auto core = self.lock()) {
            core->OneDrained();
        }
    };
    // Consumers first: their handlers may want to send until they have ended. Producers end after
    // them would be better still, but a handler may run for hours: its sends are refused.
    for (const auto& subscription : subscriptions) {
        subscription->BeginClose(one);
    }
    for (const auto& puller : pullers) {
        puller->BeginClose(one);
    }
    for (const auto& producer : producers) {
        producer->BeginClose(one);
    }
    OneDrained();
    return true;
}

void ClientCore::OneDrained() {
    UniqueFunction<void()> drained;
    {
        Lock lock(mutex_);
        --draining_;
        changed_.notify_all();
        if (draining_ == 0) {
            drained = std::move(on_drained_);
            on_drained_ = nullptr;
        }
    }
    if (drained) {
        drained();
    }
}

ShutdownReport ClientCore::Shutdown(std::chrono::milliseconds timeout) {
    const auto until = std::chrono::steady_clock::now() + timeout;
    BeginShutdown();
    if (timeout.count() > 0) {
        // Called from a handler: that subscription cannot drain while we are in it. Everything else
        // can, and its other handlers too.
        std::size_t own = 0;
        std::vector<std::shared_ptr<SubscriptionCore>> subscriptions;
        {
            Lock lock(mutex_);
            subscriptions = ending_subscriptions_;
        }
        for (const auto& subscription : subscriptions) {
            if (CallScope::InsideSubscription(subscription.get())) {
                ++own;
                subscription->WaitForOthers(until);
            }
        }
        Lock lock(mutex_);
        changed_.wait_until(lock, until, [this, own] { return draining_ <= own; });
    }
    return Finish(until);
}

void ClientCore::ShutdownAsync(std::chrono::milliseconds timeout,
                               UniqueFunction<void(const ShutdownReport&)> done) {
    auto finish = std::make_shared<UniqueFunction<void(const ShutdownReport&)>>(std::move(done));
    auto called = std::make_shared<std::atomic<bool>>(false);
    // Always from the executor: never inside a call of a transport, or of whoever drained last.
    const auto end = [self = shared_from_this(), finish, called] {
        if (!called->exchange(true)) {
            const ShutdownReport report = self->Finish(std::chrono::steady_clock::now());
            if (*finish) {
                (*finish)(report);
            }
        }
    };
    {
        Lock lock(mutex_);
        if (stage_ == Stage::kRunning) {
            on_drained_ = [runtime = runtime_, end] { runtime->work().Post(end); };
        }
    }
    if (!BeginShutdown()) {
        if (!runtime_->work().Post(end)) {
            end();  // Everything has ended before.
        }
        return;
    }
    if (runtime_->work().PostAt(runtime_->Now() + timeout, end) == 0) {
        end();
    }
}

ShutdownReport ClientCore::Finish(std::chrono::steady_clock::time_point until) {
    {
        Lock lock(mutex_);
        if (stage_ == Stage::kEnding || stage_ == Stage::kEnded) {
            changed_.wait_until(lock, until, [this] { return stage_ == Stage::kEnded; });
            return report_;
        }
        if (stage_ == Stage::kRunning) {
            lock.unlock();
            BeginShutdown();
            lock.lock();
        }
        stage_ = Stage::kEnding;
    }
    const ShutdownReport report = EndEverything(until);
    Lock lock(mutex_);
    stage_ = Stage::kEnded;
    report_ = report;
    changed_.notify_all();
    return report;
}

ShutdownReport ClientCore::EndEverything(std::chrono::steady_clock::time_point until) {
    ShutdownReport report;
    std::vector<std::shared_ptr<ProducerCore>> producers;
    std::vector<std::shared_ptr<SubscriptionCore>> subscriptions;
    std::vector<std::shared_ptr<PullCore>> pullers;
    {
        Lock lock(mutex_);
        producers = std::exchange(ending_producers_, {});
        subscriptions = std::exchange(ending_subscriptions_, {});
        pullers = std::exchange(ending_pullers_, {});
    }
    runtime_->MarkStopped();
    const Status why = Status::Cancelled("the client was shut down");
    for (const auto& subscription : subscriptions) {
        const SubscriptionCore::Left left = subscription->Abort(why);
        report.deliveries_handed_back += left.handed_back;
        report.handlers_running += left.handlers_running;
        report.acks_unconfirmed += left.acks_unconfirmed;
    }
    for (const auto& puller : pullers) {
        report.acks_unconfirmed += puller->Abort(why).acks_unconfirmed;
    }
    for (const auto& producer : producers) {
        const ProducerCore::Left left = producer->Abandon();
        report.sends_unknown += left.unknown;
        report.sends_refused += left.refused;
    }
    router_->Stop();
    links_->Stop();
    report.drained = report.sends_unknown == 0 && report.sends_refused == 0 &&
                     report.deliveries_handed_back == 0 && report.handlers_running == 0 &&
                     report.acks_unconfirmed == 0;
    EndThreads(until, report.handlers_running > 0);
    return report;
}

void ClientCore::EndThreads(std::chrono::steady_clock::time_point until, bool stuck) {
    const auto left = [until](std::chrono::milliseconds grace) {
        return std::max(std::chrono::duration_cast<std::chrono::milliseconds>(
                            until - std::chrono::steady_clock::now()),
                        grace);
    };
    runtime_->callbacks().Finish(left(kCallbackGrace));
    std::shared_ptr<Transport> transport;
    {
        Lock lock(mutex_);
        transport = std::move(transport_);
    }
    // Waits until no thread of the transport is inside a call to us.
    transport.reset();
    runtime_->Stop(stuck ? kStuckGrace : kThreadGrace);
}

}  // namespace qmq::internal
