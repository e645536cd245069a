// Runs sequences of calls from seeds, each ended by the loss of the process. The last line is the
// verdict; the exit code follows it.

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>

#include "server/env/planted_bug.h"
#include "tests/anything/choices.h"
#include "tests/anything/runner.h"
#include "tests/anything/socket_world.h"
#include "tests/anything/world.h"

namespace {

using qmq::anything::RandomChoices;
using qmq::anything::RunOptions;
using qmq::anything::RunResult;
using qmq::anything::SequenceOptions;
using qmq::anything::SequenceReport;
using qmq::anything::ServerUnderTest;
using qmq::anything::Target;

struct Arguments {
    RunOptions run;
    std::string target = "broker";
    std::string plant;
    bool expect_caught = false;
    bool trace = false;
    bool repeat = false;
    ServerUnderTest server;
};

SequenceReport RunSeed(const Arguments& arguments, std::uint64_t seed, bool trace) {
    RandomChoices choices(seed);
    const SequenceOptions options{
        .target = arguments.target == "broker" ? Target::kBroker : Target::kService,
        .trace = trace};
    return arguments.target == "socket" ? RunSocketSequence(choices, options, arguments.server)
                                        : RunSequence(choices, options);
}

/// Whether a seed does the same twice, by what it counts.
bool IsRepeatable(const Arguments& arguments) {
    for (std::uint64_t i = 0; i < arguments.run.count; ++i) {
        const std::uint64_t seed = arguments.run.first_seed + i;
        const SequenceReport one = RunSeed(arguments, seed, false);
        const SequenceReport two = RunSeed(arguments, seed, false);
        if (one.counters != two.counters || one.problems != two.problems) {
            std::printf("FAIL anything: seed %llu did something else the second time\n",
                        static_cast<unsigned long long>(seed));
            return false;
        }
    }
    return true;
}

void Explain(const Arguments& arguments, std::uint64_t seed) {
    std::printf("the calls of seed %llu:\n", static_cast<unsigned long long>(seed));
    qmq::anything::RunApart(arguments.run.most_seconds, [&] {
        for (const std::string& problem : RunSeed(arguments, seed, true).problems) {
            std::printf("  problem: %s\n", problem.c_str());
        }
    });
}

int Run(const Arguments& arguments) {
    const auto begin = std::chrono::steady_clock::now();
    if (arguments.repeat && !IsRepeatable(arguments)) {
        return 1;
    }
    const RunResult result = RunAll(arguments.run, [&](std::uint64_t seed) {
        return RunSeed(arguments, seed, arguments.trace);
    });
    if (result.failed > 0 && !arguments.trace && !arguments.expect_caught) {
        Explain(arguments, result.first_failed_seed);
    }
    for (const auto& [name, count] : result.counters) {
        std::printf("  %-28s %llu\n", name.c_str(), static_cast<unsigned long long>(count));
    }
    std::printf("%llu sequences against the %s, %.1f s\n",
                static_cast<unsigned long long>(result.ran),
                arguments.target.c_str(),
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    if (arguments.expect_caught) {
        std::printf("%s %s: %s\n",
                    result.failed > 0 ? "PASS" : "FAIL",
                    arguments.plant.c_str(),
                    result.failed > 0 ? "caught" : "not caught");
        return result.failed > 0 ? 0 : 1;
    }
    std::printf("%s anything: %llu of %llu sequences failed\n",
                result.failed == 0 ? "PASS" : "FAIL",
                static_cast<unsigned long long>(result.failed),
                static_cast<unsigned long long>(result.ran));
    return result.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{"Calls anything from seeds, loses the process, and audits the next start."};
    app.add_option("--seed", arguments.run.first_seed, "The first");
    app.add_option("--count", arguments.run.count, "How many");
    app.add_option("--stride", arguments.run.stride, "From one to the next");
    app.add_option("--failures", arguments.run.most_failures, "Stop after so many that failed");
    app.add_option("--target", arguments.target, "What is called")
        ->check(CLI::IsMember({"broker", "service", "socket"}));
    app.add_option("--plant", arguments.plant, "A planted bug to switch on");
    app.add_option("--program", arguments.server.program, "The program `qmq`; target socket only");
    app.add_option("--data", arguments.server.directory, "Its data; target socket only");
    app.add_flag("--expect-caught", arguments.expect_caught, "Succeed when a sequence fails");
    app.add_flag("--repeat", arguments.repeat, "Run each twice: both must do the same");
    app.add_flag("--trace", arguments.trace, "Print every call");
    CLI11_PARSE(app, argc, argv);
    if (arguments.expect_caught) {
        arguments.run.most_failures = 1;
    }
    if (arguments.target == "socket" &&
        (arguments.server.program.empty() || arguments.server.directory.empty())) {
        std::fprintf(stderr, "--target socket needs --program and --data\n");
        return 2;
    }
    arguments.server.plant = arguments.plant;
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
