#pragma once

#include <cstdint>

#include "qmq/clock.h"
#include "qmq/protocol.h"
#include "qmq/random.h"
#include "qmq/status.h"

#include "sdk/client/src/base/backoff.h"

namespace qmq::internal {

/// What to do next with a batch.
struct SendStep {
    enum class Action : std::uint8_t {
        kWait,   ///< Try again at `when`, with another broker group if there is one.
        kSplit,  ///< Refused as a whole: send its messages singly, so that only the bad one fails.
        kFinish  ///< Answer with `outcome` and `status`.
    };
    Action action = Action::kFinish;
    TimePoint when{};
    SendOutcome outcome = SendOutcome::kUnknown;
    Status status;
};

/// The life of one batch, from its first try to its final answer: attempts, back-off, deadline. It
/// touches no socket, clock or thread: the caller does what each step says and reports what came of
/// it. It remembers whether any attempt may have been stored, so that "refused" is only ever said
/// when it is certain.
class SendMachine {
public:
    SendMachine(TimePoint deadline, BackoffOptions backoff)
        : deadline_(deadline), backoff_(backoff) {}

    TimePoint deadline() const { return deadline_; }
    std::uint32_t attempts() const { return attempts_; }
    bool in_flight() const { return in_flight_; }

    /// A frame with the batch goes out now.
    void OnSent();
    /// The broker answered. `message_count` is how many messages the batch has.
    SendStep OnReply(const BatchReceipt& receipt,
                     std::uint32_t message_count,
                     TimePoint now,
                     Random& random);
    /// The deadline has come, or (`why` not ok) the client ends. Always kFinish.
    SendStep OnDeadline(const Status& why);
    /// Why it waits, for the answer at the deadline: "no broker group serves the subject".
    void OnNoRoute(const Status& why);

private:
    SendStep Finish(SendOutcome outcome, Status status) const;

    TimePoint deadline_;
    Backoff backoff_;
    std::uint32_t attempts_ = 0;
    bool in_flight_ = false;
    bool maybe_stored_ = false;
    Status last_error_;
};

}  // namespace qmq::internal
