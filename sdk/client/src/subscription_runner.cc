// How a subscription's messages reach its handler.

#include <algorithm>
#include <utility>

#include "sdk/client/src/call_scope.h"
#include "sdk/client/src/delivery_core.h"
#include "sdk/client/src/subscription_core.h"

namespace qmq::internal {

namespace {

/// A runner goes to the end of its executor's queue after so long or so many messages, so that
/// subscriptions that share threads share them fairly.
constexpr std::chrono::milliseconds kRunnerTime{2};
constexpr std::uint32_t kRunnerMessages = 1'024;

/// [I] Delayed retries of other clients travel under the original subject to every group, and name
/// the one that they are for.
constexpr std::string_view kConsumerGroupName = "qmq_consumerGroupName";

}  // namespace

Executor& SubscriptionCore::HandlerExecutor() {
    return options_.executor != nullptr ? *options_.executor : runtime_->handlers();
}

void SubscriptionCore::OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) {
    std::size_t messages = 0;
    {
        Lock lock(mutex_);
        for (RunPtr& run : runs) {
            messages += run->range().count();
            if (!closing_) {
                queue_.push_back({std::move(run), 0});
            }
        }
        delivered_count_ += messages;
        if (closing_) {
            lock.unlock();
            for (const StreamPtr& stream : Streams()) {
                stream->ReleaseUnclaimed();
            }
            return;
        }
    }
    StartRunners(messages);
}

void SubscriptionCore::StartRunners(std::size_t messages) {
    std::vector<std::shared_ptr<Runner>> started;
    {
        Lock lock(mutex_);
        if (closing_ || queue_.empty()) {
            return;
        }
        while (runners_.size() < options_.parallelism && started.size() < messages) {
            runners_.push_back(std::make_shared<Runner>());
            started.push_back(runners_.back());
        }
    }
    for (const auto& runner : started) {
        if (!PostRunner(runner)) {
            OnRefused(runner);
        }
    }
}

bool SubscriptionCore::PostRunner(const std::shared_ptr<Runner>& runner) {
    try {
        return HandlerExecutor().Post([self = shared_from_this(), runner] { self->Run(runner); });
    } catch (...) {
        return false;  // Like "full": it is offered again.
    }
}

/// The executor is full: the messages wait, and their runner is offered again after a pause.
void SubscriptionCore::OnRefused(const std::shared_ptr<Runner>& runner) {
    {
        Lock lock(mutex_);
        std::erase(runners_, runner);
        if (!closing_) {
            ++refused_;
            refused_timer_.ArmBy(runtime_->Now() + refused_backoff_.Next(random_), [this] {
                return [self = weak_from_this()] {
                    auto core = self.lock();
                    if (core == nullptr) {
                        return;
                    }
                    std::uint32_t refused = 0;
                    {
                        Lock fired(core->mutex_);
                        core->refused_timer_.OnFired();
                        refused = std::exchange(core->refused_, 0);
                    }
                    core->StartRunners(refused);
                };
            });
        }
    }
    CheckIdle();
}

/// The run a runner goes on with: one that nobody is at, else it helps with the oldest. `done` has
/// no more messages.
SubscriptionCore::RunPtr SubscriptionCore::PickRun(const RunPtr& done) {
    Lock lock(mutex_);
    if (done != nullptr) {
        auto found = std::find_if(queue_.begin(), queue_.end(), [&done](const Queued& queued) {
            return queued.run == done;
        });
        if (found != queue_.end()) {
            queue_.erase(found);
        }
    }
    if (queue_.empty()) {
        return nullptr;
    }
    auto picked = std::find_if(
        queue_.begin(), queue_.end(), [](const Queued& queued) { return queued.runners == 0; });
    if (picked == queue_.end()) {
        picked = queue_.begin();
    }
    ++picked->runners;
    return picked->run;
}

void SubscriptionCore::EndRunner(const std::shared_ptr<Runner>& runner) {
    bool more = false;
    {
        Lock lock(mutex_);
        std::erase(runners_, runner);
        more = !queue_.empty();
        if (closing_) {
            changed_.notify_all();
        }
    }
    if (more) {
        StartRunners(1);  // Something came between the last look and the end.
    }
    CheckIdle();
}

