#pragma once

#include <cstdint>
#include <string_view>

#include "qmq/status.h"

/// Bugs that are planted on purpose, one switch each, so that the audits can be shown to catch
/// them. Only builds with QMQ_PLANTED_BUGS have the switches; a release has none of this code.
namespace qmq::env {

enum class PlantedBug : std::uint8_t {
    kNone,
    kAckBeforeSync,  ///< A send is answered "fsync" before the sync has returned.
    kSkipChecksum,  ///< A record whose checksum is wrong is taken for good on recovery and reading.
    kDropAck,       ///< Now and then an ack is answered and forgotten.
    kCutMidLog,     ///< Recovery cuts the log at the first damage, whatever lies behind it.
    kHandOutBeforeDurable,  ///< Messages are handed out before they are as durable as their subject
                            ///< promises.
    kLostWakeUp,            ///< Now and then a waiting consumer is not told of new messages.
    kWrongAttempt,          ///< A redelivery keeps the old attempt count.
    kSequenceReused,        ///< After a restart a subject's next sequence is one too low.
    kSnapshotAheadOfLog,    ///< A snapshot is kept though the log below it was not synced.
    kIndexOffByOne,         ///< A sealed segment's index finds the message after the one asked for.
    kAckWholeBatch,         ///< An ack of one message acks all of its batch.
    kForgetHandOutOnRestart  ///< After a restart what was in flight counts as acked.
};

#ifdef QMQ_PLANTED_BUGS
/// Whether `bug` is switched on in this process.
bool Planted(PlantedBug bug);
/// Switches one bug on, or all off (kNone). Before any engine object is made.
void Plant(PlantedBug bug);
#else
constexpr bool Planted(PlantedBug) {
    return false;
}
#endif

/// By its name as in the enumerator without the `k`, in snake case: "ack_before_sync".
/// kInvalidArgument lists the names.
Result<PlantedBug> ParsePlantedBug(std::string_view name);

}  // namespace qmq::env
