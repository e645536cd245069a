#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "qmq/message.h"
#include "qmq/protocol.h"
#include "qmq/transport.h"

#include "tests/support/audit.h"

namespace qmq::testing {

/// Which stored copy a message in a handler is, so that a message that was stored twice is judged
/// copy by copy. The broker says it beside each delivery, and applications do not need it: it is
/// noted on the way. What was delivered lies in memory of its own until its handler is done, so its
/// place tells it. Thread-safe.
class CopyBook {
public:
    void Note(const DeliveredBatch& batch);
    /// Once for each delivery.
    std::optional<Copy> Take(const Message& message);

private:
    std::mutex mutex_;
    std::unordered_map<const char*, Copy> copies_;  // By where the id lies. guarded by mutex_
};

/// The transports of `factory`; what they deliver is noted in `book`, which outlives them.
std::shared_ptr<TransportFactory> NoteCopies(std::shared_ptr<TransportFactory> factory,
                                             CopyBook& book);

}  // namespace qmq::testing
