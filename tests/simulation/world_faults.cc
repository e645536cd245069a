// What happens to a world.

#include <utility>

#include "tests/simulation/world.h"

namespace qmq::simulation {

/// What was confirmed a while ago is synced, when the disk has done nothing wrong since the broker
/// started.
void World::DurablePoint() {
    if (broker_ && !disk_failed_ && scheduler_.Now() - started_ > 1s &&
        scheduler_.Now() > slow_until_) {
        audit_.OnDurablePoint();
    }
    After(1s, [this] { DurablePoint(); });
}

void World::PlanFaults() {
    audit_.OnTrouble(TimePoint(kLoadTime + kRecovery));
    DurablePoint();
    if (plan_.renamed_cuts) {
        // What was written aside has taken its place: all it builds on must be on the disk.
        disk_.OnRename([this] {
            if (random().Chance(0.1)) {
                After(RandomTime(10ms), [this] {
                    if (!healed_) {
                        Fault("cut_after_rename");
                        Restart(true);
                    }
                });
            }
        });
    }
    for (int i = 0; !plan_.unsynced_log && i < options_.restarts; ++i) {
        After(1s + RandomTime(kLoadTime - 2s), [this, i] { Restart(i % 2 == 0); });
    }
    if (plan_.clean_closes) {
        After(1s + RandomTime(kLoadTime - 4s), [this] { CloseThenRestart(); });
    }
    const int more = plan_.unsynced_log ? 1 : 5 + static_cast<int>(random().Below(6));
    for (int i = 0; i < more; ++i) {
        After(RandomTime(kLoadTime - 1s), [this] { SomeFault(); });
    }
    PlanJumps();
    if (plan_.outages) {
        const bool is_late = plan_.mixed_filters && plan_.split_filters;
        After(is_late ? kLoadTime - 4s : 2s + RandomTime(kLoadTime - 10s),
              [this, is_late] { Outage(is_late); });
    }
    if (plan_.unsteady_disk) {
        After(1s + RandomTime(kLoadTime - 6s), [this] {
            Fault("unsteady_disk");
            UnsteadyDisk(scheduler_.Now() + 500ms + RandomTime(3s));
        });
    }
    network_.SetFaults({.loss = 0.01, .duplication = 0.01, .reordering = 0.02, .slow = 0.001});
}

void World::PlanJumps() {
    const int jumps = plan_.wall_jumps ? 1 + static_cast<int>(random().Below(4)) : 0;
    for (int i = 0; i < jumps; ++i) {
        After(RandomTime(kLoadTime - 1s), [this] { JumpClock(); });
    }
    if (plan_.live_rot) {
        After(2s + RandomTime(kLoadTime - 3s), [this] {
            if (!broker_) {
                return;
            }
            if (const std::string fault = rot_.Strike(LastRefusal()); !fault.empty()) {
                Fault(fault);
                Fault("rotten_while_running");
            }
        });
    }
    if (plan_.small_disk) {
        After(1s + RandomTime(kLoadTime - 6s), [this] { SmallDisk(); });
    }
    if (plan_.hung_consumers) {
        After(1s + RandomTime(kLoadTime - 6s),
              [this] { HangConsumer(random().Below(consumers_.size())); });
        // Its last leases end while nothing can be written.
        After(kLoadTime - 7s, [this] { HangConsumer(random().Below(consumers_.size())); });
        After(kLoadTime - 5s, [this] {
            Fault("disk_full");
            disk_.SetFull(true);
            After(3s + RandomTime(1900ms), [this] { disk_.SetFull(false); });
        });
    }
    for (std::size_t seat = 0; plan_.absences && seat < seats_.size(); ++seat) {
        if (seats_[seat].group == kSeasonal) {
            After(2s + RandomTime(3s), [this, seat] {
                is_leaving_ = true;
                After(1s, [this, seat] { LeaveForLong(seat); });
            });
        }
    }
}

/// Nobody of its group is there for longer than the broker keeps groups that have nothing to read.
/// What it was handed at last it has not even begun, and nobody asks for it before old segments go.
void World::LeaveForLong(std::size_t seat) {
    Fault("long_absence");
    is_leaving_ = false;
    audit_.OnConsumerGone(consumers_[seat]->client->client_id());
    consumers_[seat]->executor.Kill();
    consumers_[seat].reset();
    After(TimePoint(plan_.comes_back()) - scheduler_.Now(), [this, seat] { StartConsumer(seat); });
}

void World::SomeFault() {
    switch (random().Below(plan_.bad_folders ? 9 : 8)) {
        case 0:
            Fault("network_cut");
            network_.Cut(0.5);
            break;
        case 1:
            Fault("bad_network");
            network_.SetFaults({.loss = 0.2, .duplication = 0.1, .reordering = 0.2, .slow = 0.05});
            After(1s + RandomTime(2s), [this] { network_.SetFaults({.loss = 0.01}); });
            break;
        case 2:
            CrashConsumer(random().Below(consumers_.size()), std::nullopt);
            break;
        case 3:
            Restart(random().Chance(0.5));
            break;
        default:
            SomeDiskFault();
            break;
    }
}

void World::SomeDiskFault() {
    switch (random().Below(plan_.bad_folders ? 6 : 4)) {
        case 0: {
            Fault("disk_full");
            disk_.SetFull(true);
            const bool is_long = plan_.hung_consumers && random().Chance(0.5);
            if (is_long) {
                // A lease ends meanwhile.
                HangConsumer(random().Below(consumers_.size()));
            }
            After(is_long ? 3s + RandomTime(3s) : RandomTime(2s), [this] { disk_.SetFull(false); });
            break;
        }
        case 1:
            Fault("failed_sync");
            disk_failed_ = true;
            disk_.FailNextSyncs(1);
            // The shard stops; an operator looks after a while.
            After(500ms + RandomTime(1s), [this] { Restart(random().Chance(0.5)); });
            break;
        case 2:
            Fault("read_error");
            disk_.FailReads(true);
            After(RandomTime(300ms), [this] { disk_.FailReads(false); });
            break;
        case 3:
            Fault("write_error");
            disk_failed_ = true;
            disk_.FailNextWrites(1);
            After(500ms + RandomTime(1s), [this] { Restart(random().Chance(0.5)); });
            break;
        case 4:
            Fault("failed_folder");
            disk_failed_ = true;
            disk_.FailNextFolderChanges(1 + static_cast<std::uint32_t>(random().Below(2)));
            After(500ms + RandomTime(1s), [this] { Restart(random().Chance(0.5)); });
            break;
        default:
            slow_folders_ = true;
            After(1s + RandomTime(2s), [this] { slow_folders_ = false; });
            break;
    }
}

/// Another program takes all but a little of the room, for a while.
void World::SmallDisk() {
    Fault("small_disk");
    small_disk_bytes_ = disk_.used_bytes() + random().Below(160 * 1024);
    disk_.SetCapacity(small_disk_bytes_);
    After(500ms + RandomTime(4s), [this] {
        Fault("room_again");
        small_disk_bytes_ = 0;
        crowded_since_.reset();
        disk_.SetCapacity(0);
    });
}

/// Before each step of the disk: no change of what is used is missed.
void World::WatchRoom() {
    const bool is_crowded =
        small_disk_bytes_ > 0 && static_cast<double>(disk_.used_bytes()) >
                                     static_cast<double>(small_disk_bytes_) / 100 *
                                         broker::BrokerOptions().store.disk_high_water_percent;
    if (!is_crowded) {
        crowded_since_.reset();
    } else if (!crowded_since_) {
        crowded_since_ = scheduler_.Now();
        Fault("crowded_disk");
    }
}

/// When the disk last refused a write; noticed before its next step.
TimePoint World::LastRefusal() {
    const std::uint64_t count = disk_.refused_write_count();
    if (std::exchange(refused_count_, count) != count) {
        last_refusal_ = scheduler_.Now();
    }
    return last_refusal_;
}

/// What is sent long after the high-water mark was passed is not taken.
void World::CheckTaken(const std::string& id, TimePoint sent) {
    if (!crowded_since_ || sent < *crowded_since_ + kLooksForRoom) {
        return;
    }
    problems_.push_back("message " + id +
                        " was taken although the disk was above its high-water mark");
}

/// Minutes, hours or days, ahead or back; half of the time for a moment only.
void World::JumpClock() {
    if (healed_) {
        return;
    }
    const std::chrono::milliseconds sizes[] = {3min, 3h, 96h};
    const std::size_t size = random().Below(3);
    const bool ahead = random().Chance(0.5);
    Fault(std::string(ahead ? "clock_ahead_" : "clock_back_") + (size == 0   ? "minutes"
                                                                 : size == 1 ? "hours"
                                                                             : "days"));
    const std::chrono::milliseconds before = scheduler_.wall_offset();
    scheduler_.SetWallOffset(before + (ahead ? sizes[size] : -sizes[size]));
    if (random().Chance(0.5)) {
        After(RandomTime(3s), [this, before] { scheduler_.SetWallOffset(before); });
    }
}

/// Whatever is taken up comes a moment too late, or too early.
void World::UnsteadyDisk(TimePoint until) {
    const bool is_over = healed_ || scheduler_.Now() >= until;
    disk_.SetFull(!is_over && random().Chance(0.5));
    if (!is_over) {
        After(1ms + RandomTime(30ms), [this, until] { UnsteadyDisk(until); });
    }
}

/// What was removed must not be needed by anything that the power cut brings back.
void World::CutAfterRemoval(std::string_view operation, std::string_view path) {
    if (!plan_.removed_cuts || healed_) {
        return;
    }
    if (operation == "remove") {
        // A snapshot goes with each new one: a broker would never live until a segment goes.
        has_removed_ = has_removed_ || !plan_.unsynced_log || path.ends_with(".log");
    } else if (operation == "sync folder" && std::exchange(has_removed_, false) &&
               random().Chance(plan_.unsynced_log ? 0.9 : 0.1)) {
        After(RandomTime(plan_.unsynced_log ? 1ms : 10ms), [this] {
            if (!healed_) {
                Fault("cut_after_removal");
                Restart(true);
            }
        });
    }
}

/// All members of a group go one after another, and come back in another order. Meanwhile the
/// broker may be closed, so that it starts from a snapshot; or it goes on from then to the end,
/// with retries that were refused by members that are gone.
void World::Outage(bool is_late) {
    Fault("outage");
    const std::string group = is_late || (plan_.mixed_filters && random().Chance(0.6)) ? "mixed"
                              : random().Chance(0.5)                                   ? "ticketing"
                                                                                       : kStrict;
    for (std::size_t seat = 0; seat < seats_.size(); ++seat) {
        if (seats_[seat].group == group) {
            const auto dies = RandomTime(is_late ? 6s : 2s);
            const auto away = 2s + RandomTime(7s);
            After(dies, [this, seat, away] { CrashConsumer(seat, std::nullopt, away); });
            if (random().Chance(0.5)) {
                // With what it was handed first: now that is suspected.
                After(dies + away + RandomTime(500ms),
                      [this, seat] { CrashConsumer(seat, std::nullopt, 2s + RandomTime(2s)); });
            }
        }
    }
    if (!is_late && random().Chance(0.6)) {
        After(3s + RandomTime(4s), [this] { CloseThenRestart(); });
    }
}

void World::CrashConsumer(std::size_t seat,
                          std::optional<TimePoint> due,
                          std::optional<std::chrono::nanoseconds> away) {
    if (!consumers_[seat] || !seats_[seat].may_die()) {
        return;
    }
    Fault("consumer_crash");
    const std::string name = consumers_[seat]->client->client_id();
    audit_.OnConsumerGone(name, due);
    audit_.OnMemberGone(name, scheduler_.Now());
    consumers_[seat]->executor.Kill();
    consumers_[seat].reset();
    After(away ? *away : RandomTime(3s), [this, seat] { StartConsumer(seat); });
}

/// It stays connected and does nothing any more: what it holds comes when its leases end.
void World::HangConsumer(std::size_t seat) {
    if (!consumers_[seat] || !seats_[seat].may_die()) {
        return;
    }
    Fault("hung_consumer");
    const std::string name = consumers_[seat]->client->client_id();
    audit_.OnConsumerGone(name);
    audit_.OnMemberGone(name, scheduler_.Now());
    consumers_[seat]->executor.Kill();
    hung_.push_back(std::move(consumers_[seat]));
    // Whether it ever goes is all one: the rest of its group must get what it held.
    After(RandomTime(3s), [this, seat] { StartConsumer(seat); });
}

/// It never hears what became of what it sent last, and sends none of it again.
void World::CrashProducer() {
    ProducerProcess& process = *producers_[random().Below(producers_.size())];
    if (std::exchange(process.dead, true)) {
        return;
    }
    Fault("producer_crash");
    process.executor.Kill();
    to_tell_ -= process.unanswered;
}

void World::Heal() {
    healed_ = true;
    network_.SetFaults({});
    disk_.Heal();
    slow_folders_ = false;
    small_disk_bytes_ = 0;
    crowded_since_.reset();
    others_->End();
    if (plan_.wrong_clock) {
        Fault("wrong_clock");
        scheduler_.SetWallOffset(scheduler_.wall_offset() + 96h);
        After(kWrongFor + RandomTime(kWrongLonger),
              [this] { scheduler_.SetWallOffset(scheduler_.wall_offset() - 96h); });
    }
    if (plan_.last_restart || disk_failed_) {
        Restart(false);  // A shard may have stopped writing for good.
    }
}

}  // namespace qmq::simulation
