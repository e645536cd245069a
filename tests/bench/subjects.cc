// Many subjects with several groups each on one broker: what they cost in memory and files, and how
// soon the broker is back with them. The last line is the verdict; the exit code follows it.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/support/restarts.h"

namespace qmq::bench {
namespace {

struct Arguments {
    ServerProcessOptions server;
    std::size_t subjects = 10'000;
    std::size_t groups = 3;
    double gibibytes = 2;
    int runs = 3;
    std::uint64_t most_resident_mb = 150;
    std::uint64_t most_files = 100;
    double most_ms_after_stop = 1'000;
    double most_ms_after_kill = 2'000;
};

constexpr std::size_t kInFlight = 64;
constexpr double kMegabyte = 1e6;

class SubjectsBench {
public:
    explicit SubjectsBench(const Arguments& arguments)
        : arguments_(arguments), server_(arguments.server) {
        for (std::size_t i = 0; i < arguments.subjects; ++i) {
            subjects_.push_back("many." + std::to_string(i));
        }
    }

    /// Whether every limit was kept.
    bool Run() {
        server_.Start();
        Judge("empty", false);
        UseEveryGroup();
        Judge("each group has pulled and acked", true);
        const std::uint64_t messages = FillLog(
            server_, subjects_, static_cast<std::uint64_t>(arguments_.gibibytes * (1U << 30)));
        std::printf("log filled: %llu messages over all subjects, %.2f GiB of files\n",
                    static_cast<unsigned long long>(messages),
                    static_cast<double>(server_.DataBytes()) / (1U << 30));
        Judge("right after filling it at full speed", false);
        CleanRestarts();
        KillRestarts();
        server_.Stop();
        return missed_ == 0;
    }

    int missed() const { return missed_; }

private:
    std::string Group(std::size_t number) const { return "group-" + std::to_string(number); }

    void UseEveryGroup() {
        BrokerCalls calls(server_.address());
        BrokerCalls::RunAll(
            subjects_.size(), kInFlight, [&](std::size_t i, BrokerCalls::Done done) {
                calls.SendOne(subjects_[i], std::move(done));
            });
        const std::size_t groups = subjects_.size() * arguments_.groups;
        BrokerCalls::RunAll(groups, kInFlight, [&](std::size_t i, BrokerCalls::Done done) {
            calls.PullAndAckOne(
                subjects_[i / arguments_.groups], Group(i % arguments_.groups), std::move(done));
        });
        std::printf("%zu subjects x %zu groups: %zu groups have each pulled and acked a message\n",
                    subjects_.size(),
                    arguments_.groups,
                    groups);
    }

    void CleanRestarts() {
        std::vector<double> persisted;
        std::vector<double> acked;
        for (int i = 0; i < arguments_.runs; ++i) {
            server_.Stop();
            Keep(StartToFirstAck(server_, subjects_.front(), Group(0)), persisted, acked);
        }
        JudgeTime("a clean stop", persisted, acked, arguments_.most_ms_after_stop);
        Judge("after a clean stop and start", true);
    }

    void KillRestarts() {
        std::vector<double> persisted;
        std::vector<double> acked;
        for (int i = 0; i < arguments_.runs; ++i) {
            Keep(KillUnderLoadAndStart(server_, subjects_, Group(0)), persisted, acked);
        }
        JudgeTime("kill -9 under load", persisted, acked, arguments_.most_ms_after_kill);
        Judge("after kill -9 and start", true);
    }

    static void Keep(const FirstAck& times,
                     std::vector<double>& persisted,
                     std::vector<double>& acked) {
        persisted.push_back(times.persisted.count());
        acked.push_back(times.acked.count());
    }

    /// Prints what the server costs now; with `limits` it must be within them.
    void Judge(const char* when, bool limits) {
        const ProcessFigures figures = server_.Figures();
        const double resident = static_cast<double>(figures.resident_bytes) / kMegabyte;
        std::printf("%-40s %8.1f MB resident (peak %.1f), %llu open files",
                    when,
                    resident,
                    static_cast<double>(figures.peak_bytes) / kMegabyte,
                    static_cast<unsigned long long>(figures.open_files));
        const bool kept = resident <= static_cast<double>(arguments_.most_resident_mb) &&
                          figures.open_files <= arguments_.most_files;
        Conclude(limits, kept);
    }

    /// The later of the two must be in time.
    void JudgeTime(const char* after,
                   const std::vector<double>& persisted,
                   const std::vector<double>& acked,
                   double most_ms) {
        std::printf("start to first ack after %s: a send persisted %s, a message acked %s",
                    after,
                    Spread(persisted).c_str(),
                    Spread(acked).c_str());
        Conclude(true, Median(acked) <= most_ms);
    }

    void Conclude(bool limits, bool kept) {
        std::printf("%s\n", !limits ? "" : kept ? ": ok" : ": TOO MUCH");
        std::fflush(stdout);
        missed_ += limits && !kept ? 1 : 0;
    }

    const Arguments& arguments_;
    ServerProcess server_;
    std::vector<std::string> subjects_;
    int missed_ = 0;
};

int Run(const Arguments& arguments) {
    std::printf(
        "limits: %llu MB resident, %llu open files, first ack within %.0f ms after a clean stop "
        "and "
        "%.0f ms after kill -9 with %.1f GiB of log (medians of %d)\n",
        static_cast<unsigned long long>(arguments.most_resident_mb),
        static_cast<unsigned long long>(arguments.most_files),
        arguments.most_ms_after_stop,
        arguments.most_ms_after_kill,
        arguments.gibibytes,
        arguments.runs);
    SubjectsBench bench(arguments);
    const bool kept = bench.Run();
    std::printf("%s: %d of its limits broken\n", kept ? "ok" : "broken", bench.missed());
    return kept ? 0 : 1;
}

}  // namespace
}  // namespace qmq::bench

int main(int argc, char** argv) {
    qmq::bench::Arguments arguments;
    CLI::App app{"Measures what many subjects and groups cost."};
    app.add_option("--program", arguments.server.program, "The qmq program")->required();
    app.add_option("--data", arguments.server.data, "An empty directory")->required();
    app.add_option("--durability", arguments.server.durability, "memory, page_cache or fsync")
        ->capture_default_str();
    app.add_option("--subjects", arguments.subjects, "How many")->capture_default_str();
    app.add_option("--groups", arguments.groups, "Of each subject")->capture_default_str();
    app.add_option("--gib", arguments.gibibytes, "Size of the log")->capture_default_str();
    app.add_option("--runs", arguments.runs, "Restarts of each kind")
        ->capture_default_str()
        ->check(CLI::Range(1, 1'000));
    CLI11_PARSE(app, argc, argv);
    try {
        return qmq::bench::Run(arguments);
    } catch (const std::exception& error) {
        std::printf("broken: %s\n", error.what());
        return 1;
    }
}
