#include <CLI/CLI.hpp>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/id.h"

#include "server/app/client_options.h"
#include "server/app/commands.h"
#include "server/app/message_text.h"
#include "server/app/signals.h"

namespace qmq::app {

namespace {

struct TailArguments {
    ClientArguments client;
    std::string subject;
    std::string group;
    std::vector<std::string> tags;
    bool from_start = false;
    bool json = false;
    std::uint64_t count = 0;
    std::uint32_t for_ms = 0;
};

/// Waits for a count, a time or a signal, whichever comes first.
class TailEnd {
public:
    /// Whether the message counts: the ones after the last wanted, or after one that could not be
    /// printed, are left to the group.
    bool Count(std::uint64_t limit) {
        const std::lock_guard lock(mutex_);
        if ((limit != 0 && seen_ >= limit) || failed_) {
            return false;
        }
        ++seen_;
        if (seen_ == limit) {
            done_ = true;
            changed_.notify_all();
        }
        return true;
    }
    void Stop() {
        const std::lock_guard lock(mutex_);
        done_ = true;
        changed_.notify_all();
    }
    void Fail() {
        const std::lock_guard lock(mutex_);
        failed_ = done_ = true;
        changed_.notify_all();
    }
    void Wait(std::uint32_t for_ms) {
        std::unique_lock lock(mutex_);
        const auto done = [this] { return done_; };
        if (for_ms == 0) {
            changed_.wait(lock, done);
        } else {
            changed_.wait_for(lock, std::chrono::milliseconds(for_ms), done);
        }
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t seen_ = 0;  // guarded by mutex_
    bool done_ = false;       // guarded by mutex_
    bool failed_ = false;     // guarded by mutex_
};

void Run(const TailArguments& arguments) {
    auto signals = std::make_shared<StopSignals>();
    auto end = std::make_shared<TailEnd>();
    Client client = MakeClient(arguments.client, "qmq-tail");
    SubscriptionOptions options;
    options.subject = arguments.subject;
    options.group = arguments.group;
    options.broadcast = arguments.group.empty();
    options.parallelism = 1;  // One line after another.
    options.start = arguments.from_start ? StartPosition::kEarliest : StartPosition::kLatest;
    if (!arguments.tags.empty()) {
        options.tags = AnyOf(arguments.tags);
    }
    const auto handle = [end, &arguments](const Message& message) {
        if (!end->Count(arguments.count)) {
            throw Later(std::chrono::milliseconds(0), "qmq tail had seen enough");
        }
        const std::string line = arguments.json ? ToJsonLine(message) : ToTextLine(message);
        if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0) {
            end->Fail();  // The program says why at its end.
            throw Later(std::chrono::milliseconds(0), "qmq tail could not print it");
        }
    };
    Subscription subscription =
        OrFail(client.Subscribe(std::move(options), handle), kExitUsage, "cannot subscribe");
    // Detached: it sleeps in the system until a signal comes or the process ends.
    std::thread([signals, end] {
        signals->Wait();
        end->Stop();
    }).detach();
    if (const Status ready = client.WaitReady(arguments.subject, std::chrono::seconds(5));
        !ready.ok()) {
        std::fprintf(stderr, "qmq: no connection yet, trying on: %s\n", ready.ToString().c_str());
    }
    end->Wait(arguments.for_ms);
    const Status closed = subscription.Close(std::chrono::seconds(5));
    (void)client.Shutdown(std::chrono::seconds(1));
    if (!closed.ok()) {
        Fail(kExitFailed, "not everything could be acked: " + closed.ToString());
    }
}

}  // namespace

void AddTailCommand(CLI::App& program) {
    auto arguments = std::make_shared<TailArguments>();
    CLI::App* command = program.add_subcommand("tail", "Print messages as they come");
    AddClientArguments(*command, arguments->client);
    command->add_option("subject", arguments->subject, "Of what")->required();
    command->add_option("--group",
                        arguments->group,
                        "Consume as a member of this group, acking; without it just watch, taking "
                        "nothing from anybody");
    command->add_option(
        "--tag", arguments->tags, "Only messages with one of these tags; may be repeated");
    command->add_flag(
        "--from-start", arguments->from_start, "Begin with the oldest message that is kept");
    command->add_flag("--json", arguments->json, "One JSON object a line");
    command->add_option("--count", arguments->count, "End after so many messages; 0: never");
    command->add_option("--for-ms", arguments->for_ms, "End after this time; 0: never");
    command->callback([arguments] { Run(*arguments); });
}

}  // namespace qmq::app
