#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qmq/handler.h"
#include "qmq/subscription.h"

#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/receive/claim_keeper.h"

namespace qmq::internal {

/// The application's code around and for one message: filters, the idempotency check, the handler.
/// The one place where what it throws is caught, and where failures are logged. Thread-safe: it
/// runs for many messages at once.
class HandlerChain {
public:
    HandlerChain(std::shared_ptr<ClientRuntime> runtime,
                 const std::vector<std::shared_ptr<Filter>>& client_filters,
                 const SubscriptionOptions& options,
                 std::string group,
                 Handler handler);

    bool manual() const { return handler_.form() == Handler::Form::kDelivery; }

    struct Ended {
        HandlerOutcome outcome;
        bool threw = false;
        /// At most once: the client had stopped before the handler, so nobody handles it.
        bool dropped = false;
    };
    /// Runs the whole chain. `make_delivery` is called when a manual handler is reached; the
    /// outcome then only counts when no delivery was made or something was thrown.
    Ended Run(DeliveryContext& context, const std::function<Delivery()>* make_delivery) noexcept;

    bool has_filters() const { return !filters_.empty(); }
    /// Tells the filters how the delivery ended.
    void Settle(DeliveryContext& context, const HandlerOutcome& verdict) const noexcept;

private:
    /// One message on its way through the chain.
    struct Pass {
        DeliveryContext& context;
        const std::function<Delivery()>* make_delivery = nullptr;
        std::optional<IdempotencyClaim> claim = std::nullopt;
        std::optional<ClaimKeeper::Kept> kept = std::nullopt;  // Renews `claim`.
        bool turned_away = false;
    };

    HandlerOutcome FromFilter(std::size_t index, Pass& pass);
    HandlerOutcome Checked(Pass& pass);
    HandlerOutcome Call(Pass& pass);
    static HandlerOutcome TurnAway(Pass& pass);
    void EndClaim(Pass& pass, const HandlerOutcome& outcome);
    void LogFilter(const char* what) const;
    void NoteThrown(const Message& message, const std::string& what);
    void NoteDeadLetter(const Message& message, const HandlerOutcome& outcome);
    void LogStore(const char* what, const std::string& key, const Status& status) const;

    const std::shared_ptr<ClientRuntime> runtime_;
    std::vector<std::shared_ptr<Filter>> filters_;
    const std::string subject_;
    const std::string group_;
    const std::uint32_t max_attempts_;
    const bool at_most_once_;
    const std::shared_ptr<IdempotencyStore> idempotency_;
    const std::function<std::string(const Message&)> idempotency_key_;
    const std::chrono::milliseconds lease_;
    const std::chrono::milliseconds busy_pause_;
    const std::shared_ptr<ClaimKeeper> keeper_;
    std::atomic<std::uint64_t> thrown_count_{0};
    std::atomic<std::uint64_t> store_error_count_{0};
    Handler handler_;  // Called from many threads at once.
};

}  // namespace qmq::internal
