#include "tests/anything/world.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "qmq/subject.h"

#include "server/broker/actions.h"
#include "server/broker/broker.h"
#include "server/env/simulated_file_system.h"
#include "server/store/log_inspector.h"
#include "tests/anything/callers.h"
#include "tests/anything/engine.h"
#include "tests/anything/ledger.h"
#include "tests/anything/log_census.h"
#include "tests/anything/reader.h"
#include "tests/anything/service_engine.h"
#include "tests/support/manual_executor.h"

namespace qmq::anything {
namespace {

using namespace std::chrono_literals;
using testing::ManualClock;
using testing::ManualExecutor;

/// So many timers run one after another; then the clock jumps, and the rest are all due at once.
constexpr int kMostStops = 300;

/// What a crash takes with it.
struct Process {
    explicit Process(ManualClock& clock) : executor(clock), io(clock) {}
    ManualExecutor executor;
    ManualExecutor io;
    std::unique_ptr<broker::Broker> broker;
    std::unique_ptr<Engine> engine;
};

class World {
public:
    World(Choices& choices, const SequenceOptions& options)
        : choices_(choices),
          options_(options),
          disk_(choices.Below(1U << 30U)),
          broker_options_(MakeOptions()),
          ledger_(Terms{.all_is_kept = retention_ == Retention::kNone}),
          callers_(choices, ledger_, counters_, options) {}

    SequenceReport Run() {
        const int lives = choices_.Percent(75) ? 1 : 2;
        for (int life = 0; life < lives && ledger_.problems().empty(); ++life) {
            if (!Start()) {
                break;
            }
            Live();
            Lose();
        }
        broker_options_.max_queued_requests = 65'536;  // The audit is not there to be refused.
        if (ledger_.problems().empty() && Start()) {
            AuditStart();
        }
        over_ = true;
        process_.reset();
        Count();
        return {ledger_.problems(), counters_};
    }

private:
    enum class Retention { kNone, kTime, kBytes, kConsumed };

