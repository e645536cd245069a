#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "server/app/bench.h"
#include "server/app/commands.h"

namespace qmq::app {

namespace {

std::string Settings(const BenchArguments& arguments) {
    std::string text = arguments.client.uri.substr(0, arguments.client.uri.find(':')) + ", body " +
                       std::to_string(arguments.body_bytes) + " B, 1 property, 1 tag, durability " +
                       (arguments.durability.empty() ? "of the subject" : arguments.durability);
    if (arguments.window != 0) {
        text += ", " + std::to_string(arguments.connections) + " connections x " +
                std::to_string(arguments.window) + " in flight";
    }
    if (arguments.inline_callbacks) {
        text += ", inline callbacks";
    }
    if (arguments.subjects != 1) {
        text += ", " + std::to_string(arguments.subjects) + " subjects";
    }
    if (arguments.batch_bytes != 0) {
        text += ", batch " + std::to_string(arguments.batch_bytes) + " B";
    }
    if (arguments.linger_us >= 0) {
        text += ", linger " + std::to_string(arguments.linger_us) + " us";
    }
    if (arguments.job == "consume" || arguments.job == "both") {
        text += ", prefetch " + std::to_string(arguments.prefetch) + ", parallelism " +
                std::to_string(arguments.parallelism) + ", ack each";
    }
    return text;
}

void PrintJson(const BenchArguments& arguments, const BenchResult& result) {
    std::printf(
        "{\"peer\":\"qmq\",\"job\":\"%s\",\"rate\":%.1f", arguments.job.c_str(), result.rate);
    if (result.p50_us && result.p99_us) {
        std::printf(",\"p50_us\":%.1f,\"p99_us\":%.1f", *result.p50_us, *result.p99_us);
    }
    std::printf(",\"messages\":%llu,\"seconds\":%.3f,\"settings\":\"%s\"}\n",
                static_cast<unsigned long long>(result.messages),
                result.seconds,
                Settings(arguments).c_str());
}

void PrintText(const BenchArguments& arguments, const BenchResult& result) {
    std::printf("%s: %.0f messages/s (%llu in %.2f s)\n",
                arguments.job.c_str(),
                result.rate,
                static_cast<unsigned long long>(result.messages),
                result.seconds);
    if (result.p50_us && result.p99_us) {
        std::printf("p50 %.0f us, p99 %.0f us\n", *result.p50_us, *result.p99_us);
    }
    std::printf("%s\n", Settings(arguments).c_str());
}

}  // namespace

void AddBenchCommand(CLI::App& program) {
    auto arguments = std::make_shared<BenchArguments>();
    CLI::App* command = program.add_subcommand("bench", "Measure a cluster with its own client");
    AddClientArguments(*command, arguments->client);
    command
        ->add_option("job",
                     arguments->job,
                     "publish: pipelined, acknowledged; consume: a backlog, an ack for each; both: "
                     "at once; latency: "
                     "send to handler at a steady rate")
        ->required()
        ->check(CLI::IsMember({"publish", "consume", "both", "latency"}));
    command->add_option("--seconds", arguments->seconds, "How long to send")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 3'600.0));
    command->add_option("--messages",
                        arguments->messages,
                        "So many, in place of --seconds; the backlog of consume");
    command->add_option("--body", arguments->body_bytes, "Bytes of a body")
        ->capture_default_str()
        ->check(CLI::Range(8, 1 << 20));
    command->add_option("--rate", arguments->rate, "latency: messages a second")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 1e6));
    command->add_option("--connections", arguments->connections, "With --window: clients")
        ->capture_default_str()
        ->check(CLI::Range(1, 1'024));
    command->add_option(
        "--window", arguments->window, "Messages in flight on each connection; 0: as many as fit");
    command->add_option("--subjects", arguments->subjects, "Spread over so many subjects")
        ->capture_default_str()
        ->check(CLI::Range(1, 1'000'000));
    command->add_option("--parallelism", arguments->parallelism, "Handlers at once")
        ->capture_default_str()
        ->check(CLI::Range(1, 1'024));
    command->add_option("--prefetch", arguments->prefetch, "Messages held by the consumer")
        ->capture_default_str()
        ->check(CLI::Range(1, 65'536));
    command->add_option(
        "--batch-bytes", arguments->batch_bytes, "Largest batch; 0: the SDK's default");
    command->add_option("--linger-us", arguments->linger_us, "Linger; negative: the SDK's default");
    command->add_option("--durability",
                        arguments->durability,
                        "memory, page_cache or fsync; else the subject's own");
    command->add_flag("--inline-callbacks",
                      arguments->inline_callbacks,
                      "Callbacks on the transport's threads (ClientOptions::inline_callbacks)");
    command->add_flag("--json", arguments->json, "One JSON object on one line");
    command->callback([arguments] {
        const BenchResult result = RunBench(*arguments);
        arguments->json ? PrintJson(*arguments, result) : PrintText(*arguments, result);
    });
}

}  // namespace qmq::app
