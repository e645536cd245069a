// Kills the real program with SIGKILL again and again while clients send and consume, and audits
// what they were told against what they saw. The last line is the verdict; the exit code follows
// it.

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/client.h"
#include "qmq/grpc.h"
#include "qmq/random.h"

#include "tests/support/audit.h"
#include "tests/support/child_process.h"

namespace qmq::testing {
namespace {

using namespace std::chrono_literals;

struct Arguments {
    std::string program;
    std::string data;
    std::string durability = "fsync";
    std::string plant;
    int kills = 20;
    std::uint64_t seed = 1;
    int rate = 2'000;  // Messages a second, all producers together.
};

constexpr int kProducers = 3;
constexpr int kConsumersPerGroup = 3;
constexpr const char* kSubject = "order.paid";

[[noreturn]] void Die(const std::string& why) {
    std::printf("FAIL crash: %s\n", why.c_str());
    std::fflush(stdout);
    std::_Exit(1);
}

/// The program under test, always on the same port and data.
class Server {
public:
    explicit Server(const Arguments& arguments) : arguments_(arguments) {}

    void Start() {
        Spawn();
        Ready();
    }

    /// Starts and kills at once: recovery itself is interrupted.
    void StartAndKillAfter(std::chrono::milliseconds time) {
        Spawn();
        std::this_thread::sleep_for(time);  // The moment of the kill is the fault that is injected.
        child_->Kill();
    }

    void Kill() { child_->Kill(); }

    /// Stops it as an operator would.
    void Stop() {
        child_->Signal(SIGTERM);
        const std::string printed = child_->ReadAll();
        if (const int code = child_->Wait(); code != 0) {
            Die("SIGTERM ended the program with " + std::to_string(code) + ": " + printed);
        }
    }

    std::string uri() const { return "grpc://127.0.0.1:" + std::to_string(port_); }

private:
    void Spawn() {
        std::vector<std::string> command{arguments_.program,
                                         "dev",
                                         "--data",
                                         arguments_.data,
                                         "--port",
                                         std::to_string(port_),
                                         "--durability",
                                         arguments_.durability};
        if (!arguments_.plant.empty()) {
            command.insert(command.end(), {"--plant", arguments_.plant});
        }
        Result<ChildProcess> child = ChildProcess::Start(command, arguments_.data + ".stderr");
        if (!child.ok()) {
            Die(child.status().ToString());
        }
        child_.emplace(*std::move(child));
    }

    void Ready() {
        const Result<std::string> line = child_->WaitForLine("gRPC", 30s);
        const Result<std::string> ready = line.ok() ? child_->WaitForLine("ready", 30s) : line;
        if (!ready.ok()) {
            Die("the program did not start: " + ready.status().ToString());
        }
        if (port_ == 0) {
            port_ = std::atoi(line->substr(line->rfind(':') + 1).c_str());
        }
    }

    const Arguments& arguments_;
    int port_ = 0;
    std::optional<ChildProcess> child_;
};

ClientOptions OptionsFor(const std::string& uri, const std::string& name) {
    ClientOptions options;
    options.uri = uri;
    options.app_code = name;
    options.transports = {GrpcTransport()};
    options.initial_reconnect_backoff = 5ms;
    options.max_reconnect_backoff = 50ms;
    options.handler_threads = 2;
    options.log = [](LogLevel, std::string_view) {};  // Lost connections are the point.
    return options;
}

/// Sends at a steady rate from a thread of its own until it is told to stop.
class LoadProducer {
public:
    LoadProducer(const std::string& uri, const Arguments& arguments, int number, Audit& audit)
        : audit_(audit),
          name_("p" + std::to_string(number)),
          pause_(std::chrono::microseconds(1'000'000 * kProducers / arguments.rate)),
          client_(Client::Create(OptionsFor(uri, name_)).value()),
          producer_(client_.MakeProducer({.timeout = 60s}).value()),
          thread_([this] { Run(); }) {}

    void Stop() {
        stop_.store(true);
        thread_.join();
        if (const Status flushed = producer_.Flush(90s); !flushed.ok()) {
            Die(name_ + ": " + flushed.ToString());
        }
        (void)client_.Shutdown(5s);
    }

private:
    void Run() {
        TimePoint next = SystemClock().Now();
        for (std::uint64_t i = 0; !stop_.load(); ++i) {
            std::this_thread::sleep_until(next);  // The pace of the load.
            next += pause_;
            const std::string id = name_ + "-" + std::to_string(i);
            const std::string body = "body of " + id;
            Message message(kSubject);
            message.SetId(id).SetBody(body).Set("n", static_cast<std::int64_t>(i)).AddTag("t");
            audit_.OnSend({id, body});
            producer_.Send(std::move(message), [this, id](const SendReceipt& receipt) {
                audit_.OnTold(id, receipt.outcome, receipt.attempts, receipt.durability);
            });
        }
    }

