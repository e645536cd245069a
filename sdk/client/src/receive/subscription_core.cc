#include "sdk/client/src/receive/subscription_core.h"

#include <algorithm>
#include <utility>

#include "qmq/deadline.h"

#include "sdk/client/src/base/call_scope.h"

namespace qmq::internal {

namespace {

/// Where the application leaves the prefetch to us: at least so many messages for each handler, so
/// that one is there when it returns, and at most so many in all.
constexpr std::uint64_t kLeastForAHandler = 2;
constexpr std::uint64_t kMostPrefetched = 1'000;

std::uint64_t LeastPrefetched(const SubscriptionOptions& options) {
    return kLeastForAHandler * options.parallelism;
}

CreditWindow::Limits LimitsOf(const SubscriptionOptions& options) {
    CreditWindow::Limits limits;
    limits.bytes = options.prefetch_bytes;
    if (options.prefetch_count == 0) {
        limits.least_messages = LeastPrefetched(options);
        limits.most_messages = std::max(kMostPrefetched, limits.least_messages);
    } else {
        limits.least_messages = limits.most_messages =
            std::max(options.prefetch_count, options.parallelism);
    }
    return limits;
}

StreamConfig ConfigOf(const SubscriptionOptions& options,
                      const std::string& group,
                      const std::string& client_id) {
    StreamConfig config = MakeStreamConfig(options, group, client_id);
    config.ack_linger = options.ack_linger;
    config.policy = options.at_most_once ? &AtMostOnce() : &AtLeastOnce();
    config.credit = LimitsOf(options);
    return config;
}

DispatcherOptions OptionsOf(const SubscriptionOptions& options,
                            ClientRuntime& runtime,
                            const void* subscription) {
    DispatcherOptions dispatcher;
    dispatcher.executor =
        options.executor != nullptr
            ? std::shared_ptr<Executor>(std::shared_ptr<Executor>(), options.executor)
            : runtime.JoinHandlers(options.parallelism);
    dispatcher.parallelism = options.parallelism;
    dispatcher.patience = options.ack_timeout / 3;
    dispatcher.most_waiting = options.prefetch_count == 0 ? LeastPrefetched(options) : 0;
    dispatcher.subscription = subscription;
    return dispatcher;
}

}  // namespace

SubscriptionCore::SubscriptionCore(std::shared_ptr<ClientRuntime> runtime,
                                   std::shared_ptr<Router> router,
                                   std::shared_ptr<LinkPool> links,
                                   SubscriptionOptions options,
                                   std::string group,
                                   std::unique_ptr<HandlerChain> chain,
                                   UniqueFunction<void(const SubscriptionCore*)> on_gone)
    : runtime_(std::move(runtime)),
      options_(std::move(options)),
      group_(std::move(group)),
      streams_(std::make_shared<StreamSet>(runtime_,
                                           std::move(router),
                                           std::move(links),
                                           ConfigOf(options_, group_, runtime_->client_id()))),
      dispatcher_(std::make_shared<Dispatcher>(
          runtime_,
          OptionsOf(options_, *runtime_, this),
          std::make_shared<MessageHandling>(runtime_,
                                            options_.subject,
                                            group_,
                                            options_.max_processing_time,
                                            std::move(chain),
                                            this),
          streams_)),
      on_gone_(std::move(on_gone)) {}

void SubscriptionCore::Start() {
    dispatcher_->SetOwner(weak_from_this());
    if (options_.start_paused) {
        Pause();
    }
    streams_->Start(weak_from_this());
}

void SubscriptionCore::SetPaused(bool paused) {
    std::uint64_t order = 0;
    {
        MutexLock lock(mutex_);
        order = ++pauses_;
    }
    streams_->SetHold(StreamSet::Hold::kPaused, order, paused);
}

void SubscriptionCore::OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) {
    if (!dispatcher_->Add(std::move(runs))) {
        ReleaseUnclaimed();
    }
}

void SubscriptionCore::ReleaseUnclaimed() {
    const std::uint64_t released = streams_->ReleaseUnclaimed();
    MutexLock lock(mutex_);
    released_ += released;
}

Subscription::Stats SubscriptionCore::stats() const {
    streams_->RetryTimers();  // Whoever looks at one that stands still moves it.
    dispatcher_->RetryTimers();
    const StreamSet::Totals totals = streams_->totals();
    Subscription::Stats stats;
    stats.delivered_count = dispatcher_->delivered_count();
    stats.acked_count = totals.acked;
    stats.failed_count = totals.failed;
    stats.later_count = totals.later;
    stats.waiting_count = dispatcher_->waiting_count();
    stats.running_count = dispatcher_->handler_count();
    stats.undecided_count = totals.undecided;
    stats.connected = totals.connected;
    stats.last_error = ready();
    return stats;
}

Status SubscriptionCore::ready() const {
    {
        MutexLock lock(mutex_);
        if (closing_) {
            return Status::Cancelled("closed");
        }
    }
    return streams_->ready();
}

