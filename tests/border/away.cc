// The broker is away while an application sends as fast as it can: each case (away_case.h) in a
// process of its own, several beside each other. The last line is the verdict, and the exit code
// follows it.

#include <malloc.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/border/away_case.h"
#include "tests/support/child_process.h"

namespace {

using qmq::WhenFull;
using qmq::border::CaseOptions;
using qmq::border::CaseResult;
using qmq::border::Form;
using qmq::testing::ChildProcess;

struct Arguments {
    int seconds = 60;
    int virtual_seconds = 300;
    int at_once = 6;
    int only = -1;
    bool real = true;
    bool is_virtual = true;
    std::string program;
    std::string directory;
};

/// All of them; the number of one is its place.
std::vector<CaseOptions> AllCases(const Arguments& arguments) {
    std::vector<CaseOptions> cases;
    for (int number = 0; number < 96; ++number) {
        CaseOptions one;
        one.is_virtual = number >= 48;
        one.slow = number % 2 == 1;
        one.when_full = number / 2 % 2 == 1 ? WhenFull::kBlock : WhenFull::kFail;
        one.subjects = number / 4 % 2 == 1 ? 20'000 : 1;
        one.limit_bytes = std::size_t{number / 8 % 2 == 1 ? 256U : 16U} << 20;
        one.form = static_cast<Form>(number / 16 % 3);
        one.length =
            std::chrono::seconds(one.is_virtual ? arguments.virtual_seconds : arguments.seconds);
        one.program = arguments.program;
        one.directory = arguments.directory + "/" + std::to_string(number);
        cases.push_back(one);
    }
    return cases;
}

int RunOne(const CaseOptions& options) {
    if (!options.is_virtual) {
        std::filesystem::create_directories(options.directory);
    }
    const CaseResult result = RunCase(options);
    std::printf("%s: %s\n", options.Name().c_str(), result.ToLine().c_str());
    for (const std::string& problem : result.problems) {
        std::printf("  problem: %s\n", problem.c_str());
    }
    std::fflush(stdout);
    std::error_code ignored;
    std::filesystem::remove_all(options.directory, ignored);
    return result.problems.empty() ? 0 : 1;
}

int RunAll(const Arguments& arguments, const char* self) {
    const std::vector<CaseOptions> cases = AllCases(arguments);
    std::vector<std::size_t> chosen;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        if (cases[i].is_virtual ? arguments.is_virtual : arguments.real) {
            chosen.push_back(i);
        }
    }
    std::mutex mutex;
    int failed = 0;
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t at = next++; at < chosen.size(); at = next++) {
            const CaseOptions& one = cases[chosen[at]];
            auto child = ChildProcess::Start({"timeout",
                                              "-s",
                                              "KILL",
                                              std::to_string(arguments.seconds + 400),
                                              self,
                                              "--only",
                                              std::to_string(chosen[at]),
                                              "--seconds",
                                              std::to_string(arguments.seconds),
                                              "--virtual-seconds",
                                              std::to_string(arguments.virtual_seconds),
                                              "--program",
                                              arguments.program,
                                              "--directory",
                                              arguments.directory});
            const pid_t group = child.ok() ? child->pid() : 0;
            const std::string printed =
                child.ok() ? child->ReadAll() : child.status().ToString() + "\n";
            const int code = child.ok() ? child->Wait() : 1;
            if (group > 0) {
                kill(-group, SIGKILL);  // The broker of a case that crashed.
            }
            const std::lock_guard lock(mutex);
            std::fputs(printed.c_str(), stdout);
            if (code != 0) {
                ++failed;
                std::printf(
                    "  FAILED (exit %d): case %zu, %s\n", code, chosen[at], one.Name().c_str());
            }
            std::fflush(stdout);
        }
    };
    std::vector<std::thread> workers;
    for (int i = 0; i < arguments.at_once; ++i) {
        workers.emplace_back(work);
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    std::printf(
        "%s away: %d of %zu cases failed\n", failed == 0 ? "PASS" : "FAIL", failed, chosen.size());
    return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    // What the heap gives back to the system by itself. Without a word of ours it learns from each
    // large piece that is freed, and keeps as much at the end of each of its parts.
    constexpr int kThreshold = 128 << 10;
    mallopt(M_MMAP_THRESHOLD, kThreshold);
    mallopt(M_TRIM_THRESHOLD, kThreshold);
    Arguments arguments;
    std::string which = "both";
    CLI::App app{"Sends as fast as it can while the broker is away."};
    app.add_option("--seconds", arguments.seconds, "How long the broker is away");
    app.add_option("--virtual-seconds", arguments.virtual_seconds, "The same, of the fake one");
    app.add_option("--at-once", arguments.at_once, "Cases beside each other");
    app.add_option("--only", arguments.only, "One case by its number, in this process");
    app.add_option("--which", which, "real, virtual or both")
        ->check(CLI::IsMember({"real", "virtual", "both"}));
    app.add_option("--program", arguments.program, "The program `qmq`");
    app.add_option("--directory", arguments.directory, "For what brokers keep");
    CLI11_PARSE(app, argc, argv);
    arguments.real = which != "virtual";
    arguments.is_virtual = which != "real";
    if (arguments.directory.empty()) {
        arguments.directory = std::filesystem::temp_directory_path() / "qmq-away";
    }
    if (arguments.only >= 0) {
        return RunOne(AllCases(arguments).at(static_cast<std::size_t>(arguments.only)));
    }
    return RunAll(arguments, argv[0]);
}
