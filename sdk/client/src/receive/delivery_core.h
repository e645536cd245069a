#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "qmq/subscription.h"

#include "sdk/client/src/receive/ack_window.h"
#include "sdk/client/src/receive/delivery_run.h"

namespace qmq::internal {

/// The one decision about one delivery, shared by the application's `Delivery` and by the runner
/// that called its handler.
class Decision {
public:
    Decision(std::shared_ptr<DeliveryRun> run, std::uint64_t sequence)
        : run_(std::move(run)), sequence_(sequence) {}
    ~Decision() { SetHandedOut(false); }
    Decision(const Decision&) = delete;
    Decision& operator=(const Decision&) = delete;

    /// The application has it, or has it no longer: what it has and does not decide is counted.
    void SetHandedOut(bool handed_out);

    /// The first call decides; a later one only answers its `done` (kNotFound).
    void Decide(AckItem item, AckCallback done);
    bool decided() const { return decided_.load(std::memory_order_acquire); }

    /// While its handler runs, on the thread that calls it: there the runner looks at what became
    /// of the delivery once the handler has returned, and nowhere else does anybody.
    class HandlerCall {
    public:
        explicit HandlerCall(Decision& decision) : decision_(decision) {
            decision_.handler_thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
        }
        ~HandlerCall() {
            decision_.handler_thread_.store(std::thread::id(), std::memory_order_relaxed);
        }
        HandlerCall(const HandlerCall&) = delete;
        HandlerCall& operator=(const HandlerCall&) = delete;

    private:
        Decision& decision_;
    };
    /// This code was called, directly or not, by its handler. (Another thread may read an old value
    /// or a new one, but never its own id.)
    bool InItsHandler() const {
        return handler_thread_.load(std::memory_order_relaxed) == std::this_thread::get_id();
    }

    /// Its `Delivery` was destroyed while an exception passed through its handler: the runner, who
    /// will know the exception's text, decides when the handler has ended.
    void Orphan() { orphaned_.store(true, std::memory_order_release); }
    bool orphaned() const { return orphaned_.load(std::memory_order_acquire); }
    std::uint64_t sequence() const { return sequence_; }
    ConsumerStream& stream() const { return run_->stream(); }

    /// Called once, by the first decision, before that counts. Set before anybody else has it.
    void SetOnDecided(UniqueFunction<void(const AckItem&)> on_decided) {
        on_decided_ = std::move(on_decided);
    }

private:
    const std::shared_ptr<DeliveryRun> run_;
    const std::uint64_t sequence_;
    UniqueFunction<void(const AckItem&)> on_decided_;
    std::atomic<std::thread::id> handler_thread_{};
    std::atomic<bool> handed_out_{false};
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

/// What `outcome` is on the wire, but that a release with a delay waits in the stream first. A
/// delay beyond the limit is not taken: the group's back-off counts, and `problem` says so.
AckItem ItemFor(const HandlerOutcome& outcome, std::uint64_t sequence, Status* problem);

/// What becomes of a delivery that is destroyed without a decision: again at once.
inline HandlerOutcome Forgotten() {
    return HandlerOutcome::Retry(std::chrono::milliseconds(0), "forgotten");
}

/// What `item` says of how a delivery ended.
HandlerOutcome OutcomeOf(const AckItem& item);

/// What the log says of a dead letter. `why` may begin with what led to it.
std::string DeadLetterLine(std::string_view subject,
                           std::string_view group,
                           const Message& message,
                           std::string_view why);

}  // namespace qmq::internal

namespace qmq {

struct DeliveryAccess {
    static Delivery Make(std::shared_ptr<internal::Decision> decision, Message message) {
        decision->SetHandedOut(true);
        return Delivery(
            std::make_unique<internal::DeliveryCore>(std::move(decision), std::move(message)));
    }
};

}  // namespace qmq
