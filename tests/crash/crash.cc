// Kills the real program with SIGKILL again and again while clients send and consume, and some of
// the consumers too; fills its disk if it is told to; and audits what they were told against what
// they saw. The last line is the verdict; the exit code follows it.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/random.h"

#include "tests/crash/common.h"
#include "tests/crash/events.h"
#include "tests/crash/filler.h"
#include "tests/crash/inspect.h"
#include "tests/crash/judges.h"
#include "tests/crash/load.h"
#include "tests/crash/member.h"
#include "tests/crash/member_processes.h"
#include "tests/crash/server.h"
#include "tests/crash/witness.h"
#include "tests/support/audit.h"

namespace qmq::testing {
namespace {

using namespace std::chrono_literals;

struct Arguments {
    std::string program;
    std::string data;
    std::string work;
    std::string durability = "fsync";
    std::string plant;
    int kills = 20;
    std::uint64_t seed = 1;
    int rate = 2'000;         // Messages a second, all producers together.
    int longest_pause = 400;  // Between two kills, in ms.
    bool fill = false;        // The disk of `data` belongs to the test, which fills and frees it.
    std::uint64_t least_full = 0;
    std::uint64_t least_told = 0;
    bool trace = false;  // Keeps all that members say in `work`, for whoever looks for a cause.
    // Of the processes that are a part of the test.
    std::string self;
    std::string member;
    std::string client_id;
    std::string uri;
    std::string pipe;
    std::string filled;
};

constexpr int kProducers = 3;
constexpr int kMembers = 2;  // Of each group, in this process; two more are processes.
constexpr int kKillsBetweenCalms = 60;
constexpr auto kCalm = 5s;

std::vector<std::string> ConfigOf(const Arguments& arguments) {
    if (!arguments.fill) {
        return {};
    }
    // Small segments, so that room is asked for often; no high-water mark before the disk itself
    // says no; and a limit, so that there is room at all.
    return {"store.segment.bytes = 131072",
            "grpc.max_message_bytes = 65536",
            "store.disk.high_water.percent = 100",
            "store.retention.bytes = 16777216"};
}

class Test {
public:
    explicit Test(const Arguments& arguments)
        : arguments_(arguments),
          random_(arguments.seed),
          server_({.program = arguments.program,
                   .data = arguments.data,
                   .work = arguments.work,
                   .durability = arguments.durability,
                   .plant = arguments.plant,
                   .config = ConfigOf(arguments)}),
          trace_(arguments.trace ? arguments.work + "/trace" : std::string()),
          reader_(arguments.work + "/events",
                  [this](const MemberEvent& event) {
                      if (trace_.is_open()) {
                          trace_ << ToLine(event);
                      }
                      judges_.On(event);
                  }),
          events_(arguments.work + "/events"),
          witness_(arguments.work + "/witness",
                   [this](TimePoint from, TimePoint until) { judges_.OnStall(from, until); }) {}

    int Run() {
        const TimePoint begin = SystemClock().Now();
        StartAll();
        for (int kill = 0; kill < arguments_.kills;) {
            kill += KillServer(arguments_.kills - kill);
            KillConsumers();
            if (kill % 50 < 2) {
                std::printf("%d kills, %llu messages told\n", kill, Number(audit().told_count()));
                std::fflush(stdout);
            }
            if (kill % kKillsBetweenCalms < 2 && kill + 2 < arguments_.kills && kill > 2) {
                Calm();
                EndInventory();
                FillDisk();
            }
        }
        Calm();
        StopAll();
        return Say(std::chrono::duration_cast<std::chrono::seconds>(SystemClock().Now() - begin));
    }

private:
    static unsigned long long Number(std::uint64_t number) { return number; }
    Audit& audit() { return judges_.audit(); }

