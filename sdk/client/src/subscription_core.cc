#include "sdk/client/src/subscription_core.h"

#include <algorithm>
#include <utility>

#include "sdk/client/src/call_scope.h"

namespace qmq::internal {

SubscriptionCore::SubscriptionCore(std::shared_ptr<ClientRuntime> runtime,
                                   std::shared_ptr<Router> router,
                                   std::shared_ptr<LinkPool> links,
                                   SubscriptionOptions options,
                                   std::string group,
                                   std::unique_ptr<HandlerChain> chain,
                                   UniqueFunction<void(const SubscriptionCore*)> on_gone)
    : runtime_(std::move(runtime)),
      router_(std::move(router)),
      links_(std::move(links)),
      options_(std::move(options)),
      group_(std::move(group)),
      chain_(std::move(chain)),
      on_gone_(std::move(on_gone)),
      refused_backoff_({std::chrono::milliseconds(10), std::chrono::milliseconds(200)}),
      random_(runtime_->MakeRandom()),
      refused_timer_(runtime_->work()),
      paused_(options_.start_paused) {}

RouteKey SubscriptionCore::Key() const {
    return {ClientRole::kConsumer, options_.subject, group_};
}

void SubscriptionCore::Start() {
    router_->Watch(Key(), weak_from_this());
}

StreamConfig SubscriptionCore::MakeConfig(std::size_t stream_count) const {
    StreamConfig config;
    config.request.key = {options_.subject, group_, runtime_->client_id(), ConsumeSource::kBoth};
    config.request.filter = options_.tags;
    config.request.start = options_.start;
    config.request.retry = options_.retry;
    config.request.ack_timeout = options_.ack_timeout;
    config.max_processing_time = options_.max_processing_time;
    config.ack_linger = options_.ack_linger;
    config.at_most_once = options_.at_most_once;
    const std::uint64_t messages = std::max(options_.prefetch_count, options_.parallelism);
    config.credit_messages = std::max<std::uint64_t>(messages / stream_count, 1);
    config.credit_bytes = std::max<std::uint64_t>(options_.prefetch_bytes / stream_count, 1);
    return config;
}

void SubscriptionCore::OnRouteError(const RouteKey& /*key*/, const Status& /*status*/) {
    // The router has said so in the log and goes on asking; the known streams stay.
}

void SubscriptionCore::OnRoute(const RouteKey& /*key*/, const std::vector<BrokerGroup>& groups) {
    std::vector<std::shared_ptr<BrokerLink>> links;
    for (const BrokerGroup& group : groups) {
        links.push_back(group.readable ? links_->Get(group) : nullptr);
    }
    const auto readable = static_cast<std::size_t>(std::count_if(
        links.begin(), links.end(), [](const auto& link) { return link != nullptr; }));
    std::vector<StreamPtr> added;
    std::vector<StreamPtr> kept;
    std::vector<StreamPtr> removed;
    {
        Lock lock(mutex_);
        if (closing_) {
            return;
        }
        std::map<std::string, StreamPtr> before = std::exchange(streams_, {});
        for (std::size_t i = 0; i < groups.size(); ++i) {
            if (links[i] == nullptr) {
                continue;
            }
            auto found = before.find(groups[i].name);
            if (found != before.end()) {
                kept.push_back(found->second);
                streams_.insert(before.extract(found));
                continue;
            }
            auto stream = std::make_shared<ConsumerStream>(
                runtime_, links[i], MakeConfig(readable), weak_from_this());
            stream->SetAccepting(!paused_);
            streams_.emplace(groups[i].name, stream);
            added.push_back(std::move(stream));
        }
        for (auto& [name, stream] : before) {
            leaving_.push_back(stream);
            removed.push_back(std::move(stream));
        }
    }
    const StreamConfig share = MakeConfig(std::max<std::size_t>(readable, 1));
    for (const StreamPtr& stream : kept) {
        stream->SetCreditLimits(share.credit_messages, share.credit_bytes);
    }
    for (const StreamPtr& stream : added) {
        stream->Start();
    }
    for (const StreamPtr& stream : removed) {
        stream->ReleaseUnclaimed();
        stream->BeginClose([self = weak_from_this(), weak = std::weak_ptr(stream)] {
            auto core = self.lock();
            auto gone = weak.lock();
            if (core == nullptr || gone == nullptr) {
                return;
            }
            Lock lock(core->mutex_);
            core->gone_acked_ += gone->acked_count();
            core->gone_failed_ += gone->failed_count();
            std::erase(core->leaving_, gone);
        });
    }
}

std::vector<SubscriptionCore::StreamPtr> SubscriptionCore::Streams() const {
    Lock lock(mutex_);
    std::vector<StreamPtr> all = leaving_;
    for (const auto& [name, stream] : streams_) {
        all.push_back(stream);
    }
    return all;
}

void SubscriptionCore::Pause() {
    {
        Lock lock(mutex_);
        paused_ = true;
    }
    for (const StreamPtr& stream : Streams()) {
        stream->SetAccepting(false);
    }
}

void SubscriptionCore::Resume() {
    {
        Lock lock(mutex_);
        paused_ = false;
    }
    for (const StreamPtr& stream : Streams()) {
        stream->SetAccepting(true);
    }
}

std::uint64_t SubscriptionCore::RunningHandlers() const {
    return static_cast<std::uint64_t>(
        std::count_if(runners_.begin(), runners_.end(), [](const auto& runner) {
            return runner->inside.load(std::memory_order_acquire);
        }));
}

Subscription::Stats SubscriptionCore::stats() const {
    Subscription::Stats stats;
    std::vector<StreamPtr> streams = Streams();
    Lock lock(mutex_);
    stats.delivered_count = delivered_count_;
    stats.acked_count = gone_acked_;
    stats.failed_count = gone_failed_;
    for (const Queued& queued : queue_) {
        stats.waiting_count += queued.run->unclaimed_count();
    }
    stats.running_count = RunningHandlers();
    lock.unlock();
    stats.connected = !streams.empty();
    for (const StreamPtr& stream : streams) {
        stats.acked_count += stream->acked_count();
        stats.failed_count += stream->failed_count();
        stats.connected = stats.connected && stream->live();
    }
    return stats;
}

void SubscriptionCore::BeginClose(Task closed) {
    std::uint64_t handed_back = 0;
    {
        Lock lock(mutex_);
        if (closed_) {
            lock.unlock();
            if (closed) {
                closed();
            }
            return;
        }
        if (closed) {
            on_closed_.push_back(std::move(closed));
        }
        if (std::exchange(closing_, true)) {
            return;
        }
        queue_.clear();
        refused_ = 0;
        refused_timer_.Cancel();
    }
    router_->Unwatch(Key(), this);
    for (const StreamPtr& stream : Streams()) {
        stream->SetAccepting(false);
        handed_back += stream->ReleaseUnclaimed();
    }
    {
        Lock lock(mutex_);
        handed_back_ += handed_back;
    }
    CheckIdle();
}

/// When the last runner has ended, what is held is decided: leave the groups.
void SubscriptionCore::CheckIdle() {
    {
        Lock lock(mutex_);
        if (!closing_ || streams_closing_ || closed_ || !runners_.empty()) {
            return;
        }
        streams_closing_ = true;
    }
    const std::vector<StreamPtr> streams = Streams();
    // One more than the streams, so that it cannot reach zero before all have begun.
    auto left = std::make_shared<std::atomic<std::size_t>>(streams.size() + 1);
    const auto one_less = [self = shared_from_this(), left] {
        if (left->fetch_sub(1) == 1) {
            self->OnStreamClosed();
        }
    };
    for (const StreamPtr& stream : streams) {
        stream->BeginClose(one_less);
    }
    one_less();
}

void SubscriptionCore::OnStreamClosed() {
    std::vector<Task> closed;
    UniqueFunction<void(const SubscriptionCore*)> gone;
    {
        Lock lock(mutex_);
        if (std::exchange(closed_, true)) {
            return;
        }
        closed.swap(on_closed_);
        gone = std::move(on_gone_);
        on_gone_ = nullptr;
        changed_.notify_all();
    }
    for (Task& task : closed) {
        task();
    }
    if (gone) {
        gone(this);
    }
}

Status SubscriptionCore::Close(std::chrono::milliseconds timeout) {
    BeginClose(nullptr);
    if (CallScope::InsideSubscription(this)) {
        return Status::Ok();  // It goes on when the handler that called has returned.
    }
    Lock lock(mutex_);
    if (changed_.wait_for(lock, timeout, [this] { return closed_; })) {
        return Status::Ok();
    }
    return Status::DeadlineExceeded("subject " + options_.subject + ", group " + group_ +
                                    ": closing took over " + std::to_string(timeout.count()) +
                                    " ms; " + std::to_string(RunningHandlers()) +
                                    " handlers still run; it goes on in the background");
}

void SubscriptionCore::OnAcksConfirmed() {
    Lock lock(mutex_);
    if (closing_) {
        changed_.notify_all();
    }
}

void SubscriptionCore::WaitForOthers(std::chrono::steady_clock::time_point until) {
    {
        Lock lock(mutex_);
        changed_.wait_until(lock, until, [this] { return runners_.size() <= 1; });
    }
    const std::vector<StreamPtr> streams = Streams();
    for (const StreamPtr& stream : streams) {
        stream->Flush();
    }
    const auto confirmed = [&streams] {
        return std::all_of(streams.begin(), streams.end(), [](const StreamPtr& stream) {
            return stream->unconfirmed_count() == 0;
        });
    };
    Lock lock(mutex_);
    changed_.wait_until(lock, until, confirmed);
}

SubscriptionCore::Left SubscriptionCore::Abort(const Status& why) {
    Left left;
    BeginClose(nullptr);
    {
        Lock lock(mutex_);
        left.handed_back = handed_back_;
        left.handlers_running = RunningHandlers();
    }
    for (const StreamPtr& stream : Streams()) {
        left.acks_unconfirmed += stream->Abort(why).unconfirmed;
    }
    OnStreamClosed();
    return left;
}

}  // namespace qmq::internal
