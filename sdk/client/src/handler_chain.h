#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "qmq/subscription.h"

#include "sdk/client/src/runtime.h"

namespace qmq::internal {

/// The application's code around and for one message: filters, the idempotency check, the handler.
/// The one place where what it throws is caught.
class HandlerChain {
public:
    using AnyHandler = std::variant<Handler, ManualHandler, OutcomeHandler>;

    HandlerChain(std::shared_ptr<ClientRuntime> runtime,
                 const std::vector<std::shared_ptr<Filter>>& client_filters,
                 const SubscriptionOptions& options,
                 std::string group,
                 AnyHandler handler);

    bool manual() const { return std::holds_alternative<ManualHandler>(handler_); }
    /// Runs the whole chain. `make_delivery` is called when a manual handler is reached; the
    /// outcome then only counts when no delivery was made or the handler threw (`threw`).
    HandlerOutcome Run(const Message& message,
                       const std::function<Delivery()>* make_delivery,
                       bool* threw) const noexcept;

private:
    HandlerOutcome FromFilter(std::size_t index,
                              const Message& message,
                              const std::function<Delivery()>* make_delivery) const;
    HandlerOutcome Checked(const Message& message,
                           const std::function<Delivery()>* make_delivery) const;
    HandlerOutcome Call(const Message& message,
                        const std::function<Delivery()>* make_delivery) const;
    void LogStatus(const char* what, const std::string& key, const Status& status) const;

    const std::shared_ptr<ClientRuntime> runtime_;
    std::vector<std::shared_ptr<Filter>> filters_;
    const std::string subject_;
    const std::string group_;
    const std::shared_ptr<IdempotencyStore> idempotency_;
    const std::function<std::string(const Message&)> idempotency_key_;
    const std::chrono::milliseconds lease_;
    const AnyHandler handler_;
};

}  // namespace qmq::internal