    void StartAll() {
        server_.Start();
        for (int i = 0; i < kMembers; ++i) {
            for (const GroupPlan& plan : GroupPlans()) {
                const std::string name = plan.group + std::to_string(i);
                members_.push_back(std::make_unique<Member>(server_.uri(),
                                                            name,
                                                            name,
                                                            std::vector<GroupPlan>{plan},
                                                            random_.Next(),
                                                            events_));
            }
        }
        processes_.emplace(MemberProcesses::Settings{.program = arguments_.self,
                                                     .uri = server_.uri(),
                                                     .pipe = arguments_.work + "/events",
                                                     .seed = random_.Next()},
                           events_);
        const std::chrono::microseconds pause(1'000'000 * kProducers / arguments_.rate);
        for (int i = 0; i < kProducers; ++i) {
            producers_.push_back(std::make_unique<LoadProducer>(server_.uri(), i, pause, audit()));
        }
        if (arguments_.fill) {
            filler_.emplace(arguments_.self, arguments_.data + "/..", random_.Next() >> 1);
            probe_.emplace(server_.uri(), *filler_, audit());
            FillDisk();
        }
    }

    /// At any moment, and now and then while it recovers from the one before. How many kills it
    /// was.
    int KillServer(int left) {
        Pause(std::chrono::milliseconds(
            20 + random_.Below(static_cast<std::uint64_t>(arguments_.longest_pause))));
        judges_.OnTrouble();
        server_.Kill();
        int kills = 1;
        if (left > 1 && random_.Chance(0.1)) {
            server_.StartAndKillAfter(std::chrono::milliseconds(random_.Below(60)));
            ++kills;
        }
        server_.Start(arguments_.fill);
        judges_.OnTrouble();
        return kills;
    }

    void KillConsumers() {
        if (random_.Chance(0.25)) {
            processes_->KillOne();
        }
    }

    /// Reads the dead letters while the server is not killed, so it sees each once; and often,
    /// before retention takes them.
    void TakeInventory() {
        const std::string name = kInventory + std::to_string(inventories_++);
        inventory_ = std::make_unique<Member>(server_.uri(),
                                              name,
                                              name,
                                              std::vector<GroupPlan>{InventoryPlan()},
                                              random_.Next(),
                                              events_);
    }

    void EndInventory() {
        inventory_->Stop();
        inventory_.reset();
    }

    /// From here to `FreeDisk` each kill of the server comes before the trouble of the last is
    /// over.
    void FillDisk() {
        if (filler_) {
            judges_.OnTrouble();
            filler_->Start();
        }
    }

    void FreeDisk() {
        if (filler_) {
            filler_->Stop();
            judges_.OnTrouble();
        }
    }

    /// Nothing is broken for a while, so what is due has to come. But consumers may still die.
    void Calm() {
        FreeDisk();
        TakeInventory();
        Pause(Judges::kGrace + Judges::kComeBack);
        processes_->KillOne();
        processes_->KillOne();
        Pause(kCalm);
    }

    void StopAll() {
        for (auto& producer : producers_) {
            producer->Stop();
        }
        if (probe_) {
            probe_->Stop();
        }
        WaitUntilNothingIsMissing();
        EndInventory();
        for (auto& member : members_) {
            member->Stop();
        }
        processes_->Stop();
        events_.Write({.kind = MemberEvent::kEnd});
        server_.Stop();
    }

    std::uint64_t MissingCount() const {
        return judges_.audit().missing_count() + judges_.unaudited_count();
    }

    /// Waits until all that was told persisted has come, and all that waits, as long as something
    /// goes on coming.
    void WaitUntilNothingIsMissing() {
        std::uint64_t before = MissingCount();
        TimePoint progress = SystemClock().Now();
        while (before > 0 && SystemClock().Now() - progress < 30s) {
            Pause(20ms);  // The audit has no event to wait for; nothing depends on this time.
            if (const std::uint64_t now = MissingCount(); now < before) {
                before = now;
                progress = SystemClock().Now();
            }
        }
        if (before > 0) {
            SayGroups();
        }
    }

    void SayGroups() const {
        const Result<std::vector<GroupInfo>> groups = AskGroups(server_.uri(), "");
        for (const GroupInfo& group : groups.ok() ? *groups : std::vector<GroupInfo>()) {
            std::printf("%s\n", Describe(group).c_str());
        }
    }

