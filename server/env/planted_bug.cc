#include "server/env/planted_bug.h"

#include <array>
#include <atomic>
#include <string>
#include <utility>

namespace qmq::env {
namespace {

constexpr std::array<std::pair<std::string_view, PlantedBug>, 13> kNames{{
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
