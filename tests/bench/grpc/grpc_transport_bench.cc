// What the gRPC transport costs by itself: no SDK above it, the real broker below it, in a process
// of its own. Each figure is one run; take several, and medians.
//
//     grpc_transport_bench --batch-kib 64 --in-flight 8 --seconds 5 --directory /tmp/x
//
// Rows: publish; publish and consume with an ack for each batch; send to delivery, paced.

#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/grpc.h"

#include "plugins/grpc/server/grpc_server.h"
#include "server/broker/broker.h"
#include "server/env/file_system.h"

namespace qmq {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

struct Options {
    std::size_t batch_kib = 64;
    std::size_t body_bytes = 128;
    int in_flight = 8;
    double seconds = 3;
    int per_second = 1'000;
    std::string directory;
    std::string rows = "publish,both,latency";
};

/// The server's process: serves until its standard input ends.
int Serve(const Options& options, int port_pipe, int end_pipe) {
    auto memory = env::MakeMemoryFileSystem();
    env::FileSystem& files = options.directory.empty() ? *memory : env::RealFileSystem();
    ThreadPool io{{1, 1 << 16, "qmq-io"}};
    ThreadPool timers{{1, 1 << 16, "qmq-timer"}};
    broker::BrokerOptions broker_options;
    broker_options.directory = options.directory.empty() ? "memory" : options.directory;
    broker_options.default_durability = Durability::kPageCache;
    broker_options.store.retention_bytes = 512U << 20;
    auto broker = broker::Broker::Open(broker_options, {files, SystemClock(), timers, io});
    if (!broker.ok()) {
        std::cerr << broker.status() << "\n";
        return 1;
    }
    auto server = rpc::GrpcServer::Start({}, **broker);
    if (!server.ok()) {
        std::cerr << server.status() << "\n";
        return 1;
    }
    const int port = (*server)->port();
    char end = 0;
    if (write(port_pipe, &port, sizeof port) != sizeof port || read(end_pipe, &end, 1) < 0) {
        return 1;
    }
    (*server)->Shutdown(SystemClock().Now() + std::chrono::seconds(1));
    return 0;
}

class Ready final : public ConnectionListener {
public:
    void OnReady() override { ready.set_value(Status::Ok()); }
    void OnClosed(const Status& status) override {
        std::cerr << "connection closed: " << status << "\n";
    }
    std::promise<Status> ready;
};

std::uint64_t Nanos() {
    return static_cast<std::uint64_t>(steady_clock::now().time_since_epoch().count());
}

/// Takes everything, acks each batch, and gives the credit back.
class Consumer final : public DeliveryListener {
public:
    void OnSubscribed(const SubscribeReply&) override { subscribed.set_value(); }
    void OnDelivery(std::vector<DeliveredBatch> batches) override {
        const std::uint64_t now = Nanos();
        std::vector<AckItem> acks;
        Credit credit;
        for (const DeliveredBatch& batch : batches) {
            messages += batch.count;
            credit.messages += batch.count;
            credit.bytes += batch.header.size() + batch.body.size();
            acks.push_back({AckVerdict::kAck,
                            batch.first_pull_sequence,
                            batch.first_pull_sequence + batch.count - 1,
                            {},
                            ""});
            last_delivery = now;
        }
        if (on_delivery) {
            on_delivery(now);
        }
        stream->Ack(std::move(acks), [](const Result<AckReply>&) {});
        stream->Grant(credit);
    }
    void OnClosed(const Status& status) override {
        if (status.code() != StatusCode::kCancelled) {
            std::cerr << "subscription closed: " << status << "\n";
        }
    }
    std::unique_ptr<DeliveryStream> stream;
    std::promise<void> subscribed;
    std::atomic<std::uint64_t> messages{0};
    std::atomic<std::uint64_t> last_delivery{0};
    std::function<void(std::uint64_t)> on_delivery;
};

class Bench {
public:
    Bench(const Options& options, const std::string& address) : options_(options) {
        transport_ =
            std::move(GrpcTransport()->Make("grpc://" + address, {SystemClock(), timers_, "bench"}))
                .value();
        auto ready = std::make_shared<Ready>();
        connection_ = transport_->Connect({"default", address}, ready);
        ready->ready.get_future().wait();
    }

    void Publish() {
        const auto [messages, seconds] = Pump("publish");
        std::printf("publish             %9.0f msg/s (%zu KiB batches, %d in flight)\n",
                    static_cast<double>(messages) / seconds,
                    options_.batch_kib,
                    options_.in_flight);
    }

    void Both() {
        auto consumer = Subscribe("both", 1U << 20);
        const auto [messages, seconds] = Pump("both");
        std::printf("publish and consume %9.0f and %9.0f msg/s, acked by batch\n",
                    static_cast<double>(messages) / seconds,
                    static_cast<double>(consumer->messages) / seconds);
        consumer->stream->Close();
    }

