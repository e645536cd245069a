#include <charconv>
#include <cmath>

#include "tests/bench/peers/peer_bench.h"

namespace qmq::bench {
namespace {

[[noreturn]] void Refuse(const std::string& what) {
    throw std::invalid_argument(what);
}

template <typename Number>
Number ParseNumber(std::string_view name, std::string_view text, Number least, Number most) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !(value >= least) ||
        !(value <= most)) {
        Refuse(std::string(name) + ": '" + std::string(text) + "' is not a number in [" +
               std::to_string(least) + ", " + std::to_string(most) + "]");
    }
    return value;
}

std::pair<std::string, std::string> ParseSetting(std::string_view name, std::string_view text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) {
        Refuse(std::string(name) + ": '" + std::string(text) + "' is not KEY=VALUE");
    }
    return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

Job ParseJob(std::string_view text) {
    for (const Job job : {Job::kPublish, Job::kConsume, Job::kBoth, Job::kLatency}) {
        if (text == JobName(job)) return job;
    }
    Refuse("'" + std::string(text) + "' is not a job: publish, consume, both or latency");
}

void Apply(Options& options, std::string_view name, std::string_view value) {
    constexpr std::uint64_t kMany = 1'000'000'000;
    if (name == "--port") {
        options.port = ParseNumber<std::uint16_t>(name, value, 1, 65535);
    } else if (name == "--seconds") {
        const double seconds = ParseNumber<double>(name, value, 0.1, 600);
        options.duration = std::chrono::milliseconds(std::llround(seconds * 1000));
    } else if (name == "--messages") {
        options.messages = ParseNumber<std::uint64_t>(name, value, 1, kMany);
    } else if (name == "--rate") {
        options.rate = ParseNumber<double>(name, value, 1, 1e6);
    } else if (name == "--body") {
        options.body_bytes = ParseNumber<std::size_t>(name, value, sizeof(Stamp), 1 << 20);
    } else if (name == "--window") {
        options.window = ParseNumber<std::uint64_t>(name, value, 1, kMany);
    } else if (name == "--batch") {
        options.batch = ParseNumber<std::uint64_t>(name, value, 1, kMany);
    } else if (name == "--set") {
        options.producer_set.push_back(ParseSetting(name, value));
    } else if (name == "--set-consumer") {
        options.consumer_set.push_back(ParseSetting(name, value));
    } else {
        Refuse("unknown option '" + std::string(name) + "'");
    }
}

}  // namespace

std::string_view JobName(Job job) {
    switch (job) {
        case Job::kPublish:
            return "publish";
        case Job::kConsume:
            return "consume";
        case Job::kBoth:
            return "both";
        case Job::kLatency:
            return "latency";
    }
    return "?";
}

Options ParseOptions(std::span<const char* const> arguments) {
    if (arguments.empty()) Refuse("no job given");
    Options options;
    options.job = ParseJob(arguments[0]);
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        const std::string_view name = arguments[i];
        if (name == "--fsync") {
            options.fsync = true;
            continue;
        }
        if (i + 1 == arguments.size())
            Refuse(std::string(name) + ": unknown, or without its value");
        Apply(options, name, arguments[++i]);
    }
    if (options.port == 0) Refuse("--port is missing: scripts/bench/peer NAME start prints it");
    if (options.job == Job::kConsume && options.messages == 0) options.messages = 1'000'000;
    return options;
}

std::string_view Usage() {
    return R"(JOB --port PORT [options]
  publish   pipelined sends, each acknowledged by the server
  consume   a backlog of --messages (1000000), each message acknowledged
  both      publish and consume at the same time, a connection each
  latency   --rate sends a second, from send to handler

  --seconds N         how long (3); not with --messages
  --messages N        ends after so many
  --rate N            messages a second of the latency job (1000)
  --body BYTES        (128)
  --window N          messages sent and not yet acknowledged
  --batch N           messages read and acknowledged in one request, where there is such a thing
  --fsync             the server syncs before it acknowledges
  --set KEY=VALUE     handed to the library's producer as it is; --set-consumer: to its consumer
)";
}

}  // namespace qmq::bench
