// What sends say of themselves in logs.

#include <ostream>

#include "qmq/producer.h"

namespace qmq {

std::ostream& operator<<(std::ostream& out, const SendReceipt& receipt) {
    out << "message " << (receipt.message_id.empty() ? "without an id" : receipt.message_id) << ": "
        << ToString(receipt.outcome);
    if (receipt.ok()) {
        out << ", " << ToString(receipt.durability) << ", in broker group " << receipt.broker_group
            << " at " << receipt.sequence;
    } else {
        out << " (" << receipt.status << ")";
    }
    return out << ", attempts " << receipt.attempts;
}

std::ostream& operator<<(std::ostream& out, const Producer::Stats& stats) {
    return out << "pending " << stats.pending_count << " messages, " << stats.pending_bytes
               << " bytes; in flight " << stats.in_flight_batches << " batches; callbacks owed "
               << stats.callbacks_owed << "; blocked calls " << stats.blocked_calls
               << "; persisted " << stats.persisted_count << ", unknown " << stats.unknown_count
               << ", refused " << stats.refused_count << ", retried " << stats.retried_batches
               << " batches";
}

}  // namespace qmq
