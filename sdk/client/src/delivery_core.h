#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "qmq/subscription.h"

#include "sdk/client/src/ack_window.h"
#include "sdk/client/src/delivery_run.h"

namespace qmq::internal {

/// The one decision about one delivery, shared by the application's `Delivery` and by the runner
/// that called its handler.
class Decision {
public:
    Decision(std::shared_ptr<DeliveryRun> run, std::uint64_t sequence)
        : run_(std::move(run)), sequence_(sequence) {}

    /// The first call decides; a later one only answers its `done` (kNotFound).
    void Decide(AckItem item, AckCallback done);
    bool decided() const { return decided_.load(std::memory_order_acquire); }

    /// Its `Delivery` was destroyed while an exception passed: the runner knows which, and decides.
    void Orphan() { orphaned_.store(true, std::memory_order_release); }
    bool orphaned() const { return orphaned_.load(std::memory_order_acquire); }
    std::uint64_t sequence() const { return sequence_; }

private:
    const std::shared_ptr<DeliveryRun> run_;
    const std::uint64_t sequence_;
    std::atomic<bool> decided_{false};
    std::atomic<bool> orphaned_{false};
};

class DeliveryCore {
public:
    DeliveryCore(std::shared_ptr<Decision> decision, Message message)
        : decision_(std::move(decision)), message_(std::move(message)) {}
    const Message& message() const { return message_; }
    Decision& decision() { return *decision_; }

private:
    std::shared_ptr<Decision> decision_;
    Message message_;
};

/// The longest `RetryLater` and `RetryIn`.
inline constexpr std::chrono::milliseconds kMaxRetryDelay = std::chrono::hours(24 * 7);

/// What `outcome` is on the wire. A delay beyond the limit is not taken: the group's back-off
/// counts, and `problem` says so.
AckItem ItemFor(const HandlerOutcome& outcome, std::uint64_t sequence, Status* problem);

}  // namespace qmq::internal

namespace qmq {

struct DeliveryAccess {
    static Delivery Make(std::shared_ptr<internal::Decision> decision, Message message) {
        return Delivery(
            std::make_unique<internal::DeliveryCore>(std::move(decision), std::move(message)));
    }
};

}  // namespace qmq