    Audit& audit_;
    const std::string name_;
    const std::chrono::microseconds pause_;
    std::atomic<bool> stop_{false};
    Client client_;
    Producer producer_;
    std::thread thread_;
};

/// Acks most, and now and then fails, asks for a retry, or forgets.
class LoadConsumer {
public:
    LoadConsumer(
        const std::string& uri, std::string group, int number, std::uint64_t seed, Audit& audit)
        : audit_(audit),
          group_(std::move(group)),
          random_(seed),
          client_(Client::Create(OptionsFor(uri, group_ + std::to_string(number))).value()) {
        SubscriptionOptions options;
        options.subject = kSubject;
        options.group = group_;
        options.start = StartPosition::kEarliest;
        options.prefetch_count = 200;
        options.retry = {
            .max_attempts = 60'000, .initial_backoff = 10ms, .multiplier = 1, .max_backoff = 10ms};
        Result<Subscription> subscription = client_.SubscribeManual(
            std::move(options), [this](Delivery delivery) { Handle(std::move(delivery)); });
        if (!subscription.ok()) {
            Die(subscription.status().ToString());
        }
    }

    void Stop() { (void)client_.Shutdown(10s); }

private:
    void Handle(Delivery delivery) {
        const Message& message = delivery.message();
        audit_.OnHandled(group_, std::string(message.id()), message.body(), message.attempt());
        std::uint64_t dice = 0;
        {
            const std::lock_guard lock(mutex_);
            dice = random_.Below(100);
        }
        if (dice == 0) {
            return;  // Forgotten: the SDK hands it back.
        }
        if (dice < 4) {
            delivery.RetryIn(std::chrono::milliseconds(dice), "asked for by the test");
            return;
        }
        if (dice < 6) {
            delivery.Nack("failed by the test");
            return;
        }
        const std::string id(message.id());
        delivery.Ack([this, id](const Status& status) {
            if (status.ok()) {
                audit_.OnAckConfirmed(group_, id);
            }
        });
    }

    Audit& audit_;
    const std::string group_;
    std::mutex mutex_;
    Random random_;  // guarded by mutex_
    Client client_;
};

/// Waits until all that was told persisted has come, as long as something goes on coming.
void WaitUntilNothingIsMissing(const Audit& audit) {
    std::uint64_t before = audit.missing_count();
    TimePoint progress = SystemClock().Now();
    while (audit.missing_count() > 0) {
        std::this_thread::sleep_for(
            20ms);  // The audit has no event to wait for; nothing depends on this time.
        if (audit.missing_count() < before) {
            before = audit.missing_count();
            progress = SystemClock().Now();
        } else if (SystemClock().Now() - progress > 30s) {
            return;  // Lost: the verdict says so.
        }
    }
}

int Run(const Arguments& arguments) {
    Audit audit;
    audit.AddGroup("ticketing");
    audit.AddGroup("accounting");
    Random random(arguments.seed);
    Server server(arguments);
    server.Start();
    const TimePoint begin = SystemClock().Now();

    std::vector<std::unique_ptr<LoadConsumer>> consumers;
    for (const char* group : {"ticketing", "accounting"}) {
        for (int i = 0; i < kConsumersPerGroup; ++i) {
            consumers.push_back(
                std::make_unique<LoadConsumer>(server.uri(), group, i, random.Next(), audit));
        }
    }
    std::vector<std::unique_ptr<LoadProducer>> producers;
    for (int i = 0; i < kProducers; ++i) {
        producers.push_back(std::make_unique<LoadProducer>(server.uri(), arguments, i, audit));
    }
    for (int kill = 0; kill < arguments.kills; ++kill) {
        // At any moment, and now and then while it recovers from the one before.
        std::this_thread::sleep_for(std::chrono::milliseconds(20 + random.Below(400)));
        server.Kill();
        if (random.Chance(0.1) && kill + 1 < arguments.kills) {
            server.StartAndKillAfter(std::chrono::milliseconds(random.Below(60)));
            ++kill;
        }
        server.Start();
        if ((kill + 1) % 50 < 2) {
            std::printf("%d kills, %llu messages told\n",
                        kill + 1,
                        static_cast<unsigned long long>(audit.told_count()));
            std::fflush(stdout);
        }
    }
    for (auto& producer : producers) {
        producer->Stop();
    }
    WaitUntilNothingIsMissing(audit);
    for (auto& consumer : consumers) {
        consumer->Stop();
    }
    server.Stop();
    const Audit::Verdict verdict = audit.Judge();
    const auto took = std::chrono::duration_cast<std::chrono::seconds>(SystemClock().Now() - begin);
    std::printf("%s\n", verdict.ToString().c_str());
    std::printf("%s crash: %d kills, %s, lost %llu, never sent %llu, unexplained %llu (%lld s)\n",
                verdict.ok() ? "PASS" : "FAIL",
                arguments.kills,
                arguments.durability.c_str(),
                static_cast<unsigned long long>(verdict.lost),
                static_cast<unsigned long long>(verdict.never_sent),
                static_cast<unsigned long long>(verdict.problem_count),
                static_cast<long long>(took.count()));
    return verdict.ok() ? 0 : 1;
}

}  // namespace
}  // namespace qmq::testing

int main(int argc, char** argv) {
    qmq::testing::Arguments arguments;
    CLI::App app{"Kills `qmq dev` under load and audits the result."};
    app.add_option("--program", arguments.program, "The qmq program")->required();
    app.add_option("--data", arguments.data, "An empty directory")->required();
    app.add_option("--durability", arguments.durability, "fsync or page_cache");
    app.add_option("--plant", arguments.plant, "A planted bug to switch on");
    app.add_option("--kills", arguments.kills, "How many");
    app.add_option("--seed", arguments.seed, "Of the moments");
    app.add_option("--rate", arguments.rate, "Messages a second");
    CLI11_PARSE(app, argc, argv);
    return qmq::testing::Run(arguments);
}
