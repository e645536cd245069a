#include "tests/simulation/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace qmq::simulation {

World::World(const SimulationOptions& options)
    : options_(options),
      plan_(options),
      seats_(MakeSeats(plan_)),
      scheduler_(options.seed),
      audit_(scheduler_),
      wires_(scheduler_, 1),
      fates_(scheduler_, 2),
      network_(scheduler_, wires_),
      disk_(scheduler_.random().Next()),
      rot_(options.seed, disk_, audit_) {
    for (const auto& group : MakeGroups(plan_)) {
        audit_.AddGroup(group);
    }
    network_.OnHandOut([this](const SimNetwork::HandOut& hand_out) {
        audit_.OnHandedOut(hand_out.group, hand_out.id, hand_out.copy);
        Trace(hand_out.id,
              "handed to " + hand_out.group + ", " + (hand_out.copy.from_retry ? "retry " : "") +
                  "sequence " + std::to_string(hand_out.copy.sequence) + ", attempt " +
                  std::to_string(hand_out.attempt));
    });
    network_.OnArrival([this](const std::string& id) { audit_.OnArrived(id); });
    network_.OnStored([this](const std::string& id, SendOutcome outcome, std::uint64_t sequence) {
        audit_.OnStored(id, outcome, sequence);
    });
    disk_.OnStep([this](std::string_view operation, const std::string& path) {
        OnDiskStep(operation, path);
    });
    others_ = std::make_unique<Others>(
        scheduler_, fates_, [this](const std::string& name) { Fault(name); });
}

World::~World() {
    StopBroker();
    for (auto* processes : {&consumers_, &hung_}) {
        for (auto& each : *processes) {
            if (each) {  // One that crashed may not be back yet.
                each->executor.Kill();
            }
        }
    }
    for (auto& each : producers_) {
        each->executor.Kill();
    }
    wires_.Kill();
    fates_.Kill();
}

SimulationReport World::Run() {
    if (plan_.unsynced_log) {
        Fault("unsynced_log");
    }
    StartBroker();
    for (std::size_t seat = 0; seat < seats_.size(); ++seat) {
        consumers_.push_back(nullptr);
        StartConsumer(seat);
    }
    for (int i = 0; i < options_.producers; ++i) {
        StartProducer(i, options_.messages / options_.producers);
    }
    PlanFaults();
    others_->Begin(plan_);
    scheduler_.RunUntil(TimePoint(kLoadTime));
    Heal();
    Settle();
    QuietPhase();
    return Report();
}

std::chrono::nanoseconds World::RandomTime(std::chrono::nanoseconds longest) {
    return std::chrono::nanoseconds(random().Below(static_cast<std::uint64_t>(longest.count())));
}

void World::After(std::chrono::nanoseconds time, Task task) {
    fates_.PostAt(scheduler_.Now() + time, std::move(task));
}

void World::Trace(const std::string& id, const std::string& text) const {
    if (options_.trace.empty() || (!id.empty() && id != options_.trace)) {
        return;
    }
    const auto micros =
        std::chrono::duration_cast<std::chrono::microseconds>(scheduler_.Now().time_since_epoch());
    std::printf("%12.6f  %s\n", static_cast<double>(micros.count()) / 1e6, text.c_str());
}

void World::Fault(const std::string& name) {
    ++faults_[name];
    Trace("", name);
}

/// Whether a loss that is told so may be of what had been handed out. Retention by itself takes
/// nothing that somebody holds, or that waits to come again; nor is anything damaged that must come
/// where the disk does not rot.
bool World::MayTakeSeen(const std::string& text) const {
    return !text.starts_with("retention took") &&
           (plan_.bit_rot || plan_.live_rot || text.find("damaged") == std::string::npos);
}

void World::OnEvent(const env::Event& event) {
    std::string name = "event_" + std::string(env::ToString(event.kind));
    std::replace(name.begin(), name.end(), ' ', '_');
    ++faults_[name];
    Trace("", name + ": " + event.place + ": " + event.text);
    disk_failed_ = disk_failed_ || event.kind == env::EventKind::kStopped;
    if (event.kind == env::EventKind::kLoss) {
        const std::size_t at = event.place.rfind("group ");
        if (at != std::string::npos) {
            const std::string group = event.place.substr(at + 6);
            told_losses_.OnLoss(WhoseLoss(group),
                                event.place,
                                event.text,
                                event.count,
                                group == kAuditors || MayTakeSeen(event.text));
        }
    }
}

// The broker.

