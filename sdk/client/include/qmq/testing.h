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
    std::string last_error;
    /// Where it was taken from, when that is not where it was sent to: `qmq::DeadLetterSubject(…)`.
    std::string subject;
};

/// `message` as a handler is given it: with an id ("test-message") and a creation time (now) when
/// it has none of its own. Throws `std::invalid_argument` that says what is wrong with `message` or
/// `options`.
///
///     Handle(MakeReceived(Message("order.paid").Set("orderId", "A-1"), {.attempt = 4}));
Message MakeReceived(Message message, const ReceivedOptions& options = {});

}  // namespace qmq::testing
