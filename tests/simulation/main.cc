// Runs seeds and prints what they did. The last line is the verdict; the exit code follows it.

#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>

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
    bool repeat = false;
    bool cut_after_rename = false;
    std::string trace;
};

void PrintFailure(std::uint64_t seed, const SimulationReport& report) {
    std::printf("seed %llu: %s\n",
                static_cast<unsigned long long>(seed),
                report.verdict.ToString().c_str());
}

int Run(const Arguments& arguments) {
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
            .seed = seed, .cut_after_rename = arguments.cut_after_rename, .trace = arguments.trace};
        const SimulationReport report = RunSimulation(options);
        ++ran;
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
            if (arguments.expect_caught || failed >= 5) {
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
        std::printf("%s %s: %s\n",
                    failed > 0 ? "PASS" : "FAIL",
                    arguments.plant.c_str(),
                    failed > 0 ? "caught" : "not caught");
        return failed > 0 ? 0 : 1;
    }
    std::printf("%s simulate: %llu of %llu seeds failed\n",
                failed == 0 ? "PASS" : "FAIL",
                static_cast<unsigned long long>(failed),
                static_cast<unsigned long long>(ran));
    return failed == 0 ? 0 : 1;
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
    app.add_flag("--cut-after-rename",
                 arguments.cut_after_rename,
                 "Power cuts right after a rename with odd seeds, too");
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
    return Run(arguments);
}
