#include "sdk/client/src/send/send_machine.h"

#include <string>

namespace qmq::internal {

void SendMachine::OnSent() {
    ++attempts_;
    in_flight_ = true;
}

void SendMachine::OnNoRoute(const Status& why) {
    last_error_ = why;
}

SendStep SendMachine::Finish(SendOutcome outcome, Status status) const {
    SendStep step;
    step.action = SendStep::Action::kFinish;
    step.outcome = outcome;
    step.status = std::move(status);
    return step;
}

SendStep SendMachine::OnReply(const BatchReceipt& receipt,
                              std::uint32_t message_count,
                              TimePoint now,
                              Random& random) {
    in_flight_ = false;
    if (receipt.outcome == SendOutcome::kPersisted && receipt.status.ok()) {
        return Finish(SendOutcome::kPersisted, Status::Ok());
    }
    last_error_ = receipt.status.ok() ? Status::Internal("the transport answered without a reason")
                                      : receipt.status;
    // "Persisted" beside an error is nonsense of a peer; the safe reading is "may be stored".
    const bool refused = receipt.outcome == SendOutcome::kRefused;
    if (!refused) {
        maybe_stored_ = true;
    }
    if (refused && !last_error_.IsRetryable()) {
        if (last_error_.code() == StatusCode::kInvalidArgument && message_count > 1) {
            SendStep step;
            step.action = SendStep::Action::kSplit;
            return step;
        }
        if (!maybe_stored_) {
            return Finish(SendOutcome::kRefused, last_error_);
        }
        return Finish(SendOutcome::kUnknown,
                      Status::Unavailable("the answer to an earlier attempt was lost; the last one "
                                          "was refused: " +
                                          last_error_.ToString()));
    }
    const TimePoint when = now + backoff_.Next(random);
    if (when >= deadline_) {
        // No attempt fits any more, but the caller was promised its whole time only for an answer.
        return OnDeadline(Status::Ok());
    }
    SendStep step;
    step.action = SendStep::Action::kWait;
    step.when = when;
    return step;
}

SendStep SendMachine::OnDeadline(const Status& why) {
    const bool unknown = in_flight_ || maybe_stored_;
    const std::string attempts = " (" + std::to_string(attempts_) + " attempts)";
    const std::string reason = last_error_.ok() ? "" : "; last: " + last_error_.ToString();
    if (unknown) {
        const std::string what =
            why.ok() ? "no answer by the deadline" : std::string(why.message());
        return Finish(SendOutcome::kUnknown, Status::DeadlineExceeded(what + attempts + reason));
    }
    if (!why.ok()) {
        return Finish(SendOutcome::kRefused, why);
    }
    if (!last_error_.ok()) {
        return Finish(SendOutcome::kRefused, last_error_.WithContext("gave up" + attempts));
    }
    return Finish(SendOutcome::kRefused,
                  Status::Unavailable("not sent by its deadline: no broker had room" + attempts));
}

}  // namespace qmq::internal