    void Latency() {
        auto consumer = Subscribe("latency", 1'000);
        const Slice batch = MakeBatch(1);
        std::vector<double> micros;
        std::mutex mutex;
        std::condition_variable changed;
        std::atomic<std::uint64_t> sent_at{0};
        consumer->on_delivery = [&](std::uint64_t now) {
            const std::lock_guard lock(mutex);
            micros.push_back(static_cast<double>(now - sent_at) / 1'000);
            changed.notify_one();
        };
        const auto count = static_cast<std::size_t>(options_.seconds * options_.per_second);
        auto next = steady_clock::now();
        for (std::size_t i = 0; i < count; ++i) {
            next += std::chrono::nanoseconds(1'000'000'000 / options_.per_second);
            std::this_thread::sleep_until(next);
            sent_at = Nanos();
            connection_->Send({{"latency", batch}}, [](const std::vector<BatchReceipt>&) {});
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return micros.size() > i; });
        }
        std::sort(micros.begin(), micros.end());
        const auto at = [&](double part) {
            return micros[static_cast<std::size_t>(part * static_cast<double>(micros.size() - 1))];
        };
        std::printf("send to delivery    p50 %.0f us, p99 %.0f us (%d/s)\n",
                    at(0.5),
                    at(0.99),
                    options_.per_second);
        consumer->stream->Close();
    }

private:
    Slice MakeBatch(std::size_t bytes) const {
        BatchBuilder builder;
        for (int i = 0; i == 0 || builder.bytes() < bytes; ++i) {
            Message message("any");
            message.AddTag("tag")
                .Set("n", std::int32_t{i})
                .SetBody(std::string(options_.body_bytes, 'b'));
            builder.Add(message, "01HZXXXXXXXXXXXXXXXXXXXXXX", SystemClock().WallNow());
        }
        return Slice::Own(builder.Finish());
    }

    std::shared_ptr<Consumer> Subscribe(const std::string& subject, std::uint32_t messages) {
        auto consumer = std::make_shared<Consumer>();
        SubscribeRequest request;
        request.key = {subject, "bench", "bench-1", ConsumeSource::kBoth};
        request.start = StartPosition::kEarliest;
        consumer->stream = connection_->Subscribe(request, consumer);
        consumer->subscribed.get_future().wait();
        consumer->stream->Grant({messages, 64U << 20});
        return consumer;
    }

    /// Keeps `in_flight` batches under way for the time of a run; messages that were persisted, and
    /// how long it took.
    std::pair<std::uint64_t, double> Pump(const std::string& subject) {
        const Slice batch = MakeBatch(options_.batch_kib << 10);
        const std::uint32_t count = BatchView::Trusted(batch.bytes()).count();
        std::atomic<std::uint64_t> messages{0};
        std::atomic<int> left{options_.in_flight};
        std::promise<void> ended;
        const auto start = steady_clock::now();
        const auto end = start + duration<double>(options_.seconds);
        std::function<void()> send = [&] {
            connection_->Send({{subject, batch}}, [&](const std::vector<BatchReceipt>& receipts) {
                if (receipts.front().status.ok()) {
                    messages += count;
                } else {
                    std::cerr << receipts.front().status << "\n";
                }
                if (steady_clock::now() < end) {
                    send();
                } else if (--left == 0) {
                    ended.set_value();
                }
            });
        };
        for (int i = 0; i < options_.in_flight; ++i) {
            send();
        }
        ended.get_future().wait();
        return {messages, duration<double>(steady_clock::now() - start).count()};
    }

    const Options options_;
    ThreadPool timers_{{1, 1 << 16, "timers"}};
    std::unique_ptr<Transport> transport_;
    std::unique_ptr<BrokerConnection> connection_;
};

void Run(const Options& options, const std::string& address) {
    Bench bench(options, address);
    const auto wanted = [&](const char* row) {
        return options.rows.find(row) != std::string::npos;
    };
    if (wanted("publish")) {
        bench.Publish();
    }
    if (wanted("both")) {
        bench.Both();
    }
    if (wanted("latency")) {
        bench.Latency();
    }
}

int Main(int argc, char** argv) {
    Options options;
    CLI::App app("The gRPC transport by itself");
    app.add_option("--batch-kib", options.batch_kib, "Size of a batch");
    app.add_option("--body-bytes", options.body_bytes, "Size of a body");
    app.add_option("--in-flight", options.in_flight, "Batches under way at once");
    app.add_option("--seconds", options.seconds, "Length of a row");
    app.add_option("--per-second", options.per_second, "Pace of the latency row");
    app.add_option(
        "--directory", options.directory, "Where the broker keeps its data; else memory");
    app.add_option("--rows", options.rows, "publish, both, latency");
    CLI11_PARSE(app, argc, argv);

    int port_pipe[2];
    int end_pipe[2];
    if (pipe(port_pipe) != 0 || pipe(end_pipe) != 0) {
        return 1;
    }
    // Before gRPC has started a thread in either.
    const pid_t server = fork();
    if (server == 0) {
        close(end_pipe[1]);
        _exit(Serve(options, port_pipe[1], end_pipe[0]));
    }
    close(port_pipe[1]);
    int port = 0;
    if (read(port_pipe[0], &port, sizeof port) != sizeof port) {
        std::cerr << "the server did not start\n";
        return 1;
    }
    std::fprintf(stderr, "server: process %d, port %d\n", server, port);
    Run(options, "localhost:" + std::to_string(port));
    close(end_pipe[1]);
    int status = 0;
    waitpid(server, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace
}  // namespace qmq

int main(int argc, char** argv) {
    return qmq::Main(argc, argv);
}
