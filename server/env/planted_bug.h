#pragma once

#include <cstdint>
#include <string_view>

#include "qmq/status.h"

/// Bugs that are planted on purpose, one switch each, so that the audits can be shown to catch
/// them. Only builds with QMQ_PLANTED_BUGS have the switches; a release has none of this code.
namespace qmq::env {

enum class PlantedBug : std::uint8_t {
    kNone,
    /// A send is answered "fsync" before the sync has returned.
    kAckBeforeSync,
    /// A record whose checksum is wrong is taken for good on recovery and reading.
    kSkipChecksum,
    /// Now and then an ack is answered and forgotten.
    kDropAck,
    /// Recovery cuts the log at the first damage, whatever lies behind it.
    kCutMidLog,
    /// Messages are handed out before they are as durable as their subject promises.
    kHandOutBeforeDurable,
    /// Now and then a waiting consumer is not told of new messages.
    kLostWakeUp,
    /// A redelivery keeps the old attempt count.
    kWrongAttempt,
    /// After a restart a subject's next sequence is one too low.
    kSequenceReused,
    /// A snapshot is kept though the log below it was not synced.
    kSnapshotAheadOfLog,
    /// A sealed segment's index finds the message after the one asked for.
    kIndexOffByOne,
    /// An ack of one message acks all of its batch.
    kAckWholeBatch,
    /// After a restart what was in flight counts as acked.
    kForgetHandOutOnRestart,
    /// A failed message is acked, and its copy for the retry is dropped.
    kNackDropsMessage,
    /// A lease that ends counts as an ack.
    kLeaseEndAcks,
    /// When a sync returns, all that was written by then counts as synced.
    kSyncCoversAll,
    /// The folder is not synced after a segment's file was made.
    kFolderNotSynced,
    /// A dead letter is acked, and its copy is dropped.
    kDropDeadLetter,
    /// What a forgotten consumer held counts as acked.
    kGoneConsumerAcks,
    /// Messages are taken however full the disk is.
    kNoHighWater,
    /// `drop_consumed` drops what is held or waits.
    kDropHeld,
    /// A start does not write again what a failed sync may have lost.
    kNoRewrite,
    /// An ack of all numbers and another one become ranges that no start can read.
    kUnreadableAck,
    /// An action that cannot be read stops the start of its shard.
    kUnreadableStops,
    /// Checksums have no seed: bytes of a message may be taken for a record.
    kForgeable,
    /// The subject of a retry that a client sent has no log until the next start.
    kSubjectWithoutLog,
    /// Strand and I/O thread make the next segment under one name, and the one that finds no room
    /// removes it.
    kTwoMakers,
    /// Retention believes each single reading of the wall clock.
    kTrustWallClock,
    /// Retries wait by the wall clock alone.
    kRetryByWallClock,
    /// What waits for a retry, or is held, goes with its segment.
    kRetryExpires,
    /// A lease that ends while nothing can be written never ends again.
    kLeaseTimerLost,
    /// A message whose copy fits into no segment stops its group.
    kStuckBurial,
    /// A group that nobody uses is forgotten although it has unread messages.
    kForgetUnread,
    /// The filter of the newest subscriber counts for the whole group.
    kNewestFilter,
    /// What was merely held when its consumer died has used up an attempt.
    kCountHeld,
    /// What retention or damage takes from a group is not counted.
    kSilentLoss,
    /// An ack that asks for a durability is answered before it has it.
    kAckNotDurable,
    /// What is held, and was to be kept as a copy, stays bound to the copy that was never written.
    kRelocationNotTakenBack,
    /// A segment goes although the retries of its failed messages are not synced yet.
    kMovesNotSynced,
    /// A filter that takes over another one's slot has refused what waits for its retry, too.
    kRefusalsOutliveFilter,
    /// A consumer that is done with a suspect is not looked at again.
    kSuspectEndsSilently,
    /// After a restart from a snapshot what consumers died with counts as never handed out.
    kUnseenAfterRestart,
    /// The last message of those that a dead consumer had begun has used up no attempt.
    kBegunEndExcluded,
    /// Where a consumer's room ends among messages for others, those before the end are skipped.
    kCutAsideLost,
    /// A downtime that has stood is credited at once and whole.
    kAbsenceAtOnce
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
