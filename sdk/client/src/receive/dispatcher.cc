// How a subscription's messages reach its handler.

#include "sdk/client/src/receive/dispatcher.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "sdk/client/src/base/call_scope.h"
#include "sdk/client/src/receive/consumer_stream.h"

namespace qmq::internal {

namespace {

/// A runner goes to the end of its executor's queue after so long or so many messages.
constexpr std::chrono::milliseconds kRunnerTime{2};
constexpr std::uint32_t kRunnerMessages = 1'024;

}  // namespace

/// A runner on its way through the executor. Refused or dropped, now or later, it is offered again.
class Dispatcher::RunTask {
public:
    RunTask(std::shared_ptr<Dispatcher> dispatcher, RunnerPtr runner)
        : dispatcher_(std::move(dispatcher)), runner_(std::move(runner)) {}
    RunTask(RunTask&&) noexcept = default;
    RunTask& operator=(RunTask&&) = delete;
    ~RunTask() {
        if (dispatcher_ != nullptr) {
            dispatcher_->OnRefused(runner_);
        }
    }
    void operator()() { std::exchange(dispatcher_, nullptr)->Run(runner_); }

private:
    std::shared_ptr<Dispatcher> dispatcher_;
    RunnerPtr runner_;
};

Dispatcher::Dispatcher(std::shared_ptr<ClientRuntime> runtime,
                       DispatcherOptions options,
                       std::shared_ptr<MessageHandling> handling,
                       std::shared_ptr<StreamSet> streams)
    : runtime_(std::move(runtime)),
      options_(std::move(options)),
      handling_(std::move(handling)),
      streams_(std::move(streams)),
      refused_backoff_({std::chrono::milliseconds(10), std::chrono::milliseconds(200)}),
      random_(runtime_->MakeRandom()),
      refused_timer_(runtime_->work()),
      watch_timer_(runtime_->work()) {}

void Dispatcher::SetOwner(std::weak_ptr<DispatcherOwner> owner) {
    MutexLock lock(mutex_);
    owner_ = std::move(owner);
}

/// Of a runner that has ended, for the owner that waits for that; null while none does.
std::shared_ptr<DispatcherOwner> Dispatcher::Waiting() const {
    return draining_ ? owner_.lock() : nullptr;
}

bool Dispatcher::Add(std::vector<RunPtr> runs) {
    std::size_t messages = 0;
    {
        MutexLock lock(mutex_);
        for (const RunPtr& run : runs) {
            messages += run->range().count();
        }
        delivered_count_ += messages;
        if (closed_) {
            return false;
        }
        const TimePoint now = runtime_->Now();
        if (!AnyUnclaimed()) {
            none_waited_at_ = now;
        }
        if (queue_.empty() && runners_.empty() && watch_timer_.refused()) {
            watch_timer_.Cancel();  // What it was to watch is gone.
        }
        for (RunPtr& run : runs) {
            queue_.push_back({std::move(run), 0});
        }
        RearmRefused();
        BeginWatch(now);
    }
    StartRunners(messages);
    return true;
}

void Dispatcher::RetryTimers() {
    MutexLock lock(mutex_);
    RearmRefused();
}

void Dispatcher::RearmRefused() {
    if (refused_timer_.refused()) {
        ArmRefused(refused_timer_.when());
    }
    if (watch_timer_.refused()) {
        ArmWatchAt(watch_timer_.when());
    }
}

void Dispatcher::BeginDrain() {
    MutexLock lock(mutex_);
    draining_ = true;
}

void Dispatcher::RequestStop() {
    const CallScope scope(runtime_.get(), options_.subscription);
    CheckNoLockHeld("what a handler registered for its stop");
    handling_->RequestStop();
}

void Dispatcher::Close() {
    RequestStop();
    MutexLock lock(mutex_);
    draining_ = closed_ = true;
    queue_.clear();
    refused_ = 0;
    refused_timer_.Cancel();
    watch_timer_.Cancel();
}

void Dispatcher::StartRunners(std::size_t messages) {
    std::vector<RunnerPtr> started;
    {
        MutexLock lock(mutex_);
        // When what waited was given back, a runner has to find that it could handle more.
        if (closed_ || (queue_.empty() && !stalled_)) {
            return;
        }
        while (runners_.size() < options_.parallelism && started.size() < messages) {
            runners_.push_back(std::make_shared<Runner>());
            started.push_back(runners_.back());
        }
    }
    for (const RunnerPtr& runner : started) {
        PostRunner(runner);
    }
}

void Dispatcher::PostRunner(const RunnerPtr& runner) {
    CheckNoLockHeld("an executor for handlers");
    try {
        (void)options_.executor->Post(RunTask(shared_from_this(), runner));
    } catch (...) {
        // Like "full": the task is dropped.
    }
}

void Dispatcher::Forget(const RunnerPtr& runner) {
    std::erase(runners_, runner);
    gone_claimed_at_ =
        std::max(gone_claimed_at_, runner->claimed_at.load(std::memory_order_relaxed));
}

/// The executor is full, or has dropped the task: the messages wait, and their runner is offered
/// again after a pause.
void Dispatcher::OnRefused(const RunnerPtr& runner) {
    std::shared_ptr<DispatcherOwner> owner;
    {
        MutexLock lock(mutex_);
        Forget(runner);
        owner = Waiting();
        if (!closed_) {
            ++refused_;
            ArmRefused(runtime_->Now() + refused_backoff_.Next(random_));
        }
    }
    if (owner != nullptr) {
        owner->OnRunnerEnded();
    }
}

void Dispatcher::ArmRefused(TimePoint when) {
    refused_timer_.ArmBy(when, *this, &Dispatcher::OnRefusedTimer);
}

void Dispatcher::OnRefusedTimer(TimerSlot::Shot shot) {
    std::uint32_t refused = 0;
    {
        MutexLock lock(mutex_);
        refused_timer_.OnFired(shot);
        refused = std::exchange(refused_, 0);
    }
    StartRunners(refused);
}

/// The run a runner goes on with: one that nobody is at, else it helps with the oldest. `done` has
/// no more messages.
Dispatcher::RunPtr Dispatcher::PickRun(const RunPtr& done) {
    Stall ended;
    RunPtr run;
    {
        MutexLock lock(mutex_);
        if (stalled_) {
            ended = SetStalled(false);  // A runner is free.
        }
        auto ended_run = std::find_if(queue_.begin(), queue_.end(), [&done](const Queued& queued) {
            return queued.run == done;
        });
        if (ended_run != queue_.end()) {
            queue_.erase(ended_run);
        }
        auto picked = std::find_if(
            queue_.begin(), queue_.end(), [](const Queued& queued) { return queued.runners == 0; });
        if (picked == queue_.end()) {
            picked = queue_.begin();
        }
        if (picked != queue_.end()) {
            ++picked->runners;
            run = picked->run;
        }
    }
    if (ended.order > 0) {
        streams_->SetHold(StreamSet::Hold::kStalled, ended.order, ended.on);
    }
    return run;
}

/// The runner goes away, and the run has more.
void Dispatcher::LeaveRun(const RunPtr& run) {
    MutexLock lock(mutex_);
    for (Queued& queued : queue_) {
        if (queued.run == run) {
            --queued.runners;
        }
    }
}

void Dispatcher::EndRunner(const RunnerPtr& runner) {
    bool more = false;
    std::shared_ptr<DispatcherOwner> owner;
    {
        MutexLock lock(mutex_);
        Forget(runner);
        RearmRefused();
        more = !queue_.empty();
        owner = Waiting();
    }
    if (more) {
        StartRunners(1);  // Something came between the last look and the end.
    }
    if (owner != nullptr) {
        owner->OnRunnerEnded();
    }
}

void Dispatcher::Run(const RunnerPtr& runner) {
    TimePoint now = runtime_->Now();
    const TimePoint until = now + kRunnerTime;
    std::uint32_t budget = kRunnerMessages;
    {
        MutexLock lock(mutex_);
        refused_backoff_.Reset();
    }
    RunPtr run = PickRun(nullptr);
    while (run != nullptr) {
        if (RunOne(*runner, run, until, &now, &budget)) {
            run = PickRun(run);
            continue;
        }
        LeaveRun(run);
        PostRunner(runner);
        return;
    }
    streams_->Flush();          // Drained: nobody will come whose acks could travel along.
    runtime_->WakeProducers();  // Nor messages that handlers send.
    EndRunner(runner);
}

/// Handles messages of `run` until it has none left (true) or the runner's share is used up.
bool Dispatcher::RunOne(
    Runner& runner, const RunPtr& run, TimePoint until, TimePoint* now, std::uint32_t* budget) {
    const CallScope scope(runtime_.get(), options_.subscription, CallScope::Of::kRunner);
    ConsumerStream& stream = run->stream();
    std::optional<std::uint64_t> acked;
    DeliveryRun::Claim claim;
    std::uint64_t handled = 0;
    bool exhausted = true;
    while (true) {
        if (stream.leases_over(*now)) {
            stream.OnLeasesOver(*now);
        }
        // Seen by whoever takes what is unclaimed afterwards, as both hold the run's lock.
        runner.state.store(RunnerState::kClaiming, std::memory_order_relaxed);
        const bool more = run->Next(acked, &claim);
        if (acked.has_value()) {
            acked.reset();
            stream.NoteAcked();
        }
        if (!more) {
            break;
        }
        ++handled;
        runner.claimed_at.store(*now, std::memory_order_relaxed);
        stream.NoteClaimed();
        if (claim.sequence == run->range().last) {
            stream.NoteWaited(*now - run->arrived());
        }
        if (handling_->Handle(run, claim, *now, runner.state)) {
            acked = claim.sequence;
        }
        *now = runtime_->Now();
        if (--*budget == 0 || *now >= until) {
            if (acked.has_value()) {
                run->RecordAck(*acked);
                stream.NoteAcked();
            }
            exhausted = false;
            break;
        }
    }
    runner.state.store(RunnerState::kFree, std::memory_order_release);
    stream.NoteHandled(handled);
    return exhausted;
}

void Dispatcher::AwaitClaims() const {
    std::vector<RunnerPtr> runners;
    {
        MutexLock lock(mutex_);
        runners = runners_;
    }
    for (const RunnerPtr& runner : runners) {
        while (runner->state.load(std::memory_order_acquire) == RunnerState::kClaiming) {
            std::this_thread::yield();
        }
    }
}

std::uint64_t Dispatcher::Inside() const {
    return static_cast<std::uint64_t>(
        std::count_if(runners_.begin(), runners_.end(), [](const RunnerPtr& runner) {
            return runner->state.load(std::memory_order_acquire) == RunnerState::kInside;
        }));
}

std::uint64_t Dispatcher::delivered_count() const {
    MutexLock lock(mutex_);
    return delivered_count_;
}

std::uint64_t Dispatcher::waiting_count() const {
    MutexLock lock(mutex_);
    std::uint64_t waiting = 0;
    for (const Queued& queued : queue_) {
        waiting += queued.run->unclaimed_count();
    }
    return waiting;
}

std::uint64_t Dispatcher::handler_count() const {
    MutexLock lock(mutex_);
    return Inside();
}

std::size_t Dispatcher::runner_count() const {
    MutexLock lock(mutex_);
    return runners_.size();
}

}  // namespace qmq::internal
