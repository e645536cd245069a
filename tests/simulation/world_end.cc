// The end of a world: everything is whole again, and all that must come has to come in time.

#include <algorithm>
#include <utility>

#include "server/broker/actions.h"
#include "server/store/log_inspector.h"
#include "tests/simulation/world.h"

namespace qmq::simulation {

bool World::Finished() const {
    return audit_.told_count() == to_tell_ && audit_.missing_count() <= given_up_;
}

/// A dead letter that is lost had been seen by the group whose it was.
std::string World::WhoseLoss(const std::string& group) {
    return group == kAuditors ? kStrict : group;
}

/// Whether the audited groups have nothing left to do, and what they have lost. The answer comes
/// later.
void World::LookAtGroups() {
    groups_are_idle_ = false;
    if (!broker_) {
        return;
    }
    broker_->ListGroups("", [this](Result<std::vector<GroupInfo>> groups) {
        if (!groups.ok()) {
            return;
        }
        groups_are_idle_ = true;
        counted_losses_.clear();
        seen_losses_.clear();
        promised_losses_ = 0;
        for (const GroupInfo& group : *groups) {
            if (group.group == kVisitors) {
                continue;
            }
            Trace("",
                  group.subject + "/" + group.group + ": next " +
                      std::to_string(group.next_sequence) + ", lag " +
                      std::to_string(group.lag_count) + ", in flight " +
                      std::to_string(group.in_flight_count) + ", waiting " +
                      std::to_string(group.waiting_retry_count) + ", consumers " +
                      std::to_string(group.consumer_count) + " " + group.waits_for);
            groups_are_idle_ = groups_are_idle_ && group.lag_count == 0 &&
                               group.in_flight_count == 0 && group.waiting_retry_count == 0;
            // As `MayTakeSeen`.
            const std::uint64_t damaged = group.lost_to_damage_count;
            const std::uint64_t seen = group.lost_to_full_disk_count + group.lost_to_burial_count +
                                       (plan_.bit_rot || plan_.live_rot ? damaged : 0);
            const std::uint64_t all = group.lost_to_full_disk_count + group.lost_to_burial_count +
                                      damaged + group.lost_to_retention_count;
            counted_losses_[WhoseLoss(group.group)] += all;
            seen_losses_[WhoseLoss(group.group)] += group.group == kAuditors ? all : seen;
        }
    });
}

/// Until everything has come, or nothing comes any more because it is lost.
void World::Settle() {
    int idle = 0;
    const TimePoint all_are_back(plan_.absences ? plan_.comes_back() + 5s : kLoadTime + kRecovery);
    const auto is_away = [&] { return plan_.absences && scheduler_.Now() < all_are_back; };
    while ((!Finished() || is_away()) && scheduler_.Now() < TimePoint(kPatience)) {
        scheduler_.RunUntil(scheduler_.Now() + 100ms);
        if (plan_.may_lose() && scheduler_.Now() > all_are_back) {
            LookAtGroups();
            scheduler_.RunUntil(scheduler_.Now() + 900ms);
            idle = groups_are_idle_ ? idle + 1 : 0;
            if (idle >= 5) {
                break;  // The audit says whether that is right.
            }
        }
    }
    given_up_ = plan_.may_lose() ? audit_.missing_count() : 0;
}

/// One message after another through a system in which nothing is wrong any more: each must come
/// soon, by its own wake-up, since no other message, retry or reconnect comes to its help.
void World::QuietPhase() {
    if (!Finished()) {
        return;  // The audit says what is missing.
    }
    hung_.clear();  // Each would keep what it is handed for as long as a lease.
    StartProducer(static_cast<int>(producers_.size()), 0);
    // Whoever lost a connection is back, and no handler is at work any more.
    scheduler_.RunUntil(std::max(scheduler_.Now() + 5s, TimePoint(kLoadTime + kRecovery + 1s)));
    quiet_ = true;
    const std::uint64_t first = random().Below(10);
    for (std::uint64_t i = 0; i < 20; ++i) {
        quiet_number_ = i + first;
        quiet_decisions_.clear();
        const std::string id = "quiet-" + std::to_string(i);
        const TimePoint begin = scheduler_.Now();
        Send(*producers_.back(), id);
        while (!Finished() && scheduler_.Now() < begin + kLongestProcessing + 10s) {
            scheduler_.RunUntil(scheduler_.Now() + 10ms);
        }
        if (!Finished()) {
            return;
        }
    }
}

void World::CountLosses() {
    LookAtGroups();
    scheduler_.RunUntil(scheduler_.Now() + 1s);
    if (!plan_.may_lose()) {
        return;
    }
    const bool is_exact = !plan_.bit_rot && !plan_.live_rot && !faults_.contains("power_cut");
    for (const auto& [group, count] : counted_losses_) {
        // A power cut may make the broker forget what it counted last, and a group that has gone
        // took its counts along; it was told all the same. What a killed broker had told, and not
        // yet stored, the next one tells again.
        const bool may_have_gone = group == kSeasonal;
        const bool is_known = is_exact && count > 0 && !may_have_gone;
        const std::uint64_t told = is_exact && may_have_gone ? told_losses_.DistinctCountOf(group)
                                                             : told_losses_.CountOf(group);
        Audit::Losses losses{.count = is_known ? count : std::max(count, told),
                             .is_exact = is_exact};
        if (is_exact && !may_have_gone) {
            losses.seen_count = seen_losses_[group];
        } else if (!plan_.bit_rot && !plan_.live_rot) {
            losses.seen_count = std::max(seen_losses_[group], told_losses_.SeenCountOf(group));
        }
        audit_.OnLossCounted(group, losses);
        if (count > 0) {
            faults_["lost_and_counted"] += count;
        }
    }
}

void World::Complain(SimulationReport* report, std::string problem) {
    ++report->verdict.problem_count;
    report->verdict.problems.push_back(std::move(problem));
}

/// The disk as the world leaves it, read by what `qmq log verify` and `qmq log dump` read it with.
void World::Inspect(SimulationReport* report) {
    StopBroker();
    disk_.CloseAll();
    const auto stores = store::FindStores(disk_, "/data");
    if (!stores.ok() || stores->size() != 2) {
        Complain(report, "the stores are not found on the disk: " + stores.status().ToString());
        return;
    }
    for (const std::string& directory : *stores) {
        const auto verified = store::VerifyStore(disk_, directory, [](std::string_view action) {
            return broker::DecodeAction(action).status();
        });
        if (!verified.ok() || verified->record_count == 0) {
            Complain(report, directory + " cannot be verified: " + verified.status().ToString());
            continue;
        }
        scheduler_.Note(verified->record_count);
        scheduler_.Note(verified->problems.size());
    }
}

SimulationReport World::Report() {
    CountLosses();
    SimulationReport report;
    report.verdict = audit_.Judge();
    for (const std::string& damage : damage_) {
        Complain(&report, "a start found damage in what was synced: " + damage);
    }
    for (const std::string& problem : problems_) {
        Complain(&report, problem);
    }
    if (const std::string path = disk_.made_twice(); !path.empty()) {
        Complain(&report, path + " was made by two at the same time");
    }
    if (audit_.told_count() != to_tell_) {
        Complain(&report,
                 std::to_string(to_tell_ - audit_.told_count()) + " sends were never answered");
    }
    if (report.verdict.counted_lost > 0 && !faults_.contains("event_loss")) {
        Complain(&report, "messages were lost, and nobody was told");
    }
    if (!plan_.may_lose() && !faults_.contains("power_cut") && promised_losses_ > 0) {
        Complain(&report,
                 "groups count " + std::to_string(promised_losses_) +
                     " messages as lost, and nothing was taken from them");
    }
    const NetworkCounts& packets = network_.counts();
    report.faults = faults_;
    report.faults["packet_lost"] = packets.lost;
    report.faults["packet_doubled"] = packets.duplicated;
    report.faults["packet_reordered"] = packets.reordered;
    report.faults["packet_slow"] = packets.slow;
    for (const auto& [name, count] : disk_.FaultCounts()) {
        report.faults["disk_" + name] = count;
    }
    Inspect(&report);
    report.events = scheduler_.event_count();
    report.virtual_time = scheduler_.Now().time_since_epoch();
    scheduler_.Note(report.verdict.handled);
    report.hash = scheduler_.hash();
    return report;
}

}  // namespace qmq::simulation
