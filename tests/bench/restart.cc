// How soon a broker that was killed answers again: fills a log, kills `qmq dev` in the midst of
// sends, starts it, and measures until the first persisted answer and until the first message is
// pulled and acked. Prints one line of JSON.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tests/bench/support/restarts.h"

namespace {

using qmq::bench::FillLog;
using qmq::bench::FirstAck;
using qmq::bench::KillUnderLoadAndStart;
using qmq::bench::Median;
using qmq::bench::ServerProcess;
using qmq::bench::Spread;

struct Arguments {
    qmq::bench::ServerProcessOptions server;
    double gibibytes = 2;
    int runs = 5;
};

void Run(const Arguments& arguments) {
    ServerProcess server(arguments.server);
    server.Start();
    const std::vector<std::string> subjects{"order.paid"};
    const std::uint64_t messages =
        FillLog(server, subjects, static_cast<std::uint64_t>(arguments.gibibytes * (1U << 30)));
    std::vector<double> persisted;
    std::vector<double> acked;
    for (int i = 0; i < arguments.runs; ++i) {
        const FirstAck times = KillUnderLoadAndStart(server, subjects, "ticketing");
        persisted.push_back(times.persisted.count());
        acked.push_back(times.acked.count());
        std::fprintf(stderr,
                     "kill %d: persisted after %.1f ms, acked after %.1f ms\n",
                     i + 1,
                     persisted.back(),
                     acked.back());
    }
    std::printf(
        "{\"peer\":\"qmq\",\"job\":\"restart\",\"rate\":0,\"messages\":%llu,\"persisted_ms\":%.1f,"
        "\"acked_ms\":%.1f,\"persisted\":\"%s\",\"acked\":\"%s\",\"log_bytes\":%llu,"
        "\"settings\":\"qmq dev --durability %s; 128 B bodies, 1 subject; killed under load, %d "
        "times; from before exec\"}\n",
        static_cast<unsigned long long>(messages),
        Median(persisted),
        Median(acked),
        Spread(persisted).c_str(),
        Spread(acked).c_str(),
        static_cast<unsigned long long>(server.DataBytes()),
        arguments.server.durability.c_str(),
        arguments.runs);
    server.Stop();
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{"Measures how soon a killed broker answers again."};
    app.add_option("--program", arguments.server.program, "The qmq program")->required();
    app.add_option("--data", arguments.server.data, "An empty directory")->required();
    app.add_option("--durability", arguments.server.durability, "memory, page_cache or fsync")
        ->capture_default_str();
    app.add_option("--gib", arguments.gibibytes, "Size of the log")
        ->capture_default_str()
        ->check(CLI::Range(0.001, 1'000.0));
    app.add_option("--runs", arguments.runs, "How many kills")
        ->capture_default_str()
        ->check(CLI::Range(1, 1'000));
    CLI11_PARSE(app, argc, argv);
    try {
        Run(arguments);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_restart: %s\n", error.what());
        return 1;
    }
}