void SubscriptionCore::Run(const std::shared_ptr<Runner>& runner) {
    const TimePoint until = runtime_->Now() + kRunnerTime;
    std::uint32_t budget = kRunnerMessages;
    {
        Lock lock(mutex_);
        refused_backoff_.Reset();
    }
    RunPtr run = PickRun(nullptr);
    while (run != nullptr) {
        if (RunOne(*runner, run, until, &budget)) {
            run = PickRun(run);
            continue;
        }
        {
            Lock lock(mutex_);
            for (Queued& queued : queue_) {
                if (queued.run == run) {
                    --queued.runners;
                }
            }
        }
        if (PostRunner(runner)) {
            return;
        }
        OnRefused(runner);
        return;
    }
    for (const StreamPtr& stream : Streams()) {
        stream->Flush();  // Drained: nobody will come whose acks could travel along.
    }
    runtime_->KickProducers();  // Nor messages that handlers send.
    EndRunner(runner);
}

/// Handles messages of `run` until it has none left (true) or the runner's share is used up.
bool SubscriptionCore::RunOne(Runner& runner,
                              const RunPtr& run,
                              TimePoint until,
                              std::uint32_t* budget) {
    CallScope scope(runtime_.get(), this);
    ConsumerStream& stream = run->stream();
    std::optional<std::uint64_t> acked;
    DeliveryRun::Claim claim;
    std::uint64_t handled = 0;
    bool exhausted = true;
    while (true) {
        const bool more = run->Next(acked, &claim);
        if (acked.has_value()) {
            acked.reset();
            stream.NoteAcked();
        }
        if (!more) {
            break;
        }
        ++handled;
        if (Handle(runner, run, claim)) {
            acked = claim.sequence;
        }
        if (--*budget == 0 || runtime_->Now() >= until) {
            if (acked.has_value()) {
                run->RecordAck(*acked);
                stream.NoteAcked();
            }
            exhausted = false;
            break;
        }
    }
    stream.NoteHandled(handled);
    return exhausted;
}

bool SubscriptionCore::IsForAnotherGroup(const Message& message) const {
    const auto name = message.FindText(kConsumerGroupName);
    return name.has_value() && *name != group_;
}

/// One message through the chain. True when it is acked and its run is to record that.
bool SubscriptionCore::Handle(Runner& runner, const RunPtr& run, DeliveryRun::Claim& claim) {
    if (IsForAnotherGroup(claim.message)) {
        return true;
    }
    if (runtime_->stopped()) {
        return false;
    }
    runner.inside.store(true, std::memory_order_release);
    bool acked = false;
    if (chain_->manual()) {
        HandleManual(run, claim);
    } else {
        bool threw = false;
        const HandlerOutcome outcome = chain_->Run(claim.message, nullptr, &threw);
        acked = outcome.kind == HandlerOutcome::Kind::kAck;
        if (!acked) {
            Fail(run, claim.sequence, outcome);
        }
    }
    // The message may be the last to hold what its handler captured in it: gone before the runner
    // says that nothing of the user's runs.
    claim.message = Message();
    runner.inside.store(false, std::memory_order_release);
    return acked;
}

void SubscriptionCore::HandleManual(const RunPtr& run, DeliveryRun::Claim& claim) {
    auto decision = std::make_shared<Decision>(run, claim.sequence);
    bool made = false;
    const std::function<Delivery()> make_delivery = [&] {
        made = true;
        return DeliveryAccess::Make(decision, claim.message);
    };
    bool threw = false;
    const HandlerOutcome outcome = chain_->Run(claim.message, &make_delivery, &threw);
    if (made && !threw && decision->orphaned()) {
        // It was dropped while an exception passed that the handler then caught itself.
        Fail(run, claim.sequence, HandlerOutcome::Retry("forgotten"), decision.get());
    } else if (threw || !made) {
        // The handler failed, or a filter answered in its place.
        Fail(run, claim.sequence, outcome, decision.get());
    }
}

/// Decides a message that the handler did not simply ack.
void SubscriptionCore::Fail(const RunPtr& run,
                            std::uint64_t sequence,
                            const HandlerOutcome& outcome,
                            Decision* decision) {
    Status problem;
    AckItem item = ItemFor(outcome, sequence, &problem);
    if (!problem.ok()) {
        runtime_->log().Warning("subject " + options_.subject + ", group " + group_ + ": " +
                                std::string(problem.message()));
    }
    if (decision != nullptr) {
        decision->Decide(std::move(item), nullptr);
    } else {
        run->stream().Decide(*run, std::move(item), nullptr);
    }
}

}  // namespace qmq::internal
