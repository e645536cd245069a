#include "tests/anything/socket_world.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "qmq/clock.h"

#include "server/env/file_system.h"
#include "tests/anything/callers.h"
#include "tests/anything/ledger.h"
#include "tests/anything/log_census.h"
#include "tests/anything/reader.h"
#include "tests/anything/socket_pipe.h"
#include "tests/anything/wire_engine.h"
#include "tests/support/child_process.h"

namespace qmq::anything {
namespace {

using namespace std::chrono_literals;

class SocketWorld {
public:
    SocketWorld(Choices& choices, const SequenceOptions& options, const ServerUnderTest& server)
        : choices_(choices),
          server_(server),
          shards_(choices.Percent(80) ? 1 : 2),
          ledger_(Terms{.all_is_kept = true, .time_passes = false}),
          callers_(choices, ledger_, counters_, options) {
        std::filesystem::remove_all(server_.directory);
    }

    SequenceReport Run() {
        if (Start()) {
            Live();
            Kill();
            ledger_.OnLoss(Loss::kKill);
            if (Start()) {
                AuditStart();
                Kill();
            }
        }
        Count();
        if (ledger_.problems().empty()) {
            std::filesystem::remove_all(server_.directory);
        }
        return {ledger_.problems(), counters_};
    }

private:
    bool Start() {
        std::vector<std::string> command{server_.program,
                                         "dev",
                                         "--data",
                                         server_.directory,
                                         "--port",
                                         "0",
                                         "--shards",
                                         std::to_string(shards_)};
        if (!server_.plant.empty()) {
            command.insert(command.end(), {"--plant", server_.plant});
        }
        Result<testing::ChildProcess> child =
            testing::ChildProcess::Start(command, server_.directory + ".stderr");
        if (!child.ok()) {
            ledger_.Problem("the program cannot be run: " + child.status().ToString());
            return false;
        }
        child_.emplace(*std::move(child));
        const Result<std::string> line = child_->WaitForLine("gRPC", 30s);
        const Result<std::string> ready = line.ok() ? child_->WaitForLine("ready", 30s) : line;
        if (!ready.ok()) {
            ledger_.Problem("a start failed: " + ready.status().ToString());
            return false;
        }
        ++counters_["start"];
        engine_ = MakeWireEngine(MakeSocketPipe("127.0.0.1:" + line->substr(line->rfind(':') + 1)));
        callers_.Connect(*engine_, SystemClock().WallNow());
        return true;
    }

    void Live() {
        const std::uint64_t calls = 20 + choices_.Below(181);
        for (std::uint64_t i = 0; i < calls; ++i) {
            ++counters_["calls"];
            callers_.Call();
            // Some calls are answered before the next one, some are not.
            for (std::uint64_t n = choices_.Below(6); n > 0 && engine_->Pump(); --n) {
            }
        }
        // And some never.
        for (std::uint64_t n = choices_.Below(200); n > 0 && engine_->Pump(); --n) {
        }
        CheckAlive();
    }

    /// Only our signal may end it.
    void CheckAlive() {
        bool answered = false;
        engine_->ListSubjects(
            [&](const Result<std::vector<SubjectInfo>>& all) { answered = all.ok(); });
        Wait([&] { return answered; });
        if (!answered) {
            ledger_.Problem("the server answers no more before it is killed");
        }
    }

    void Kill() {
        callers_.Trace("kill");
        ++counters_["kill"];
        child_->Kill();
        ending_ = true;
        engine_.reset();
        ending_ = false;
    }

    template <typename Done>
    void Wait(Done done) {
        const TimePoint deadline = SystemClock().Now() + 10s;
        while (!done() && SystemClock().Now() < deadline) {
            engine_->Pump();
        }
    }

    void AuditStart() {
        AllReader reader(*engine_, ledger_, callers_, [this] { return !ending_; });
        const std::set<std::string> subjects = ListAll();
        reader.ReadSubjects(subjects);
        reader.ReadSubjects(ledger_.subjects());
        reader.ReadGroups(ledger_.groups());
        Wait([&] { return ledger_.AllRead(); });
        ListAll();
        ledger_.Judge();
    }

    std::set<std::string> ListAll() {
        std::set<std::string> all;
        bool subjects_answered = false;
        bool groups_answered = false;
        engine_->ListSubjects([&](const Result<std::vector<SubjectInfo>>& infos) {
            subjects_answered = infos.ok();
            for (const SubjectInfo& info : infos.ok() ? *infos : std::vector<SubjectInfo>()) {
                all.insert(info.subject);
            }
        });
        engine_->ListGroups(
            "", [&](const Result<std::vector<GroupInfo>>& infos) { groups_answered = infos.ok(); });
        Wait([&] { return subjects_answered && groups_answered; });
        if (!subjects_answered || !groups_answered) {
            ledger_.Problem("after the start a listing is not answered");
        }
        return all;
    }

    void Count() {
        ledger_.CountInto(counters_);
        for (int shard = 0; shard < shards_; ++shard) {
            const std::string error =
                CountActions(env::RealFileSystem(),
                             server_.directory + "/shard-" + std::to_string(shard),
                             counters_);
            if (!error.empty()) {
                ledger_.Problem(error);
            }
        }
    }

    Choices& choices_;
    const ServerUnderTest server_;
    const int shards_;
    Counters counters_;
    Ledger ledger_;
    Callers callers_;
    bool ending_ = false;
    std::optional<testing::ChildProcess> child_;
    std::unique_ptr<Engine> engine_;
};

}  // namespace

SequenceReport RunSocketSequence(Choices& choices,
                                 const SequenceOptions& options,
                                 const ServerUnderTest& server) {
    return SocketWorld(choices, options, server).Run();
}

}  // namespace qmq::anything
