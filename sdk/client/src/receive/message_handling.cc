#include "sdk/client/src/receive/message_handling.h"

#include <functional>
#include <utility>

#include "qmq/deadline.h"

#include "sdk/client/src/base/call_scope.h"
#include "sdk/client/src/receive/consumer_stream.h"

namespace qmq::internal {

namespace {

/// [I] Delayed retries of other clients travel under the original subject to every group, and name
/// the one that they are for.
constexpr std::string_view kConsumerGroupName = "qmq_consumerGroupName";

}  // namespace

bool MessageHandling::IsForAnotherGroup(const Message& message) const {
    const auto name = message.FindText(kConsumerGroupName);
    return name.has_value() && *name != group_;
}

bool MessageHandling::Handle(const RunPtr& run,
                             DeliveryRun::Claim& claim,
                             TimePoint now,
                             std::atomic<RunnerState>& state) {
    if (IsForAnotherGroup(claim.message)) {
        return true;
    }
    if (runtime_->stopped()) {
        turned_away_.fetch_add(1);
        return false;
    }
    const DeliveryContext::Facts facts{group_,
                                       run->stream().broker_group(),
                                       run->StoredSequence(claim.sequence),
                                       DeadlineAfter(now, max_processing_time_),
                                       &stop_token_};
    // In one order with `MarkStopped`: whoever stops the client sees this handler, or the handler
    // sees that it is stopped and does not begin.
    state.store(RunnerState::kInside, std::memory_order_seq_cst);
    bool acked = false;
    if (chain_->manual()) {
        HandleManual(run, claim, facts);
    } else {
        DeliveryContext context(claim.message, facts);
        const HandlerChain::Ended ended = chain_->Run(context, nullptr);
        chain_->Settle(context, ended.outcome);
        acked = ended.outcome.kind == HandlerOutcome::Kind::kAck;
        if (ended.dropped) {
            turned_away_.fetch_add(1);
        } else if (!acked) {
            Fail(run, claim.sequence, ended.outcome);
        }
    }
    // The message may be the last to hold what its handler captured in it: gone before the runner
    // says that nothing of the user's runs.
    claim.message = Message();
    state.store(RunnerState::kFree, std::memory_order_release);
    return acked;
}

namespace {

/// What filters need of a manual delivery until it is decided.
struct KeptContext {
    KeptContext(const Message& of, const DeliveryContext::Facts& facts)
        : message(of), context(message, facts) {}
    const Message message;
    DeliveryContext context;
};

}  // namespace

void MessageHandling::HandleManual(const RunPtr& run,
                                   DeliveryRun::Claim& claim,
                                   const DeliveryContext::Facts& facts) {
    auto decision = std::make_shared<Decision>(run, claim.sequence);
    if (!chain_->has_filters()) {
        DeliveryContext context(claim.message, facts);
        RunManual(run, claim, context, decision);
        return;
    }
    auto kept = std::make_shared<KeptContext>(claim.message, facts);
    // What the facts refer to lives here and in the run, as long as the decision.
    decision->SetOnDecided([self = shared_from_this(), kept](const AckItem& item) mutable {
        const CallScope scope(self->runtime_.get(), self->subscription_);
        self->chain_->Settle(kept->context, OutcomeOf(item));
        kept.reset();  // In the scope: what filters have put in is the application's, too.
    });
    RunManual(run, claim, kept->context, decision);
}

void MessageHandling::RunManual(const RunPtr& run,
                                DeliveryRun::Claim& claim,
                                DeliveryContext& context,
                                const std::shared_ptr<Decision>& decision) {
    bool made = false;
    const std::function<Delivery()> make_delivery = [&] {
        made = true;
        return DeliveryAccess::Make(decision, claim.message);
    };
    HandlerChain::Ended ended;
    {
        const Decision::HandlerCall call(*decision);
        ended = chain_->Run(context, &make_delivery);
    }
    if (ended.dropped) {
        turned_away_.fetch_add(1);
    } else if (made && !ended.threw && decision->orphaned()) {
        // It was dropped while an exception passed that the handler then caught itself.
        Fail(run, claim.sequence, Forgotten(), decision.get());
    } else if (ended.threw || !made) {
        // The handler failed, or a filter answered in its place.
        Fail(run, claim.sequence, ended.outcome, decision.get());
    }
}

/// Decides a message that the handler did not simply ack.
void MessageHandling::Fail(const RunPtr& run,
                           std::uint64_t sequence,
                           const HandlerOutcome& outcome,
                           Decision* decision) {
    Status problem;
    AckItem item = ItemFor(outcome, sequence, &problem);
    if (!problem.ok()) {
        runtime_->log().Warning("subject " + subject_ + ", group " + group_ + ": " +
                                std::string(problem.message()));
    }
    if (decision != nullptr) {
        decision->Decide(std::move(item), nullptr);
    } else {
        run->stream().Decide(*run, std::move(item), nullptr);
    }
}

}  // namespace qmq::internal
