#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include "qmq/clock.h"

#include "server/app/commands.h"
#include "server/app/config.h"
#include "server/app/server_node.h"
#include "server/app/signals.h"
#ifdef QMQ_PLANTED_BUGS
#include "server/env/planted_bug.h"
#endif

namespace qmq::app {

namespace {

void Say(const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);  // Somebody may wait for the line that says "ready".
}

std::string Address(const ServerConfig& config, int port) {
    const bool everywhere = config.grpc_listen == "0.0.0.0" || config.grpc_listen == "[::]";
    return (config.tls_certificate_file.empty() ? "grpc://" : "grpcs://") +
           (everywhere ? std::string("127.0.0.1") : config.grpc_listen) + ":" +
           std::to_string(port);
}

void SayHowToTry(const std::string& uri) {
    Say("");
    Say("Try it in another terminal:");
    Say("  qmq tail --uri " + uri + " greetings");
    Say("  qmq send --uri " + uri + " greetings --body hello");
    Say("Stop with Ctrl-C.");
    Say("");
}

/// Runs until a signal asks it to stop. The exit code of the program.
int Serve(const ServerConfig& config, bool hints) {
    const StopSignals signals;
    // Whoever reads the lines may go first, as in `qmq dev | tee log` at Ctrl-C: a line that nobody
    // takes must not end the server before it has drained.
    std::signal(SIGPIPE, SIG_IGN);
    for (const std::string& warning : config.warnings) {
        std::fprintf(stderr, "qmq: warning: %s\n", warning.c_str());
    }
    const TimePoint begin = SystemClock().Now();
    Result<std::unique_ptr<ServerNode>> node = ServerNode::Start(config);
    if (!node.ok()) {
        std::fprintf(stderr, "qmq: cannot start: %s\n", node.status().ToString().c_str());
        return kExitFailed;
    }
    for (const std::string& line : DescribeRecovery((*node)->recovery())) {
        std::fprintf(stderr, "qmq: %s\n", line.c_str());
    }
    const auto took =
        std::chrono::duration_cast<std::chrono::milliseconds>(SystemClock().Now() - begin);
    const std::string uri = Address(config, (*node)->grpc_port());
    Say("data     " +
        (config.memory ? std::string("in memory, gone with this process") : config.store_root));
    Say("promise  " +
        std::string(ToString(config.memory ? Durability::kMemory : config.default_durability)) +
        " unless a subject says otherwise");
    Say("gRPC     " + uri);
    if (hints) {
        SayHowToTry(uri);
    }
    Say("ready after " + std::to_string(took.count()) + " ms");

    const int signal = signals.Wait();
    Say(std::string(signal == SIGTERM ? "SIGTERM" : "SIGINT") + ": draining, at most " +
        std::to_string(config.shutdown_timeout.count()) + " s");
    const Status stopped = (*node)->Stop();
    if (!stopped.ok()) {
        std::fprintf(stderr, "qmq: %s\n", stopped.ToString().c_str());
        return kExitFailed;
    }
    Say("drained and closed");
    return kExitOk;
}

[[noreturn]] void End(int code) {
    throw CLI::RuntimeError(code);
}

/// Reads and checks a durability given on the command line.
Durability DurabilityOption(const std::string& text) {
    const Result<Durability> durability = ParseDurability(text);
    if (!durability.ok()) {
        std::fprintf(
            stderr, "qmq: --durability: %s\n", std::string(durability.status().message()).c_str());
        End(kExitUsage);
    }
    return *durability;
}

#ifdef QMQ_PLANTED_BUGS
/// For tests of the audits. A release has no such option.
void AddPlantOption(CLI::App& command) {
    command.add_option_function<std::string>(
        "--plant",
        [](const std::string& name) {
            const Result<env::PlantedBug> bug = env::ParsePlantedBug(name);
            if (!bug.ok()) {
                throw CLI::ValidationError("--plant", std::string(bug.status().message()));
            }
            env::Plant(*bug);
        },
        "Switch on a planted bug (tests only)");
}
#endif

}  // namespace

void AddDevCommand(CLI::App& program) {
    struct Options {
        std::string directory = "./qmq-data";
        bool memory = false;
        std::uint16_t port = 7777;
        std::string listen = "127.0.0.1";
        std::string durability = "fsync";
        std::uint32_t shards = 1;
    };
    auto options = std::make_shared<Options>();
    CLI::App* command = program.add_subcommand(
        "dev", "Everything in one process, without configuration, for your own machine");
    command->add_option("--data", options->directory, "Where the data lies")->capture_default_str();
    command->add_flag("--memory", options->memory, "Keep the data in memory only");
    command->add_option("--port", options->port, "Port for gRPC; 0 takes a free one")
        ->capture_default_str();
    command->add_option("--listen", options->listen, "Address to listen on")->capture_default_str();
    command->add_option("--durability", options->durability, "memory, page_cache or fsync")
        ->capture_default_str();
    command
        ->add_option("--shards", options->shards, "Logs side by side; fixed when the data is made")
        ->capture_default_str()
        ->check(CLI::Range(1, 64));
#ifdef QMQ_PLANTED_BUGS
    AddPlantOption(*command);
#endif
    command->callback([options] {
        ServerConfig config;
        config.store_root = options->directory;
        config.memory = options->memory;
        config.grpc_port = options->port;
        config.grpc_listen = options->listen;
        config.default_durability = DurabilityOption(options->durability);
        config.shards = options->shards;
        End(Serve(config, true));
    });
}

void AddBrokerCommand(CLI::App& program) {
    auto path = std::make_shared<std::string>();
    auto describe = std::make_shared<bool>(false);
    CLI::App* command =
        program.add_subcommand("broker", "A broker, as its configuration file says");
    command->add_option("--config", *path, "The file; `key = value` lines");
    command->add_flag(
        "--describe-config", *describe, "Print a file with every key, its default and meaning");
#ifdef QMQ_PLANTED_BUGS
    AddPlantOption(*command);
#endif
    command->callback([path, describe] {
        if (*describe) {
            std::fputs(DescribeConfig().c_str(), stdout);
            return;
        }
        if (path->empty()) {
            std::fprintf(
                stderr,
                "qmq: broker needs --config FILE; `qmq broker --describe-config` prints one\n");
            End(kExitUsage);
        }
        const Result<ServerConfig> config = LoadConfig(*path);
        if (!config.ok()) {
            std::fprintf(stderr, "%s\n", std::string(config.status().message()).c_str());
            End(kExitUsage);
        }
        End(Serve(*config, false));
    });
}

}  // namespace qmq::app
