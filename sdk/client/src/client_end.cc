#include "sdk/client/src/client_end.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "qmq/deadline.h"

#include "sdk/client/src/base/call_scope.h"
#include "sdk/client/src/link/ready_watcher.h"
#include "sdk/client/src/receive/pull_core.h"
#include "sdk/client/src/receive/subscription_core.h"
#include "sdk/client/src/send/producer_core.h"

namespace qmq::internal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Callbacks that are owed at the deadline, and then lines of the log, get this much longer.
constexpr milliseconds kCallbackGrace{200};
/// And threads that are about to end this much, so that the usual shutdown leaves none behind.
constexpr milliseconds kThreadGrace{1'000};
/// And this much when code of the application's is known to be stuck in one.
constexpr milliseconds kStuckGrace{20};

/// What producers need to flush and to hear the answers, when handlers use up the time: a fifth of
/// it, at least 100 ms, but not more than half.
milliseconds ProducersShare(milliseconds timeout) {
    constexpr milliseconds kLeast{100};
    return std::max(std::min(std::max(timeout / 5, kLeast), timeout / 2), milliseconds(0));
}

TimePoint ProducersBy(TimePoint now, milliseconds timeout) {
    // For ever less something is still for ever.
    return DeadlineAfter(now, timeout) == TimePoint::max()
               ? TimePoint::max()
               : DeadlineAfter(now, timeout - ProducersShare(timeout));
}

TimePoint NoSoonerThan(milliseconds grace, TimePoint until) {
    return std::max(until, steady_clock::now() + grace);
}

bool IsEmpty(const ShutdownReport& report) {
    return report.sends_unknown == 0 && report.sends_refused == 0 &&
           report.deliveries_handed_back == 0 && report.deliveries_dropped == 0 &&
           report.handlers_running == 0 && report.acks_unconfirmed == 0 &&
           report.deliveries_undecided == 0 && report.callbacks_dropped == 0;
}

}  // namespace

/// A call of `RunAsync`: answered once, by whoever takes `done`.
struct ClientEnd::AsyncCall {
    UniqueFunction<void(const ShutdownReport&)> done;
    TimerId close_producers = 0;
    TimerId end = 0;
};

