#include "sdk/client/src/handler_chain.h"

#include <exception>
#include <utility>

namespace qmq::internal {

namespace {

/// The outcome of the exception that is being handled.
HandlerOutcome OutcomeOfException() {
    try {
        throw;
    } catch (const RetryLater& retry) {
        return HandlerOutcome::Retry(retry.what(), retry.delay());
    } catch (const Reject& reject) {
        return HandlerOutcome::DeadLetter(reject.what());
    } catch (const std::exception& error) {
        return HandlerOutcome::Retry(error.what());
    } catch (...) {
        return HandlerOutcome::Retry("the handler threw something that is no std::exception");
    }
}

}  // namespace

HandlerChain::HandlerChain(std::shared_ptr<ClientRuntime> runtime,
                           const std::vector<std::shared_ptr<Filter>>& client_filters,
                           const SubscriptionOptions& options,
                           std::string group,
                           AnyHandler handler)
    : runtime_(std::move(runtime)),
      filters_(client_filters),
      subject_(options.subject),
      group_(std::move(group)),
      idempotency_(options.idempotency),
      idempotency_key_(options.idempotency_key),
      // The broker's lease on a message is renewed for as long as its handler runs, so nobody else
      // is given it meanwhile; the record need not outlive that by more than one lease.
      lease_(options.ack_timeout),
      handler_(std::move(handler)) {
    filters_.insert(filters_.end(), options.filters.begin(), options.filters.end());
}

HandlerOutcome HandlerChain::Run(const Message& message,
                                 const std::function<Delivery()>* make_delivery,
                                 bool* threw) const noexcept {
    *threw = false;
    try {
        return FromFilter(0, message, make_delivery);
    } catch (...) {
        *threw = true;
        return OutcomeOfException();
    }
}

HandlerOutcome HandlerChain::FromFilter(std::size_t index,
                                        const Message& message,
                                        const std::function<Delivery()>* make_delivery) const {
    if (index == filters_.size()) {
        return Checked(message, make_delivery);
    }
    if (runtime_->stopped()) {
        return HandlerOutcome::Retry("the client was shut down");
    }
    bool called = false;
    UniqueFunction<HandlerOutcome()> next = [&] {
        if (std::exchange(called, true)) {
            return HandlerOutcome::Retry("a filter called the next one twice");
        }
        return FromFilter(index + 1, message, make_delivery);
    };
    return filters_[index]->Handle(message, group_, next);
}

HandlerOutcome HandlerChain::Checked(const Message& message,
                                     const std::function<Delivery()>* make_delivery) const {
    if (idempotency_ == nullptr) {
        return Call(message, make_delivery);
    }
    // Groups that share a store handle the same message, each once.
    const std::string key =
        subject_ + "%" + group_ + "%" +
        (idempotency_key_ ? idempotency_key_(message) : std::string(message.id()));
    const Result<IdempotencyStore::Begin> begin = idempotency_->Start(key, lease_);
    if (!begin.ok()) {
        return HandlerOutcome::Retry("idempotency store: " + begin.status().ToString());
    }
    switch (*begin) {
        case IdempotencyStore::Begin::kDone:
            return HandlerOutcome::Ack();
        case IdempotencyStore::Begin::kBusy:
            return HandlerOutcome::Retry("handled elsewhere at this moment");
        case IdempotencyStore::Begin::kStarted:
            break;
    }
    HandlerOutcome outcome;
    try {
        outcome = Call(message, make_delivery);
    } catch (...) {
        LogStatus("abandon", key, idempotency_->Abandon(key));
        throw;
    }
    if (outcome.kind == HandlerOutcome::Kind::kAck) {
        // The work is done: a record that failed must not make it be done again.
        LogStatus("finish", key, idempotency_->Finish(key));
    } else {
        LogStatus("abandon", key, idempotency_->Abandon(key));
    }
    return outcome;
}

HandlerOutcome HandlerChain::Call(const Message& message,
                                  const std::function<Delivery()>* make_delivery) const {
    if (runtime_->stopped()) {
        return HandlerOutcome::Retry("the client was shut down");
    }
    if (const auto* handler = std::get_if<Handler>(&handler_)) {
        (*handler)(message);
        return HandlerOutcome::Ack();
    }
    if (const auto* handler = std::get_if<OutcomeHandler>(&handler_)) {
        return (*handler)(message);
    }
    std::get<ManualHandler>(handler_)((*make_delivery)());
    return HandlerOutcome::Ack();
}

void HandlerChain::LogStatus(const char* what, const std::string& key, const Status& status) const {
    if (!status.ok()) {
        runtime_->log().Warning("idempotency store: " + std::string(what) + " of " + key + ": " +
                                status.ToString());
    }
}

}  // namespace qmq::internal
