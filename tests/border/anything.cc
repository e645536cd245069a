// Rounds of an application that does anything from anywhere (round.h), each in a process of its
// own. Prints what was done where, and what went wrong; the last line is the verdict, and the exit
// code follows it.

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/border/pairs.h"
#include "tests/border/round.h"
#include "tests/support/child_process.h"

namespace {

using qmq::border::PairTable;
using qmq::border::RoundOptions;
using qmq::testing::ChildProcess;

struct Arguments {
    RoundOptions round;
    std::string transport = "both";
    std::uint64_t count = 10;
    std::uint64_t at_once = 2;
    std::uint64_t least = 0;
    std::string logs = "anything-logs";
    std::string pairs_in;
    std::string pairs_out;
    std::vector<std::string> without;
    bool one = false;
};

/// A kind of problem: how often, and a round that had it.
struct Kind {
    std::uint64_t rounds = 0;
    std::uint64_t seed = 0;
};

struct Sum {
    std::mutex mutex;
    PairTable pairs;
    std::map<std::string, std::uint64_t> counts;  // guarded by mutex
    std::map<std::string, Kind> problems;         // guarded by mutex
    std::uint64_t failed = 0;                     // guarded by mutex
};

constexpr int kMostSeconds = 180;

std::string LogOf(const Arguments& arguments, std::uint64_t seed) {
    return arguments.logs + "/" + std::to_string(seed) + ".log";
}

void AddPairLines(std::istream& lines, PairTable& pairs) {
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string word;
        std::string place;
        std::string thing;
        std::uint64_t count = 0;
        if (words >> word >> place >> thing >> count && word == "pair") {
            pairs.Add(place, thing, count);
        }
    }
}

/// What a sanitizer said in a log, in one line; empty: nothing.
std::string SanitizerIn(const std::string& log) {
    std::ifstream file(log);
    std::string line;
    while (std::getline(file, line)) {
        if (const auto at = line.find("SUMMARY: "); at != std::string::npos) {
            return line.substr(at);
        }
        if (line.find("runtime error: ") != std::string::npos) {
            return line;
        }
    }
    return {};
}

std::string LastLineOf(const std::string& log) {
    std::ifstream file(log);
    std::string line;
    std::string last;
    while (std::getline(file, line)) {
        last = line.empty() ? last : line;
    }
    return last;
}

/// Adds what one round printed, and how it ended.
void Add(
    Sum& sum, std::uint64_t seed, const std::string& log, const std::string& printed, int code) {
    std::istringstream pairs(printed);
    AddPairLines(pairs, sum.pairs);
    const std::lock_guard lock(sum.mutex);
    bool explained = false;
    const auto problem = [&](const std::string& what) {
        Kind& kind = sum.problems[what];
        if (kind.rounds++ == 0) {
            kind.seed = seed;
        }
        explained = true;
    };
    std::istringstream lines(printed);
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string word;
        std::uint64_t count = 0;
        std::string rest;
        words >> word >> count;
        std::getline(words >> std::ws, rest);
        if (word == "count") {
            sum.counts[rest] += count;
        } else if (word == "problem") {
            problem(rest);
        }
    }
    if (const std::string said = SanitizerIn(log); !said.empty()) {
        problem(said);
    }
    if (code != 0 && !explained) {
        problem("the process ended with " + std::to_string(code) + ": " + LastLineOf(log));
    }
    sum.failed += static_cast<std::uint64_t>(explained);
    if (!explained) {
        std::error_code ignored;
        std::filesystem::remove(log, ignored);
    }
}

