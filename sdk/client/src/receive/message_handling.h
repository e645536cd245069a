#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "qmq/delivery_context.h"
#include "qmq/message.h"

#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/receive/delivery_core.h"
#include "sdk/client/src/receive/delivery_run.h"
#include "sdk/client/src/receive/handler_chain.h"

namespace qmq::internal {

/// What a runner does that takes messages to handlers.
enum class RunnerState : std::uint8_t {
    kFree,
    kClaiming,  ///< It may have taken a message that no handler has begun. No user code runs.
    kInside     ///< User code runs.
};

/// What one subscription does with one claimed message: takes it through the handler chain, and
/// decides it as that says. Thread-safe.
class MessageHandling : public std::enable_shared_from_this<MessageHandling> {
public:
    using RunPtr = std::shared_ptr<DeliveryRun>;

    MessageHandling(std::shared_ptr<ClientRuntime> runtime,
                    std::string subject,
                    std::string group,
                    std::chrono::milliseconds max_processing_time,
                    std::unique_ptr<HandlerChain> chain,
                    const void* subscription)
        : runtime_(std::move(runtime)),
          subject_(std::move(subject)),
          group_(std::move(group)),
          max_processing_time_(max_processing_time),
          chain_(std::move(chain)),
          subscription_(subscription) {}

    /// True when the message is acked and its run is to record that; else it is decided, or the
    /// client has stopped. `now` is when it was claimed; `state` is kInside while code of the
    /// application's runs.
    bool Handle(const RunPtr& run,
                DeliveryRun::Claim& claim,
                TimePoint now,
                std::atomic<RunnerState>& state);
    /// Asks handlers that run to end soon. Calls what they have registered for that.
    void RequestStop() { stop_.request_stop(); }

    std::uint64_t turned_away_count() const { return turned_away_.load(); }

    const std::string& subject() const { return subject_; }
    const std::string& group() const { return group_; }

private:
    void HandleManual(const RunPtr& run,
                      DeliveryRun::Claim& claim,
                      const DeliveryContext::Facts& facts);
    void RunManual(const RunPtr& run,
                   DeliveryRun::Claim& claim,
                   DeliveryContext& context,
                   const std::shared_ptr<Decision>& decision);
    bool IsForAnotherGroup(const Message& message) const;
    void Fail(const RunPtr& run,
              std::uint64_t sequence,
              const HandlerOutcome& outcome,
              Decision* decision = nullptr);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::string subject_;
    const std::string group_;
    const std::chrono::milliseconds max_processing_time_;
    const std::unique_ptr<HandlerChain> chain_;
    const void* const subscription_;  // Who it is for, in `CallScope`.
    std::atomic<std::uint64_t> turned_away_{0};
    std::stop_source stop_;
    const std::stop_token stop_token_ = stop_.get_token();
};

}  // namespace qmq::internal