/// Marks that this thread ends a client: what it calls of the application's may ask for the same.
class ClientEnd::Inside {
public:
    explicit Inside(const ClientEnd& end) : end_(end), outer_(t_innermost) { t_innermost = this; }
    ~Inside() { t_innermost = outer_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

    static bool Of(const ClientEnd& end) {
        const Inside* at = t_innermost;
        while (at != nullptr && &at->end_ != &end) {
            at = at->outer_;
        }
        return at != nullptr;
    }

private:
    static thread_local const Inside* t_innermost;

    const ClientEnd& end_;
    const Inside* const outer_;
};
thread_local const ClientEnd::Inside* ClientEnd::Inside::t_innermost = nullptr;

ClientEnd::ClientEnd(std::shared_ptr<ClientRuntime> runtime,
                     std::shared_ptr<Roster> roster,
                     std::shared_ptr<Router> router,
                     std::shared_ptr<LinkPool> links,
                     std::shared_ptr<Transport> transport)
    : runtime_(std::move(runtime)),
      roster_(std::move(roster)),
      router_(std::move(router)),
      links_(std::move(links)),
      transport_(std::move(transport)) {}

void ClientEnd::Begin() {
    Roster::Members members = roster_->Close();
    {
        MutexLock lock(mutex_);
        if (stage_ != Stage::kRunning) {
            return;
        }
        stage_ = Stage::kConsumers;
        members_ = members;
        for (const auto& subscription : members.subscriptions) {
            consumers_left_.insert(subscription.get());
        }
        for (const auto& puller : members.pullers) {
            consumers_left_.insert(puller.get());
        }
        consumers_left_.insert(this);  // So that none is left only once all have begun.
    }
    const auto drained = [this](const void* consumer) {
        return [self = weak_from_this(), consumer] {
            if (auto end = self.lock()) {
                end->ConsumerDrained(consumer);
            }
        };
    };
    for (const auto& waiting : members.waiting) {
        waiting->Cancel();
    }
    for (const auto& subscription : members.subscriptions) {
        subscription->BeginClose(drained(subscription.get()));
    }
    for (const auto& puller : members.pullers) {
        puller->BeginClose(drained(puller.get()));
    }
    ConsumerDrained(this);
}

void ClientEnd::CloseProducers() {
    std::vector<std::shared_ptr<ProducerCore>> producers;
    {
        MutexLock lock(mutex_);
        if (stage_ != Stage::kConsumers) {
            return;
        }
        stage_ = Stage::kProducers;
        producers = members_.producers;
        producers_left_ = producers.size() + 1;
    }
    for (const auto& producer : producers) {
        producer->BeginClose([self = weak_from_this()] {
            if (auto end = self.lock()) {
                end->ProducerDrained();
            }
        });
    }
    ProducerDrained();
}

void ClientEnd::ConsumerDrained(const void* consumer) {
    {
        MutexLock lock(mutex_);
        consumers_left_.erase(consumer);
        changed_.NotifyAll();
    }
    Settle();
}

void ClientEnd::ProducerDrained() {
    {
        MutexLock lock(mutex_);
        --producers_left_;
        changed_.NotifyAll();
    }
    Settle();
}

bool ClientEnd::ConsumersDrained() const {
    return std::includes(
        inside_.begin(), inside_.end(), consumers_left_.begin(), consumers_left_.end());
}

bool ClientEnd::Drained() const {
    return stage_ == Stage::kProducers && producers_left_ == 0 && ConsumersDrained();
}

void ClientEnd::Settle() {
    bool close_producers = false;
    bool end = false;
    {
        MutexLock lock(mutex_);
        close_producers = stage_ == Stage::kConsumers && consumers_left_.empty();
        end = !calls_.empty() && (Drained() || stage_ == Stage::kEnded);
    }
    if (close_producers) {
        CloseProducers();
        return;
    }
    // Always from the executor: never inside a call of a transport, or of whoever drained last.
    if (end && !runtime_->work().Post([self = shared_from_this()] { self->EndAsync(); })) {
        EndAsync();  // Everything has ended before.
    }
}

void ClientEnd::WaitForDrain(TimePoint producers_by, TimePoint until) {
    // Called from a handler: that subscription cannot drain while we are in it. Everything else
    // can, and its other handlers too, but for those that are in here as well.
    std::vector<std::shared_ptr<SubscriptionCore>> own;
    {
        MutexLock lock(mutex_);
        for (const auto& subscription : members_.subscriptions) {
            if (CallScope::InsideSubscription(subscription.get())) {
                own.push_back(subscription);
            }
        }
    }
    for (const auto& subscription : own) {
        if (CallScope::InsideRunnerOf(subscription.get())) {
            subscription->EnterShutdown();
        }
        subscription->WaitForOthers(producers_by);
    }
    {
        MutexLock lock(mutex_);
        for (const auto& subscription : own) {
            inside_.insert(subscription.get());
        }
        changed_.NotifyAll();
        (void)changed_.WaitUntil(mutex_, producers_by, [this]() QMQ_REQUIRES(mutex_) {
            return stage_ > Stage::kConsumers || ConsumersDrained();
        });
    }
    CloseProducers();
    for (const auto& subscription : own) {
        subscription->WaitForOthers(until);
    }
    MutexLock lock(mutex_);
    (void)changed_.WaitUntil(mutex_, until, [this]() QMQ_REQUIRES(mutex_) {
        return Drained() || stage_ > Stage::kProducers;
    });
}

ShutdownReport ClientEnd::Run(milliseconds timeout) {
    const TimePoint now = steady_clock::now();
    const TimePoint until = DeadlineAfter(now, timeout);
    if (Inside::Of(*this)) {
        // By a destructor of what the application captured, or what a handler registered for its
        // stop.
        MutexLock lock(mutex_);
        ShutdownReport report = report_;
        report.drained = report.drained && stage_ == Stage::kEnded;
        return report;
    }
    const Inside inside(*this);
    Begin();
    if (until > now) {
        WaitForDrain(ProducersBy(now, timeout), until);
    }
    CloseProducers();  // Without any time they send once what has gathered.
    return TakeEnd() ? EndAll(until) : AwaitOther(until);
}

void ClientEnd::RunAsync(milliseconds timeout, UniqueFunction<void(const ShutdownReport&)> done) {
    // Before the timers: one that is due at once would else end a client whose members nobody has
    // written down yet.
    {
        const Inside inside(*this);
        Begin();
    }
    auto call = std::make_shared<AsyncCall>();
    call->done = std::move(done);
    Executor& work = runtime_->work();
    const TimePoint now = runtime_->Now();
    call->close_producers = work.PostAt(ProducersBy(now, timeout), [self = weak_from_this()] {
        if (auto end = self.lock()) {
            end->CloseProducers();
        }
    });
    // Holds this: `done` comes also when nobody else has the client any more.
    call->end = work.PostAt(DeadlineAfter(now, timeout), [self = shared_from_this()] {
        self->EndAsync();
        self->Hurry(steady_clock::now());
    });
    const bool refused = call->end == 0;
    {
        MutexLock lock(mutex_);
        calls_.push_back(std::move(call));
    }
    if (refused) {
        EndAsync();
    }
    Settle();
}

bool ClientEnd::TakeEnd() {
    MutexLock lock(mutex_);
    if (stage_ >= Stage::kEnding) {
        return false;
    }
    stage_ = Stage::kEnding;
    changed_.NotifyAll();
    return true;
}

/// For an executor's thread, which waits for nobody: who ends it now answers all calls.
void ClientEnd::EndAsync() {
    CloseProducers();
    if (TakeEnd()) {
        (void)EndAll(steady_clock::now());
        return;
    }
    ShutdownReport report;
    {
        MutexLock lock(mutex_);
        if (stage_ != Stage::kEnded) {
            return;
        }
        report = report_;
    }
    AnswerCalls(report);
}

void ClientEnd::Hurry(TimePoint until) {
    {
        MutexLock lock(mutex_);
        if (stage_ == Stage::kEnded) {
            return;
        }
        end_by_ = std::min(end_by_, until);
        changed_.NotifyAll();
        if (stage_ < Stage::kReported) {
            return;  // The small times begin when the members have ended.
        }
    }
    runtime_->callbacks().Hurry(NoSoonerThan(kCallbackGrace, until));
}

ShutdownReport ClientEnd::EndAll(TimePoint until) {
    const Inside inside(*this);
    Hurry(until);
    ShutdownReport report = EndMembers();
    {
        MutexLock lock(mutex_);
        report_ = report;
        stage_ = Stage::kReported;
        changed_.NotifyAll();
    }
    EndThreads(&report);
    {
        MutexLock lock(mutex_);
        report_ = report;
        stage_ = Stage::kEnded;
        changed_.NotifyAll();
    }
    AnswerCalls(report);
    return report;
}

void ClientEnd::AnswerCalls(const ShutdownReport& report) {
    std::vector<std::shared_ptr<AsyncCall>> calls;
    {
        MutexLock lock(mutex_);
        calls.swap(calls_);
    }
    CheckNoLockHeld("the answer to ShutdownAsync");
    for (const auto& call : calls) {
        (void)runtime_->work().Cancel(call->close_producers);
        (void)runtime_->work().Cancel(call->end);
        try {
            if (call->done) {
                call->done(report);
            }
        } catch (...) {
            // The log has ended as well; the other calls are answered all the same.
        }
    }
}

/// For whoever comes second. Nothing is called any more when it returns, unless it is itself inside
/// of what the first one waits for.
ShutdownReport ClientEnd::AwaitOther(TimePoint until) {
    Hurry(until);
    const bool inside =
        CallScope::InsideClient(runtime_.get()) || CallScope::InsideCallbackOf(&runtime_->log());
    const Stage wanted = inside ? Stage::kReported : Stage::kEnded;
    const TimePoint deadline =
        NoSoonerThan(inside ? kCallbackGrace : 2 * kCallbackGrace + kThreadGrace, until);
    MutexLock lock(mutex_);
    (void)changed_.WaitUntil(
        mutex_, deadline, [this, wanted]() QMQ_REQUIRES(mutex_) { return stage_ >= wanted; });
    ShutdownReport report = report_;
    // Callbacks are counted last: whoever is inside of one cannot wait for that.
    report.drained =
        report.drained && (stage_ == Stage::kEnded ||
                           (stage_ == Stage::kReported && runtime_->callbacks().owed() == 0));
    return report;
}

ShutdownReport ClientEnd::EndMembers() {
    Roster::Members members;
    {
        MutexLock lock(mutex_);
        members = std::exchange(members_, {});
    }
    ShutdownReport report;
    for (const auto& subscription : members.subscriptions) {
        subscription->StopHandling();
    }
    runtime_->MarkStopped();
    const Status why = Status::Cancelled("the client was shut down");
    for (const auto& subscription : members.subscriptions) {
        const SubscriptionCore::Left left = subscription->Abort(why);
        report.deliveries_handed_back += left.handed_back;
        report.deliveries_dropped += left.dropped;
        report.handlers_running += left.handlers_running;
        report.acks_unconfirmed += left.acks_unconfirmed;
        report.deliveries_undecided += left.undecided;
    }
    for (const auto& puller : members.pullers) {
        const PullCore::Left left = puller->Abort(why);
        report.deliveries_handed_back += left.handed_back;
        report.acks_unconfirmed += left.acks_unconfirmed;
        report.deliveries_undecided += left.undecided;
    }
    for (const auto& producer : members.producers) {
        const ProducerCore::Left left = producer->Abandon();
        report.sends_unknown += left.unknown;
        report.sends_refused += left.refused;
    }
    router_->Stop();
    links_->Stop();
    report.drained = IsEmpty(report);
    return report;
}

void ClientEnd::EndThreads(ShutdownReport* report) {
    TimePoint end_by;
    {
        MutexLock lock(mutex_);
        end_by = end_by_;
    }
    const CallbackQueue::End callbacks =
        runtime_->callbacks().Finish(NoSoonerThan(kCallbackGrace, end_by));
    report->callbacks_dropped = callbacks.dropped;
    report->drained = IsEmpty(*report);
    // A callback that does not return may be on a thread of the transport's.
    const bool may_hang = callbacks.stuck && runtime_->inline_callbacks();
    bool stuck = report->handlers_running > 0 || callbacks.stuck;
    stuck = !EndTransport(may_hang) || stuck;
    stuck = !runtime_->log().Finish(steady_clock::now() + (stuck ? kStuckGrace : kCallbackGrace)) ||
            stuck;
    runtime_->Stop(steady_clock::now() + (stuck ? kStuckGrace : kThreadGrace));
    // Answers that were on their way, and what the destructors of dropped callbacks made due.
    report->callbacks_dropped += runtime_->callbacks().late();
    report->drained = report->drained && IsEmpty(*report);
}

bool ClientEnd::EndTransport(bool may_hang) {
    std::shared_ptr<Transport> transport;
    {
        MutexLock lock(mutex_);
        transport = std::move(transport_);
    }
    // Its destructor waits until none of its threads is inside a call to us, and such a thread may
    // be inside a callback of the application's. So it ends on a thread that may be left behind.
    // Not so inside a callback: there is no other one then, this thread may be the transport's, and
    // it knows its own.
    if (!runtime_->has_own_threads() || CallScope::InsideCallbackOf(runtime_.get())) {
        transport.reset();
        return true;
    }
    const TimePoint now = steady_clock::now();
    try {
        // What is left behind keeps nothing of the client but its threads.
        std::thread([self = weak_from_this(),
                     runtime = runtime_,
                     transport = std::move(transport)]() mutable {
            transport.reset();
            if (const auto end = self.lock()) {
                MutexLock lock(end->mutex_);
                end->transport_ended_ = true;
                end->changed_.NotifyAll();
            }
        }).detach();
    } catch (const std::system_error&) {
        return true;  // The system gives no thread, so it has ended on this one.
    }
    MutexLock lock(mutex_);
    return changed_.WaitUntil(
        mutex_,
        [&]() QMQ_REQUIRES(mutex_) {
            return may_hang ? now + kStuckGrace : std::max(now + kThreadGrace, end_by_);
        },
        [this]() QMQ_REQUIRES(mutex_) { return transport_ended_; });
}

}  // namespace qmq::internal