Status SubscriptionCore::WaitReady(std::chrono::milliseconds timeout) {
    return readiness_.Wait(timeout, [this] { return ready(); })
        .WithContext("subject " + options_.subject + ", group " + group_);
}

void SubscriptionCore::BeginClose(Task closed) {
    bool ended = false;
    {
        MutexLock lock(mutex_);
        ended = closed_;
        if (!ended) {
            if (closed) {
                on_closed_.push_back(std::exchange(closed, nullptr));
            }
            if (std::exchange(closing_, true)) {
                return;
            }
        }
    }
    if (ended) {
        if (closed) {
            closed();
        }
        return;
    }
    readiness_.Changed();
    if (options_.at_most_once) {
        {
            MutexLock lock(mutex_);
            streams_closing_ = true;
        }
        dispatcher_->BeginDrain();
        streams_->Stop();
        CloseStreams();  // They are left when all that came over them has been handled.
        return;
    }
    dispatcher_->Close();
    streams_->Stop();
    ReleaseUnclaimed();
    CheckIdle();
}

void SubscriptionCore::OnRunnerEnded() {
    {
        MutexLock lock(mutex_);
        changed_.NotifyAll();
    }
    CheckIdle();
}

/// When the last runner has ended, what is held is decided: leave the groups. At most once they are
/// left before, and the end is when both is done.
void SubscriptionCore::CheckIdle() {
    bool ends = false;
    {
        MutexLock lock(mutex_);
        if (!closing_ || closed_ || dispatcher_->runner_count() > 0) {
            return;
        }
        ends = streams_left_;
        if (!ends && std::exchange(streams_closing_, true)) {
            return;
        }
    }
    ends ? End() : CloseStreams();
}

void SubscriptionCore::CloseStreams() {
    streams_->BeginClose([self = shared_from_this()] {
        {
            MutexLock lock(self->mutex_);
            self->streams_left_ = true;
        }
        self->CheckIdle();
    });
}

void SubscriptionCore::End() {
    std::vector<Task> closed;
    UniqueFunction<void(const SubscriptionCore*)> gone;
    {
        MutexLock lock(mutex_);
        if (std::exchange(closed_, true)) {
            return;
        }
        closed.swap(on_closed_);
        gone = std::exchange(on_gone_, nullptr);
        changed_.NotifyAll();
    }
    dispatcher_->Close();
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
    const TimePoint deadline = DeadlineAfter(std::chrono::steady_clock::now(), timeout);
    {
        MutexLock lock(mutex_);
        if (changed_.WaitUntil(
                mutex_, deadline, [this]() QMQ_REQUIRES(mutex_) { return closed_; })) {
            return Status::Ok();
        }
    }
    dispatcher_->RequestStop();  // At most once they had the time until now.
    return Status::DeadlineExceeded(
        "subject " + options_.subject + ", group " + group_ + ": closing took over " +
        std::to_string(timeout.count()) + " ms; " + std::to_string(dispatcher_->handler_count()) +
        " handlers still run, " + std::to_string(dispatcher_->waiting_count()) +
        " messages wait, " + std::to_string(streams_->totals().undecided) +
        " deliveries are not decided; it goes on in the background");
}

void SubscriptionCore::OnAcksConfirmed() {
    MutexLock lock(mutex_);
    if (closing_) {
        changed_.NotifyAll();
    }
}

void SubscriptionCore::EnterShutdown() {
    MutexLock lock(mutex_);
    ++in_shutdown_;
    changed_.NotifyAll();
}

void SubscriptionCore::WaitForOthers(std::chrono::steady_clock::time_point until) {
    {
        MutexLock lock(mutex_);
        changed_.WaitUntil(
            mutex_, until, [this]() QMQ_REQUIRES(mutex_) { return OthersAreDone(); });
    }
    streams_->Flush();
    MutexLock lock(mutex_);
    changed_.WaitUntil(mutex_, until, [this]() QMQ_REQUIRES(mutex_) {
        // At most once a receipt brings more to handle.
        return streams_->totals().unconfirmed == 0 && OthersAreDone();
    });
}

/// No handler runs but those that are in a shutdown, and none is to come that has a place.
bool SubscriptionCore::OthersAreDone() const {
    return dispatcher_->runner_count() <= in_shutdown_ &&
           (dispatcher_->waiting_count() == 0 || in_shutdown_ >= options_.parallelism);
}

void SubscriptionCore::StopHandling() {
    BeginClose(nullptr);
    dispatcher_->Close();
    ReleaseUnclaimed();
}

SubscriptionCore::Left SubscriptionCore::Abort(const Status& why) {
    Left left;
    dispatcher_->AwaitClaims();
    left.handlers_running = dispatcher_->handler_count();
    const StreamSet::Left streams = streams_->Abort(why);
    {
        MutexLock lock(mutex_);
        (options_.at_most_once ? left.dropped : left.handed_back) = released_;
    }
    left.dropped += options_.at_most_once ? dispatcher_->turned_away_count() : 0;
    left.acks_unconfirmed = streams.unconfirmed;
    left.undecided = streams.undecided;
    End();
    return left;
}

}  // namespace qmq::internal