void World::StartBroker() {
    if (broker_) {
        return;
    }
    if (std::exchange(power_was_cut_, false)) {
        // What consumers begun meanwhile was on its way to them, or with them, when the power went.
        audit_.OnPowerCut();
    }
    broker_executor_ = std::make_unique<SimExecutor>(scheduler_, NextProcess());
    broker_io_ =
        std::make_unique<SimExecutor>(scheduler_, NextProcess(), random().Chance(0.5) ? 20ms : 1ms);
    Result<std::unique_ptr<broker::Broker>> broker =
        broker::Broker::Open(plan_.MakeBrokerOptions(),
                             broker::BrokerEnvironment{disk_,
                                                       scheduler_,
                                                       *broker_executor_,
                                                       *broker_io_,
                                                       Strand::Mode::kPosted,
                                                       random().Next(),
                                                       *this});
    if (!broker.ok()) {
        // A disk that fails while it starts: the operator tries again.
        Fault("failed_start");
        Trace("", "  " + broker.status().ToString());
        broker_executor_->Kill();
        broker_io_->Kill();
        After(200ms + RandomTime(300ms), [this] { StartBroker(); });
        return;
    }
    broker_ = *std::move(broker);
    OnStarted();
}

void World::OnStarted() {
    network_.SetBroker(broker_.get());
    others_->SetBroker(broker_.get());
    started_ = scheduler_.Now();
    disk_failed_ = false;
    Trace("", "broker started");
    for (const auto& report : broker_->recovery()) {
        Trace("",
              "  incarnation " + std::to_string(report.incarnation) + ", end " +
                  std::to_string(report.end) + ", torn " + std::to_string(report.torn_tail_bytes) +
                  ", corruptions " + std::to_string(report.corruptions.size()));
        for (const auto& each : report.corruptions) {
            if ((each.committed || each.is_unreadable) && !rot_.Explains(each)) {
                damage_.push_back(each.path + " from " + std::to_string(each.file_offset) + ": " +
                                  each.reason);
            }
            Trace("",
                  "    " + std::to_string(each.begin) + " to " + std::to_string(each.end) +
                      (each.committed ? " committed: " : ": ") + each.reason);
        }
    }
}

/// As kill -9 does: nothing that waits runs any more.
void World::StopBroker() {
    closing_ = false;
    if (!broker_) {
        return;
    }
    audit_.OnBrokerDied();
    broker_executor_->Kill();
    broker_io_->Kill();
    others_->SetBroker(nullptr);
    network_.SetBroker(nullptr);
    broker_.reset();
}

void World::Restart(bool power_cut) {
    if (!broker_) {
        return;
    }
    power_cut = power_cut && !plan_.kills_only;
    Fault(power_cut ? "power_cut" : "kill");
    StopBroker();
    disk_.CloseAll();
    if (power_cut) {
        disk_.CutPower();
        audit_.OnPowerCut();
        power_was_cut_ = true;
        if (random().Chance(0.3)) {
            CrashProducer();  // On the same machine.
        }
    } else if (plan_.bit_rot && !healed_) {
        if (const std::string fault = rot_.Strike(LastRefusal()); !fault.empty()) {
            Fault(fault);
        }
    }
    After(10ms + RandomTime(2s), [this] { StartBroker(); });
}

void World::CloseThenRestart() {
    if (!broker_ || closing_) {
        return;
    }
    closing_ = true;
    Fault("clean_close");
    const TimePoint process = started_;
    broker_->Close(
        [this](const Status& status) { Fault(status.ok() ? "closed" : "close_failed"); });
    After(RandomTime(2s), [this, process] {
        if (broker_ && started_ == process) {
            Restart(false);
        }
    });
}

/// A background task is about to do a step: others may be quicker, and some steps are slow.
void World::OnDiskStep(std::string_view operation, std::string_view path) {
    CutAfterRemoval(operation, path);
    WatchRoom();
    LastRefusal();
    if (!plan_.interleaving && !plan_.bad_folders) {
        return;
    }
    if (quiet_ || scheduler_.is_passing_time() || scheduler_.running() == nullptr ||
        scheduler_.running() != broker_io_.get()) {
        return;
    }
    const bool changes_folder =
        operation == "sync folder" || operation == "rename" || operation == "remove";
    std::chrono::nanoseconds pause{};
    if (changes_folder && slow_folders_) {
        pause = RandomTime(300ms);
        slow_until_ = scheduler_.Now() + pause + 2s;
        Fault("slow_folder");
    } else if (plan_.interleaving && random().Chance(0.3)) {
        pause = RandomTime(random().Chance(0.1) ? 20ms : 500us);
        ++faults_["interleaved_step"];
    }
    if (pause.count() > 0) {
        scheduler_.PassTime(scheduler_.Now() + pause, {broker_io_.get(), &fates_});
    }
}

SimulationReport RunSimulation(const SimulationOptions& options) {
    return World(options).Run();
}

}  // namespace qmq::simulation
