#include <algorithm>
#include <exception>
#include <utility>

#include "qmq/check.h"
#include "qmq/subject.h"

#include "sdk/client/src/receive/consumer_stream.h"
#include "sdk/client/src/receive/delivery_core.h"

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
    if (outcome.kind == HandlerOutcome::Kind::kLater) {
        item.verdict = AckVerdict::kRelease;
        item.delay = std::max(outcome.delay, std::chrono::milliseconds(0));
        item.error = outcome.error;  // For filters: the broker is not told.
        return item;
    }
    const bool is_dead = outcome.kind == HandlerOutcome::Kind::kDeadLetter;
    item.verdict = is_dead ? AckVerdict::kDeadLetter : AckVerdict::kRetry;
    if (!is_dead && outcome.kind != HandlerOutcome::Kind::kRetry) {
        item.error = "the handler's outcome has the kind " +
                     std::to_string(static_cast<int>(outcome.kind)) + ", which there is not" +
                     (outcome.error.empty() ? "" : "; ");
    }
    item.error += outcome.error;
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

void Decision::SetHandedOut(bool handed_out) {
    if (handed_out_.exchange(handed_out, std::memory_order_relaxed) != handed_out) {
        run_->stream().NoteUndecided(handed_out ? 1 : -1);
    }
}

HandlerOutcome OutcomeOf(const AckItem& item) {
    switch (item.verdict) {
        case AckVerdict::kRetry:
            return item.delay.has_value() ? HandlerOutcome::Retry(*item.delay, item.error)
                                          : HandlerOutcome::Retry(item.error);
        case AckVerdict::kDeadLetter:
            return HandlerOutcome::DeadLetter(item.error);
        case AckVerdict::kRelease:
            return HandlerOutcome::Later(item.delay.value_or(std::chrono::milliseconds(0)),
                                         item.error);
        case AckVerdict::kAck:
        case AckVerdict::kRenew:
        case AckVerdict::kBegin:
            break;  // The last two decide nothing.
    }
    return HandlerOutcome::Ack();
}

std::string DeadLetterLine(std::string_view subject,
                           std::string_view group,
                           const Message& message,
                           std::string_view why) {
    const bool is_one = ParseSubject(subject).kind == SubjectKind::kDeadLetter;
    return "subject " + std::string(subject) + ", group " + std::string(group) + ", message " +
           std::string(message.id()) +
           (is_one ? ": given up, and not delivered again: " : ": to the dead letters: ") +
           std::string(why);
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
    SetHandedOut(false);
    if (on_decided_) {
        // What filters have kept with the delivery goes with it.
        UniqueFunction<void(const AckItem&)> on_decided = std::move(on_decided_);
        on_decided(item);
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
    if (decision.stream().process().foreign()) {
        return;  // It is the other process's to decide.
    }
    Status problem;
    AckItem item = internal::ItemFor(outcome, decision.sequence(), &problem);
    if (!problem.ok() && done) {
        done = [done = std::move(done), problem](const Status& status) mutable {
            done(status.ok() ? problem : status);
        };
    }
    if (item.verdict == AckVerdict::kDeadLetter && !decision.decided()) {
        decision.stream().LogDeadLetter(core->message(), item.error);
    }
    decision.Decide(std::move(item), std::move(done));
}

void Forget(std::unique_ptr<internal::DeliveryCore> core) {
    if (core == nullptr) {
        return;
    }
    if (core->decision().stream().process().foreign()) {
        KeepForEver(std::shared_ptr<internal::DeliveryCore>(std::move(core)));
        return;
    }
    if (core->decision().decided()) {
        return;
    }
    if (core->decision().InItsHandler() && std::uncaught_exceptions() > 0) {
        core->decision().Orphan();
        return;
    }
    DecideAs(core.get(), internal::Forgotten(), nullptr);
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
    DecideAs(core_.get(), HandlerOutcome::Retry(delay, std::move(error)), std::move(done));
}

void Delivery::Later(std::chrono::milliseconds delay,
                     std::string reason,
                     UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::Later(delay, std::move(reason)), std::move(done));
}

void Delivery::Reject(std::string error, UniqueFunction<void(const Status&)> done) {
    DecideAs(core_.get(), HandlerOutcome::DeadLetter(std::move(error)), std::move(done));
}

namespace {

/// Begins a decision whose answer is awaited. In another process than its own nothing is decided,
/// and that is the answer.
template <typename Decide>
Awaitable<Status> Await(internal::DeliveryCore* core, Decide decide) {
    QMQ_CHECK(core != nullptr, "a Delivery that was moved from");
    return Awaitable<Status>::Of([&](auto done) {
        const ProcessMark& process = core->decision().stream().process();
        if (process.foreign()) {
            return process.Refusal("the delivery");
        }
        decide(std::move(done));
        return Status::Ok();
    });
}

}  // namespace

Awaitable<Status> Delivery::AckAsync() {
    return Await(core_.get(), [&](auto done) { Ack(std::move(done)); });
}

Awaitable<Status> Delivery::NackAsync(std::string error) {
    return Await(core_.get(), [&](auto done) { Nack(std::move(error), std::move(done)); });
}

Awaitable<Status> Delivery::RetryInAsync(std::chrono::milliseconds delay, std::string error) {
    return Await(core_.get(),
                 [&](auto done) { RetryIn(delay, std::move(error), std::move(done)); });
}

Awaitable<Status> Delivery::RejectAsync(std::string error) {
    return Await(core_.get(), [&](auto done) { Reject(std::move(error), std::move(done)); });
}

Awaitable<Status> Delivery::LaterAsync(std::chrono::milliseconds delay, std::string reason) {
    return Await(core_.get(), [&](auto done) { Later(delay, std::move(reason), std::move(done)); });
}

}  // namespace qmq
