#include <exception>
#include <utility>

#include "qmq/check.h"

#include "sdk/client/src/consumer_stream.h"
#include "sdk/client/src/delivery_core.h"

namespace qmq {

namespace internal {

namespace {
constexpr std::size_t kMaxErrorBytes = 4'096;
}  // namespace

AckItem ItemFor(const HandlerOutcome& outcome, std::uint64_t sequence, Status* problem) {
    AckItem item{AckVerdict::kAck, sequence, sequence, std::nullopt, {}};
    if (outcome.kind == HandlerOutcome::Kind::kAck) {
        return item;
    }
    item.verdict =
        outcome.kind == HandlerOutcome::Kind::kRetry ? AckVerdict::kRetry : AckVerdict::kDeadLetter;
    item.error = outcome.error;
    if (item.verdict == AckVerdict::kRetry && outcome.delay.count() >= 0) {
        item.delay = outcome.delay;
    }
    if (item.delay.has_value() && *item.delay > kMaxRetryDelay) {
        *problem = Status::InvalidArgument(
            "a retry in " + std::to_string(item.delay->count()) + " ms was asked for; at most " +
            std::to_string(kMaxRetryDelay.count()) +
            " ms (7 days) are possible, so it comes by the group's back-off");
        item.delay.reset();
        item.error += (item.error.empty() ? "" : "; ") + std::string(problem->message());
    }
    if (item.error.size() > kMaxErrorBytes) {
        item.error.resize(kMaxErrorBytes);
        // Never half a character: drop the bytes of one that was cut.
        while (!item.error.empty() &&
               (static_cast<unsigned char>(item.error.back()) & 0xC0U) == 0x80U) {
            item.error.pop_back();
        }
        if (!item.error.empty() && (static_cast<unsigned char>(item.error.back()) & 0x80U) != 0) {
            item.error.pop_back();
        }
    }
    return item;
}

void Decision::Decide(AckItem item, AckCallback done) {
    if (decided_.exchange(true, std::memory_order_acq_rel)) {
        if (done) {
            run_->stream().Answer(std::move(done),
                                  Status::NotFound("this delivery was decided before: the first "
                                                   "decision counts"));
        }
        return;
    }
    run_->stream().Decide(*run_, std::move(item), std::move(done));
}

}  // namespace internal

namespace {

void DecideAs(internal::DeliveryCore* core,
              const HandlerOutcome& outcome,
              UniqueFunction<void(const Status&)> done) {
    QMQ_CHECK(core != nullptr, "a Delivery that was moved from");
    internal::Decision& decision = core->decision();
    Status problem;
    AckItem item = internal::ItemFor(outcome, decision.sequence(), &problem);
    if (!problem.ok() && done) {
        done = [done = std::move(done), problem](const Status& status) mutable {
            done(status.ok() ? problem : status);
        };
    }
    decision.Decide(std::move(item), std::move(done));
}

void Forget(std::unique_ptr<internal::DeliveryCore> core) {
    if (core == nullptr || core->decision().decided()) {
        return;
    }
    if (std::uncaught_exceptions() > 0) {
        core->decision().Orphan();
        return;
    }
    DecideAs(core.get(), HandlerOutcome::Retry("forgotten"), nullptr);
}

}  // namespace

Delivery::Delivery(std::unique_ptr<internal::DeliveryCore> core) : core_(std::move(core)) {}
Delivery::Delivery(Delivery&&) noexcept = default;

Delivery& Delivery::operator=(Delivery&& other) noexcept {
    if (this != &other) {
        Forget(std::move(core_));
        core_ = std::move(other.core_);
    }
    return *this;
}

Delivery::~Delivery() {
    Forget(std::move(core_));
}

const Message& Delivery::message() const {
    QMQ_CHECK(core_ != nullptr, "a Delivery that was moved from");
    return core_->message();
}

void Delivery::Ack(UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::Ack(), std::move(done));
}

void Delivery::Nack(std::string error, UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::Retry(std::move(error)), std::move(done));
}

void Delivery::RetryIn(std::chrono::milliseconds delay,
                       std::string error,
                       UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::Retry(std::move(error), delay), std::move(done));
}

void Delivery::Reject(std::string error, UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::DeadLetter(std::move(error)), std::move(done));
}

}  // namespace qmq