void RunOne(const Arguments& arguments, const std::string& self, std::uint64_t seed, Sum& sum) {
    const bool grpc =
        arguments.transport == "grpc" || (arguments.transport == "both" && seed % 2 == 0);
    const std::string log = LogOf(arguments, seed);
    // A process group of its own, so that nothing is left of a round that crashed.
    std::vector<std::string> command{
        "timeout",
        "-s",
        "KILL",
        std::to_string(kMostSeconds),
        self,
        "--one",
        "--seed",
        std::to_string(seed),
        "--seconds",
        std::to_string(static_cast<double>(arguments.round.length.count()) / 1'000),
        "--transport",
        grpc ? "grpc" : "inproc",
        "--directory",
        arguments.round.directory + "/" + std::to_string(seed)};
    if (grpc) {
        command.insert(command.end(), {"--program", arguments.round.program});
    }
    for (const std::string& name : arguments.without) {
        command.insert(command.end(), {"--without", name});
    }
    qmq::Result<ChildProcess> child = ChildProcess::Start(command, log);
    if (!child.ok()) {
        return Add(sum, seed, log, "problem 1 " + child.status().ToString() + "\n", 1);
    }
    const pid_t group = child->pid();
    const std::string printed = child->ReadAll();
    const int code = child->Wait();
    kill(-group, SIGKILL);
    Add(sum, seed, log, printed, code);
}

int Judge(const Arguments& arguments, Sum& sum) {
    if (!arguments.pairs_in.empty()) {
        std::ifstream file(arguments.pairs_in);
        AddPairLines(file, sum.pairs);
    }
    if (!arguments.pairs_out.empty()) {
        std::ofstream(arguments.pairs_out) << sum.pairs.Lines();
    }
    std::printf("what was done, and where:\n%s", sum.pairs.Table().c_str());
    for (const auto& [what, count] : sum.counts) {
        std::printf("  %-44s %llu\n", what.c_str(), static_cast<unsigned long long>(count));
    }
    const auto rare = sum.pairs.Below(arguments.least);
    for (const auto& [place, thing] : rare) {
        std::printf("  only %llu times: %s in %s\n",
                    static_cast<unsigned long long>(sum.pairs.count(place, thing)),
                    ToString(thing),
                    ToString(place));
    }
    for (const auto& [what, kind] : sum.problems) {
        std::printf("  problem in %llu rounds (log: %s): %s\n",
                    static_cast<unsigned long long>(kind.rounds),
                    LogOf(arguments, kind.seed).c_str(),
                    what.c_str());
    }
    const bool good = sum.failed == 0 && rare.empty();
    std::printf(
        "%s anything: %llu of %llu rounds failed, %zu pairs were done less than %llu times\n",
        good ? "PASS" : "FAIL",
        static_cast<unsigned long long>(sum.failed),
        static_cast<unsigned long long>(arguments.count),
        rare.size(),
        static_cast<unsigned long long>(arguments.least));
    return good ? 0 : 1;
}

int RunAll(const Arguments& arguments, const std::string& self) {
    std::filesystem::create_directories(arguments.logs);
    Sum sum;
    std::atomic<std::uint64_t> next{0};
    std::vector<std::thread> workers;
    for (std::uint64_t i = 0; i < arguments.at_once; ++i) {
        workers.emplace_back([&] {
            for (std::uint64_t at = next++; at < arguments.count; at = next++) {
                RunOne(arguments, self, arguments.round.seed + at, sum);
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    return Judge(arguments, sum);
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    double length = 3;
    CLI::App app{"Does anything from anywhere with the SDK, beside a broker in bad weather."};
    app.add_option("--seed", arguments.round.seed, "The first");
    app.add_option("--count", arguments.count, "Rounds");
    app.add_option("--seconds", length, "Of a round");
    app.add_option("--at-once", arguments.at_once, "Rounds beside each other");
    app.add_option(
           "--transport", arguments.transport, "Even seeds over gRPC, odd ones inproc, or one")
        ->check(CLI::IsMember({"both", "inproc", "grpc"}));
    app.add_option("--program", arguments.round.program, "The program `qmq`");
    app.add_option("--directory", arguments.round.directory, "For brokers that keep something");
    app.add_option("--logs", arguments.logs, "Where logs of rounds that fail are left");
    app.add_option("--least", arguments.least, "How often each pair must have been done");
    app.add_option("--pairs-in", arguments.pairs_in, "Pairs of an earlier run, which count too");
    app.add_option("--pairs-out", arguments.pairs_out, "Where to write the pairs");
    app.add_option("--without", arguments.without, "A place or a thing to leave out");
    app.add_flag("--one", arguments.one, "One round, in this process");
    CLI11_PARSE(app, argc, argv);
    for (const std::string& name : arguments.without) {
        if (!qmq::border::LeaveOut(name)) {
            std::fprintf(stderr, "--without %s: there is no such place or thing\n", name.c_str());
            return 2;
        }
    }
    arguments.round.length = std::chrono::milliseconds(static_cast<std::int64_t>(length * 1'000));
    if (arguments.round.directory.empty()) {
        arguments.round.directory = std::filesystem::temp_directory_path() / "qmq-anything";
    }
    arguments.round.grpc = arguments.transport == "grpc";
    if (arguments.round.program.empty() && arguments.transport != "inproc") {
        std::fprintf(stderr, "--transport %s needs --program\n", arguments.transport.c_str());
        return 2;
    }
    return arguments.one ? qmq::border::RunRound(arguments.round) : RunAll(arguments, argv[0]);
}
