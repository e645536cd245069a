#include "sdk/client/src/receive/handler_chain.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "qmq/subject.h"

#include "sdk/client/src/base/thrown_text.h"
#include "sdk/client/src/receive/delivery_core.h"

namespace qmq::internal {

namespace {

/// Before a message is tried again that found its key busy or its store away: as long as the group
/// waits after a first failure, but so that neither brokers nor the message's turn suffer.
constexpr std::chrono::milliseconds kShortestBusyPause{100};

/// What the exception that is being handled asks for.
struct Caught {
    HandlerOutcome outcome;
    bool asked = false;  ///< By `RetryLater`, `Later` or `Reject`: not a surprise.
};

Caught CatchAny() {
    try {
        throw;
    } catch (const RetryLater& retry) {
        return {HandlerOutcome::Retry(retry.delay(), TextOf(retry)), true};
    } catch (const Later& later) {
        return {HandlerOutcome::Later(later.delay(), TextOf(later)), true};
    } catch (const Reject& reject) {
        return {HandlerOutcome::DeadLetter(TextOf(reject)), true};
    } catch (const std::exception& error) {
        return {HandlerOutcome::Retry(TextOf(error)), false};
    } catch (...) {
        return {HandlerOutcome::Retry("the handler threw something that is no std::exception"),
                false};
    }
}

/// Calls a store, and makes a status of what it throws.
template <typename Call>
auto Guarded(Call&& call) -> decltype(call()) {
    try {
        return call();
    } catch (const std::exception& error) {
        return Status::Unavailable(std::string("threw: ") + TextOf(error));
    } catch (...) {
        return Status::Unavailable("threw something that is no std::exception");
    }
}

bool IsPowerOfTwo(std::uint64_t number) {
    return (number & (number - 1)) == 0;
}

}  // namespace

HandlerChain::HandlerChain(std::shared_ptr<ClientRuntime> runtime,
                           const std::vector<std::shared_ptr<Filter>>& client_filters,
                           const SubscriptionOptions& options,
                           std::string group,
                           Handler handler)
    : runtime_(std::move(runtime)),
      filters_(client_filters),
      subject_(options.subject),
      group_(std::move(group)),
      max_attempts_(options.retry.max_attempts),
      at_most_once_(options.at_most_once),
      idempotency_(options.idempotency),
      idempotency_key_(options.idempotency_key),
      lease_(options.ack_timeout),
      busy_pause_(
          std::clamp(options.retry.initial_backoff, kShortestBusyPause, options.ack_timeout)),
      keeper_(idempotency_ == nullptr
                  ? nullptr
                  : std::make_shared<ClaimKeeper>(
                        runtime_, idempotency_, lease_, options.max_processing_time)),
      handler_(std::move(handler)) {
    filters_.insert(filters_.end(), options.filters.begin(), options.filters.end());
}

HandlerChain::Ended HandlerChain::Run(DeliveryContext& context,
                                      const std::function<Delivery()>* make_delivery) noexcept {
    Ended ended;
    Pass pass{context, make_delivery};
    CheckNoLockHeld("a handler");
    try {
        ended.outcome = FromFilter(0, pass);
    } catch (...) {
        Caught caught = CatchAny();
        ended = {std::move(caught.outcome), true};
        if (!caught.asked) {
            NoteThrown(context.message(), ended.outcome.error);
        }
    }
    EndClaim(pass, ended.outcome);
    if (ended.outcome.kind == HandlerOutcome::Kind::kAck) {
        return ended;
    }
    if (at_most_once_) {
        ended.dropped = pass.turned_away;
    } else {
        NoteDeadLetter(context.message(), ended.outcome);
    }
    return ended;
}

HandlerOutcome HandlerChain::TurnAway(Pass& pass) {
    pass.turned_away = true;
    return HandlerOutcome::Later(std::chrono::milliseconds(0), "the client was shut down");
}

HandlerOutcome HandlerChain::FromFilter(std::size_t index, Pass& pass) {
    if (index == filters_.size()) {
        return Checked(pass);
    }
    if (runtime_->stopped()) {
        return TurnAway(pass);
    }
    bool called = false;
    Filter::Next next = [&] {
        if (std::exchange(called, true)) {
            return HandlerOutcome::Retry("a filter called the next one twice");
        }
        return FromFilter(index + 1, pass);
    };
    return filters_[index]->Handle(pass.context, next);
}

HandlerOutcome HandlerChain::Checked(Pass& pass) {
    if (idempotency_ == nullptr) {
        return Call(pass);
    }
    if (runtime_->stopped()) {
        return TurnAway(pass);
    }
    const Message& message = pass.context.message();
    std::string own = idempotency_key_ ? idempotency_key_(message) : std::string();
    if (own.empty()) {
        own = message.id();  // What has no key is not the same as all else that has none.
    }
    // Groups that share a store handle the same message, each once.
    const std::string key = subject_ + "%" + group_ + "%" + own;
    Result<IdempotencyClaim> claim =
        Guarded([&]() -> Result<IdempotencyClaim> { return idempotency_->Start(key, lease_); });
    if (!claim.ok()) {
        const Status& status = claim.status();
        const std::uint64_t count = store_error_count_.fetch_add(1, std::memory_order_relaxed) + 1;
        if (IsPowerOfTwo(count)) {
            LogStore("start", key, status);
        }
        std::string why = "idempotency store: " + status.ToString();
        return status.IsRetryable() ? HandlerOutcome::Later(busy_pause_, std::move(why))
                                    : HandlerOutcome::Retry(std::move(why));
    }
    switch (claim->state) {
        case IdempotencyClaim::State::kDone:
            return HandlerOutcome::Ack();
        case IdempotencyClaim::State::kBusy:
            return HandlerOutcome::Later(busy_pause_, "handled elsewhere at this moment");
        case IdempotencyClaim::State::kStarted:
            break;
    }
    // Whatever else it fills in: what is renewed and finished is this key.
    claim->key = key;
    claim->lease = lease_;
    pass.claim = std::move(*claim);
    pass.kept.emplace(*keeper_, *pass.claim);
    return Call(pass);
}

/// What becomes of the claim. Only here, where the outermost filter has returned, is it known
/// whether the work was done: a filter may have rolled it back.
void HandlerChain::EndClaim(Pass& pass, const HandlerOutcome& outcome) {
    if (!pass.claim.has_value()) {
        return;
    }
    pass.kept.reset();
    const IdempotencyClaim& claim = *pass.claim;
    if (outcome.kind == HandlerOutcome::Kind::kAck) {
        // A record that failed must not make the work be done again.
        LogStore(
            "finish", claim.key, Guarded([&]() -> Status { return idempotency_->Finish(claim); }));
    } else {
        LogStore("abandon", claim.key, Guarded([&]() -> Status {
                     return idempotency_->Abandon(claim);
                 }));
    }
}

HandlerOutcome HandlerChain::Call(Pass& pass) {
    if (runtime_->stopped()) {
        return TurnAway(pass);
    }
    if (auto* call = std::get_if<Handler::MessageCall>(&handler_.call_)) {
        return (*call)(pass.context.message(), pass.context);
    }
    std::get<Handler::DeliveryCall>(handler_.call_)((*pass.make_delivery)());
    return HandlerOutcome::Ack();
}

void HandlerChain::Settle(DeliveryContext& context, const HandlerOutcome& verdict) const noexcept {
    for (auto filter = filters_.rbegin(); filter != filters_.rend(); ++filter) {
        if (runtime_->stopped()) {
            return;
        }
        CheckNoLockHeld("a filter");
        try {
            (*filter)->OnSettled(context, verdict);
        } catch (const std::exception& error) {
            LogFilter(TextOf(error));
        } catch (...) {
            LogFilter("something that is no std::exception");
        }
    }
}

void HandlerChain::LogFilter(const char* what) const {
    runtime_->log().Warning("subject " + subject_ + ", group " + group_ +
                            ": a filter's OnSettled threw: " + what);
}

/// Told for the 1st, 2nd, 4th, 8th … of this subscription: the first ones soon, and a handler that
/// always fails does not flood the log.
void HandlerChain::NoteThrown(const Message& message, const std::string& what) {
    const std::uint64_t count = thrown_count_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (IsPowerOfTwo(count)) {
        runtime_->log().Warning("subject " + subject_ + ", group " + group_ + ", message " +
                                std::string(message.id()) + ", attempt " +
                                std::to_string(message.attempt()) + ": the handler threw: " + what +
                                " (failure " + std::to_string(count) + " of this subscription)");
    }
}

void HandlerChain::NoteDeadLetter(const Message& message, const HandlerOutcome& outcome) {
    if (outcome.kind == HandlerOutcome::Kind::kDeadLetter) {
        runtime_->log().Warning(DeadLetterLine(subject_, group_, message, outcome.error));
    } else if (outcome.kind == HandlerOutcome::Kind::kRetry && message.attempt() >= max_attempts_ &&
               ParseSubject(subject_).kind != SubjectKind::kDeadLetter) {
        runtime_->log().Warning(DeadLetterLine(
            subject_,
            group_,
            message,
            "attempt " + std::to_string(message.attempt()) + " was the last: " + outcome.error));
    }
}

void HandlerChain::LogStore(const char* what, const std::string& key, const Status& status) const {
    if (!status.ok()) {
        runtime_->log().Warning("idempotency store: " + std::string(what) + " of " + key + ": " +
                                status.ToString());
    }
}

}  // namespace qmq::internal
