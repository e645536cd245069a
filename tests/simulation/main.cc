// Runs seeds and prints what they did. The last line is the verdict; the exit code follows it.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "server/env/planted_bug.h"
#include "tests/simulation/simulation.h"

namespace {

using qmq::simulation::RunSimulation;
using qmq::simulation::SimulationOptions;
using qmq::simulation::SimulationReport;

struct Arguments {
    std::uint64_t seed = 1;
    std::uint64_t count = 1;
    std::uint64_t stride = 1;  // With n processes, each takes every n-th seed.
    std::string plant;
    bool expect_caught = false;
    std::uint64_t most_failures = 5;
    bool repeat = false;
    bool cut_after_rename = false;
    std::vector<std::string> without;
    std::string trace;
};

void PrintFailure(std::uint64_t seed, const SimulationReport& report) {
    std::printf("seed %llu: %s\n",
                static_cast<unsigned long long>(seed),
                report.verdict.ToString().c_str());
}

void PrintVerdictOnPlanted(const Arguments& arguments, bool caught) {
    std::printf("%s %s: %s\n",
                caught ? "PASS" : "FAIL",
                arguments.plant.c_str(),
                caught ? "caught" : "not caught");
}

/// `ran_count` is the number of seeds that have ended, also for those who look from outside.
int Run(const Arguments& arguments, std::atomic<std::uint64_t>& ran_count) {
    const auto begin = std::chrono::steady_clock::now();
    std::map<std::string, std::uint64_t> faults;
    std::uint64_t messages = 0;
    std::uint64_t duplicates = 0;
    std::uint64_t failed = 0;
    std::uint64_t hash = 0;
    double hours = 0;
    std::uint64_t ran = 0;
    for (std::uint64_t i = 0; i < arguments.count; ++i) {
        const std::uint64_t seed = arguments.seed + i * arguments.stride;
        const SimulationOptions options{
            .seed = seed,
            .cut_after_rename = arguments.cut_after_rename,
            .without = {arguments.without.begin(), arguments.without.end()},
            .trace = arguments.trace};
        const SimulationReport report = RunSimulation(options);
        ran_count = ++ran;
        messages += report.verdict.sent;
        duplicates += report.verdict.duplicates;
        hours += std::chrono::duration<double, std::ratio<3600>>(report.virtual_time).count();
        hash ^= report.hash;
        for (const auto& [name, count] : report.faults) {
            faults[name] += count;
        }
        if (arguments.repeat && RunSimulation(options).hash != report.hash) {
            std::printf("FAIL simulate: seed %llu gave another hash the second time\n",
                        static_cast<unsigned long long>(seed));
            return 1;
        }
        if (!report.ok()) {
            ++failed;
            PrintFailure(seed, report);
            if (arguments.expect_caught || failed >= arguments.most_failures) {
                break;
            }
        }
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf(
        "%llu seeds, %llu messages, %llu duplicates explained, %.1f virtual hours, hash %016llx, "
        "%.1f s\n",
        static_cast<unsigned long long>(ran),
        static_cast<unsigned long long>(messages),
        static_cast<unsigned long long>(duplicates),
        hours,
        static_cast<unsigned long long>(hash),
        seconds);
    for (const auto& [name, count] : faults) {
        std::printf("  %-22s %llu\n", name.c_str(), static_cast<unsigned long long>(count));
    }
    if (arguments.expect_caught) {
        PrintVerdictOnPlanted(arguments, failed > 0);
        return failed > 0 ? 0 : 1;
    }
    std::printf("%s simulate: %llu of %llu seeds failed\n",
                failed == 0 ? "PASS" : "FAIL",
                static_cast<unsigned long long>(failed),
                static_cast<unsigned long long>(ran));
    return failed == 0 ? 0 : 1;
}

/// In a process of its own: an engine that dies is a finding of its seed.
int RunApart(const Arguments& arguments) {
    using Count = std::atomic<std::uint64_t>;
    void* shared =
        mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        std::perror("mmap");
        return 2;
    }
    auto* ran = new (shared) Count(0);
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const int result = Run(arguments, *ran);
        std::exit(result);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        std::perror("fork");
        return 2;
    }
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    const auto count = static_cast<unsigned long long>(ran->load());
    std::printf("seed %llu: the engine died of signal %d\n%llu seeds\n",
                static_cast<unsigned long long>(arguments.seed) + count * arguments.stride,
                WTERMSIG(status),
                count + 1);
    if (arguments.expect_caught) {
        PrintVerdictOnPlanted(arguments, true);
        return 0;
    }
    std::printf("FAIL simulate: the engine died\n");
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{"Simulates clients, network, broker and disk from seeds."};
    app.add_option("--seed", arguments.seed, "The first");
    app.add_option("--count", arguments.count, "How many");
    app.add_option("--stride", arguments.stride, "From one to the next");
    app.add_flag("--repeat", arguments.repeat, "Run each twice: the event hash must be the same");
    app.add_option("--plant", arguments.plant, "A planted bug to switch on");
    app.add_flag("--expect-caught", arguments.expect_caught, "Succeed when a seed fails");
    app.add_option("--most-failures", arguments.most_failures, "Stop after so many failed seeds");
    app.add_flag("--cut-after-rename",
                 arguments.cut_after_rename,
                 "Power cuts right after a rename with odd seeds, too");
    app.add_option("--without",
                   arguments.without,
                   "Parts of the world that are left out, as world_plan.h names them");
    app.add_option("--trace", arguments.trace, "Print what happens to the message with this id");
    CLI11_PARSE(app, argc, argv);
#ifdef QMQ_PLANTED_BUGS
    if (!arguments.plant.empty()) {
        const qmq::Result<qmq::env::PlantedBug> bug = qmq::env::ParsePlantedBug(arguments.plant);
        if (!bug.ok()) {
            std::fprintf(stderr, "--plant: %s\n", bug.status().ToString().c_str());
            return 2;
        }
        qmq::env::Plant(*bug);
    }
#else
    if (!arguments.plant.empty()) {
        std::fprintf(stderr,
                     "--plant: this build has no planted bugs; configure with the dev preset\n");
        return 2;
    }
#endif
    return RunApart(arguments);
}