    /// Of the run on a small disk: how it went, and whether that was enough to mean something.
    bool SayDisk(const Audit::Verdict& verdict) const {
        if (!probe_) {
            return true;
        }
        const std::uint64_t full = probe_->episode_count();
        std::printf(
            "disk full in the midst of a round %llu times, %llu sends refused for want of "
            "room, %llu starts refused; %llu messages accepted\n",
            Number(full),
            Number(probe_->refused_count()),
            Number(server_.refused_starts()),
            Number(verdict.persisted));
        if (full >= arguments_.least_full && verdict.persisted >= arguments_.least_told) {
            return true;
        }
        std::printf("NOT ENOUGH: at least %llu times full and %llu messages\n",
                    Number(arguments_.least_full),
                    Number(arguments_.least_told));
        return false;
    }

    int Say(std::chrono::seconds took) {
        const Audit::Verdict verdict = audit().Judge();
        std::printf("%s\n", verdict.ToString().c_str());
        std::printf(
            "%llu consumers killed, %llu redeliveries timed while nothing was broken, %llu "
            "dead letters that nobody read; the machine stood still %llu times, at most %lld ms\n",
            Number(processes_->kill_count()),
            Number(judges_.timed_count()),
            Number(judges_.unaudited_count()),
            Number(witness_.stall_count()),
            static_cast<long long>(witness_.longest().count()));
        const bool enough = SayDisk(verdict);
        const bool ok = verdict.ok() && judges_.unaudited_count() == 0 && enough;
        std::printf(
            "%s crash: %d kills, %s%s, lost %llu, never sent %llu, unexplained %llu (%lld s)\n",
            ok ? "PASS" : "FAIL",
            arguments_.kills,
            arguments_.durability.c_str(),
            probe_ ? " on a disk that fills up" : "",
            Number(verdict.lost),
            Number(verdict.never_sent),
            Number(verdict.problem_count),
            static_cast<long long>(took.count()));
        return ok ? 0 : 1;
    }

    const Arguments arguments_;
    Random random_;
    Judges judges_;
    Server server_;
    std::ofstream trace_;
    EventReader reader_;
    EventWriter events_;
    Witness witness_;
    std::vector<std::unique_ptr<Member>> members_;
    std::unique_ptr<Member> inventory_;
    int inventories_ = 0;
    std::optional<MemberProcesses> processes_;
    std::vector<std::unique_ptr<LoadProducer>> producers_;
    std::optional<Filler> filler_;
    std::optional<Probe> probe_;
};

}  // namespace
}  // namespace qmq::testing

int main(int argc, char** argv) {
    qmq::testing::Arguments arguments;
    arguments.self = argv[0];
    CLI::App app{"Kills `qmq` under load and audits the result."};
    app.add_option("--program", arguments.program, "The qmq program");
    app.add_option("--data", arguments.data, "A directory that does not exist yet");
    app.add_option("--work", arguments.work, "A directory for what the test itself keeps");
    app.add_option("--durability", arguments.durability, "fsync or page_cache");
    app.add_option("--plant", arguments.plant, "A planted bug to switch on");
    app.add_option("--kills", arguments.kills, "How many");
    app.add_option("--seed", arguments.seed, "Of the moments");
    app.add_option("--rate", arguments.rate, "Messages a second");
    app.add_option("--longest-pause", arguments.longest_pause, "Between two kills, in ms");
    app.add_flag("--fill", arguments.fill, "Fill and free the disk under --data, which is small");
    app.add_option("--least-full", arguments.least_full, "Times that it must have been full");
    app.add_option("--least-told", arguments.least_told, "Messages that must have been accepted");
    app.add_flag("--trace", arguments.trace, "Keep what members say, in the file trace of --work");
    // Of the processes that it starts.
    app.add_option("--member", arguments.member)->group("");
    app.add_option("--client-id", arguments.client_id)->group("");
    app.add_option("--uri", arguments.uri)->group("");
    app.add_option("--pipe", arguments.pipe)->group("");
    app.add_option("--fill-disk", arguments.filled)->group("");
    CLI11_PARSE(app, argc, argv);
    if (!arguments.member.empty()) {
        return qmq::testing::RunMemberProcess(
            arguments.uri, arguments.member, arguments.client_id, arguments.seed, arguments.pipe);
    }
    if (!arguments.filled.empty()) {
        return qmq::testing::RunFillerProcess(arguments.filled, arguments.seed);
    }
    return qmq::testing::Test(arguments).Run();
}
