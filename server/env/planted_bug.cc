#include "server/env/planted_bug.h"

#include <array>
#include <atomic>
#include <string>
#include <utility>

namespace qmq::env {
namespace {

constexpr std::array<std::pair<std::string_view, PlantedBug>, 45> kNames{{
    {"none", PlantedBug::kNone},
    {"ack_before_sync", PlantedBug::kAckBeforeSync},
    {"skip_checksum", PlantedBug::kSkipChecksum},
    {"drop_ack", PlantedBug::kDropAck},
    {"cut_mid_log", PlantedBug::kCutMidLog},
    {"hand_out_before_durable", PlantedBug::kHandOutBeforeDurable},
    {"lost_wake_up", PlantedBug::kLostWakeUp},
    {"wrong_attempt", PlantedBug::kWrongAttempt},
    {"sequence_reused", PlantedBug::kSequenceReused},
    {"snapshot_ahead_of_log", PlantedBug::kSnapshotAheadOfLog},
    {"index_off_by_one", PlantedBug::kIndexOffByOne},
    {"ack_whole_batch", PlantedBug::kAckWholeBatch},
    {"forget_hand_out_on_restart", PlantedBug::kForgetHandOutOnRestart},
    {"nack_drops_message", PlantedBug::kNackDropsMessage},
    {"lease_end_acks", PlantedBug::kLeaseEndAcks},
    {"sync_covers_all", PlantedBug::kSyncCoversAll},
    {"folder_not_synced", PlantedBug::kFolderNotSynced},
    {"drop_dead_letter", PlantedBug::kDropDeadLetter},
    {"gone_consumer_acks", PlantedBug::kGoneConsumerAcks},
    {"no_high_water", PlantedBug::kNoHighWater},
    {"drop_held", PlantedBug::kDropHeld},
    {"no_rewrite", PlantedBug::kNoRewrite},
    {"unreadable_ack", PlantedBug::kUnreadableAck},
    {"unreadable_stops", PlantedBug::kUnreadableStops},
    {"forgeable", PlantedBug::kForgeable},
    {"subject_without_log", PlantedBug::kSubjectWithoutLog},
    {"two_makers", PlantedBug::kTwoMakers},
    {"trust_wall_clock", PlantedBug::kTrustWallClock},
    {"retry_by_wall_clock", PlantedBug::kRetryByWallClock},
    {"retry_expires", PlantedBug::kRetryExpires},
    {"lease_timer_lost", PlantedBug::kLeaseTimerLost},
    {"stuck_burial", PlantedBug::kStuckBurial},
    {"forget_unread", PlantedBug::kForgetUnread},
    {"newest_filter", PlantedBug::kNewestFilter},
    {"count_held", PlantedBug::kCountHeld},
    {"silent_loss", PlantedBug::kSilentLoss},
    {"ack_not_durable", PlantedBug::kAckNotDurable},
    {"relocation_not_taken_back", PlantedBug::kRelocationNotTakenBack},
    {"moves_not_synced", PlantedBug::kMovesNotSynced},
    {"refusals_outlive_filter", PlantedBug::kRefusalsOutliveFilter},
    {"suspect_ends_silently", PlantedBug::kSuspectEndsSilently},
    {"unseen_after_restart", PlantedBug::kUnseenAfterRestart},
    {"begun_end_excluded", PlantedBug::kBegunEndExcluded},
    {"cut_aside_lost", PlantedBug::kCutAsideLost},
    {"absence_at_once", PlantedBug::kAbsenceAtOnce},
}};

}  // namespace

#ifdef QMQ_PLANTED_BUGS
namespace {
// The one global of the engine, and only in builds that are never released: a switch that had to be
// handed through every constructor would change the very code that it is there to test.
std::atomic<PlantedBug> planted{PlantedBug::kNone};
}  // namespace

bool Planted(PlantedBug bug) {
    return planted.load(std::memory_order_relaxed) == bug;
}

void Plant(PlantedBug bug) {
    planted.store(bug, std::memory_order_relaxed);
}
#endif

Result<PlantedBug> ParsePlantedBug(std::string_view name) {
    std::string choices;
    for (const auto& [known, bug] : kNames) {
        if (known == name) {
            return bug;
        }
        choices.append(choices.empty() ? "" : ", ").append(known);
    }
    return Status::InvalidArgument("unknown planted bug \"" + std::string(name) +
                                   "\": use one of " + choices);
}

}  // namespace qmq::env