    broker::BrokerOptions MakeOptions() {
        broker::BrokerOptions options;
        options.directory = "/data";
        options.shards = choices_.Percent(80) ? 1 : 2;
        options.subject_durability = {{"p.*", Durability::kPageCache},
                                      {"m.*", Durability::kMemory}};
        options.flush_interval = choices_.Percent(50) ? 50ms : 500ms;
        options.retry_delay = choices_.Percent(50) ? 0ms : 5s;
        options.max_queued_requests = choices_.Percent(95) ? 65'536 : 2;
        options.max_in_flight_per_consumer = choices_.Percent(80) ? 65'536 : 4;
        forget_groups_ = choices_.Percent(10);
        options.idle_group_retention = std::chrono::hours(forget_groups_ ? 1 : 24 * 3'000);
        options.store.segment_bytes = 64U << 10U;
        options.store.index_cache_bytes = 1U << 20U;
        options.store.limits.max_batch_bytes = 32U << 10U;
        options.store.retention = std::chrono::hours(24 * 3'650);
        retention_ =
            choices_.Percent(70) ? Retention::kNone : static_cast<Retention>(1 + choices_.Below(3));
        if (retention_ == Retention::kTime) {
            options.store.retention = 10s;
        } else if (retention_ == Retention::kBytes) {
            options.store.retention_bytes = 128U << 10U;
        }
        options.store.drop_consumed = retention_ == Retention::kConsumed;
        return options;
    }

    bool Start() {
        process_ = std::make_unique<Process>(clock_);
        Result<std::unique_ptr<broker::Broker>> broker =
            broker::Broker::Open(broker_options_,
                                 broker::BrokerEnvironment{disk_,
                                                           clock_,
                                                           process_->executor,
                                                           process_->io,
                                                           Strand::Mode::kPosted,
                                                           choices_.Below(1U << 30U)});
        if (!broker.ok()) {
            ledger_.Problem("a start failed: " + broker.status().ToString());
            return false;
        }
        ++counters_["start"];
        process_->broker = *std::move(broker);
        process_->engine = options_.target == Target::kBroker
                               ? MakeBrokerEngine(*process_->broker)
                               : MakeServiceEngine(*process_->broker, clock_);
        for (const store::RecoveryReport& report : process_->broker->recovery()) {
            for (const auto& each : report.corruptions) {
                if (each.committed) {
                    ledger_.Problem("a start found damage in what was synced: " + each.path +
                                    " from " + std::to_string(each.file_offset) + ": " +
                                    each.reason);
                }
            }
        }
        callers_.Connect(*process_->engine, clock_.WallNow());
        callers_.Trace("started; retention " + std::to_string(static_cast<int>(retention_)));
        return true;
    }

    void Live() {
        const std::uint64_t calls = 20 + choices_.Below(181);
        for (std::uint64_t i = 0; i < calls && choices_.more(); ++i) {
            if (choices_.Percent(90)) {
                ++counters_["calls"];
                callers_.SetTime(clock_.WallNow());
                callers_.Call();
            } else {
                Disturb();
            }
            if (choices_.Percent(70)) {
                Settle();
            } else {
                RunSome(choices_.Below(6));
            }
        }
    }

    /// What happens to the process beside calls.
    void Disturb() {
        const std::uint64_t dice = choices_.Below(100);
        if (dice < 65) {
            constexpr std::array<std::chrono::milliseconds, 12> kTimes{
                1ms, 20ms, 100ms, 500ms, 1s, 1s, 2s, 6s, 61s, 1h, 13h, 8 * 24h};
            const std::chrono::milliseconds time = choices_.Pick(kTimes);
            callers_.Trace("time passes: " + std::to_string(time.count()) + " ms");
            Advance(time);
            ++counters_["time passed"];
        } else if (dice < 80) {
            constexpr std::array<std::chrono::milliseconds, 6> kJumps{
                -1s, 1s, -1h, 1h, -4 * 24h, 4 * 24h};
            const std::chrono::milliseconds jump = choices_.Pick(kJumps);
            callers_.Trace("the wall clock jumps by " + std::to_string(jump.count()) + " ms");
            clock_.JumpWall(jump);
            ++counters_["wall clock jumped"];
        } else {
            full_ = !full_;
            callers_.Trace(full_ ? "the disk is full" : "the disk has room again");
            disk_.SetFull(full_);
            ++counters_["disk full"];
        }
    }

    bool RunOne() {
        return process_->executor.RunOne() || process_->io.RunOne() || process_->engine->Pump();
    }
    void Settle() {
        while (RunOne()) {
        }
    }
    /// A few tasks, of this thread or that one: the next call comes in the midst of it.
    void RunSome(std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t which = choices_.Below(3);
            which == 0   ? process_->executor.RunOne()
            : which == 1 ? process_->io.RunOne()
                         : process_->engine->Pump();
        }
    }

    void Advance(std::chrono::nanoseconds by) {
        const TimePoint end = clock_.Now() + by;
        Settle();
        for (int stops = 0; stops < kMostStops; ++stops) {
            const TimePoint next =
                std::min(process_->executor.next_timer(), process_->io.next_timer());
            if (next > end) {
                break;
            }
            clock_.Advance(std::max(next - clock_.Now(), TimePoint::duration(0)));
            Settle();
        }
        clock_.Advance(end - clock_.Now());
        Settle();
        if (forget_groups_ && by >= 1h) {
            ledger_.OnGroupsForgotten();
        }
    }

    void Lose() {
        const Loss loss = choices_.Percent(50) ? Loss::kPowerCut : Loss::kKill;
        callers_.Trace(loss == Loss::kPowerCut ? "power cut" : "kill");
        ++counters_[loss == Loss::kPowerCut ? "power cut" : "kill"];
        process_.reset();
        disk_.CloseAll();
        if (loss == Loss::kPowerCut) {
            disk_.CutPower();
        }
        disk_.Heal();
        full_ = false;
        ledger_.OnLoss(loss);
    }

    // The audit of a start.

    void AuditStart() {
        const std::set<std::string> subjects = ListAll();
        const auto groups = ledger_.groups();
        AllReader reader(*process_->engine, ledger_, callers_, [this] { return !over_; });
        reader.ReadSubjects(subjects);
        reader.ReadSubjects(ledger_.subjects());
        reader.ReadGroups(groups);
        // Leases and graces of the life before end, and what waits is due.
        for (const std::chrono::nanoseconds time : std::initializer_list<std::chrono::nanoseconds>{
                 1s, 10s, 61s, 1h, 12h, 10s, 8 * 24h, 10s, 365 * 24h, 10s, 10s}) {
            Advance(time);
        }
        // What was buried meanwhile lies in the dead-letter subjects.
        reader.ReadSubjects(ListAll());
        Settle();
        ListAll();
        ledger_.Judge();
        CheckLag(groups);
    }

    std::set<std::string> ListAll() {
        std::set<std::string> all;
        bool answered = false;
        process_->engine->ListSubjects([&](const Result<std::vector<SubjectInfo>>& subjects) {
            answered = subjects.ok();
            for (const SubjectInfo& info : subjects.ok() ? *subjects : std::vector<SubjectInfo>()) {
                all.insert(info.subject);
            }
        });
        Settle();
        bool groups_answered = false;
        process_->engine->ListGroups("", [&](const Result<std::vector<GroupInfo>>& groups) {
            groups_answered = groups.ok();
        });
        Settle();
        if (!answered || !groups_answered) {
            ledger_.Problem("after the start a listing is not answered");
        }
        return all;
    }

    void CheckLag(const std::vector<std::pair<std::string, std::string>>& groups) {
        for (const auto& [subject, group] : groups) {
            process_->engine->ListGroups(
                subject, [this, name = group](const Result<std::vector<GroupInfo>>& infos) {
                    for (const GroupInfo& info : infos.ok() ? *infos : std::vector<GroupInfo>()) {
                        if (info.group == name && info.lag_count != 0) {
                            ledger_.Problem(
                                "group " + name + " of " + info.subject + " does not move: lag " +
                                std::to_string(info.lag_count) + ", in flight " +
                                std::to_string(info.in_flight_count) + ", waiting " +
                                std::to_string(info.waiting_retry_count) + " " + info.waits_for);
                        }
                    }
                });
            Settle();
        }
    }

    void Count() {
        ledger_.CountInto(counters_);
        for (std::uint32_t shard = 0; shard < broker_options_.shards; ++shard) {
            const std::string error =
                CountActions(disk_, "/data/shard-" + std::to_string(shard), counters_);
            if (!error.empty()) {
                ledger_.Problem(error);
            }
        }
    }

    Choices& choices_;
    const SequenceOptions options_;
    ManualClock clock_;
    env::SimulatedFileSystem disk_;
    Retention retention_ = Retention::kNone;
    bool forget_groups_ = false;
    bool full_ = false;
    bool over_ = false;
    Counters counters_;
    broker::BrokerOptions broker_options_;
    Ledger ledger_;
    Callers callers_;
    std::unique_ptr<Process> process_;
};

}  // namespace

SequenceReport RunSequence(Choices& choices, const SequenceOptions& options) {
    return World(choices, options).Run();
}

}  // namespace qmq::anything
