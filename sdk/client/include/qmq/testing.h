#pragma once

#include <cstdint>
#include <string>

#include "qmq/message.h"

/// For unit tests of handlers and filters. A `DeliveryContext` is made by its constructor; a client
/// with a whole broker in the test's process is one of "inproc:".
namespace qmq::testing {

struct ReceivedOptions {
    /// Which delivery it is, from 1.
    std::uint32_t attempt = 1;
    /// Why the delivery before this one failed.
    std::string last_error{};
    /// Where it was taken from, when that is not where it was sent to: `qmq::DeadLetterSubject(…)`
    /// or `qmq::RetrySubject(…)` of the message's subject. The attempts of a dead letter go on from
    /// those that it had.
    std::string subject{};
};

/// `message` as a handler is given it: with an id ("test-message-7", no two alike) and a creation
/// time (now) when it has none of its own; from the second attempt on its due time is now. What it
/// says of deliveries itself, since it was received, counts for nothing. Throws
/// `std::invalid_argument` that says what is wrong with `message` or `options`.
///
///     const qmq::Message received = MakeReceived(order, {.attempt = 4, .last_error = "no paper"});
Message MakeReceived(Message message, const ReceivedOptions& options = {});

}  // namespace qmq::testing
