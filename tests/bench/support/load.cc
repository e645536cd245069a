#include "tests/bench/support/load.h"

#include <stdexcept>
#include <utility>

#include "qmq/grpc.h"

namespace qmq::bench {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBodyBytes = 128;

Client Connect(const std::string& uri) {
    ClientOptions options;
    options.uri = uri;
    options.app_code = "qmq-bench";
    options.transports = {GrpcTransport()};
    options.log = [](LogLevel, std::string_view) {};  // That its server is killed is the point.
    Result<Client> client = Client::Create(std::move(options));
    if (!client.ok()) {
        throw std::runtime_error("a client for " + uri + ": " + client.status().ToString());
    }
    return *std::move(client);
}

Producer MakeProducer(Client& client) {
    Result<Producer> producer =
        client.MakeProducer({.when_full = WhenFull::kBlock, .timeout = 120s});
    if (!producer.ok()) {
        throw std::runtime_error("a producer: " + producer.status().ToString());
    }
    return *std::move(producer);
}

}  // namespace

Load::Load(const std::string& uri, std::vector<std::string> subjects)
    : subjects_(std::move(subjects)),
      client_(Connect(uri)),
      producer_(MakeProducer(client_)),
      thread_([this] { Send(); }) {}

Load::~Load() {
    Abandon();
}

void Load::Send() {
    const std::string body(kBodyBytes, 'x');
    for (std::size_t place = 0; !stop_.load(std::memory_order_relaxed);) {
        Message message(subjects_[place]);
        message.SetBody(body).Set("orderId", "order-0000000001").AddTag("domestic");
        if (Status taken = producer_.Send(
                std::move(message), [this](const SendReceipt& receipt) { OnReceipt(receipt); });
            !taken.ok()) {
            SendReceipt refused;
            refused.status = std::move(taken);
            OnReceipt(refused);
        }
        place = place + 1 == subjects_.size() ? 0 : place + 1;
    }
}

void Load::OnReceipt(const SendReceipt& receipt) {
    if (!receipt.ok()) {
        const std::lock_guard lock(mutex_);
        if (failure_.empty()) {
            failure_ = "a send was not persisted: " + receipt.status.ToString();
        }
        changed_.notify_all();
        return;
    }
    if (persisted_.fetch_add(1) + 1 >= wanted_.load()) {
        const std::lock_guard lock(mutex_);
        changed_.notify_all();
    }
}

void Load::WaitPersisted(std::uint64_t count) {
    std::unique_lock lock(mutex_);
    wanted_.store(count);
    while (failure_.empty() && persisted_.load() < count) {
        const std::uint64_t before = persisted_.load();
        if (changed_.wait_for(lock, 60s) == std::cv_status::timeout &&
            persisted_.load() == before) {
            failure_ = "no send was answered for 60 s";
        }
    }
    wanted_.store(UINT64_MAX);
    if (!failure_.empty()) {
        throw std::runtime_error(failure_);
    }
}

std::uint64_t Load::Finish() {
    stop_.store(true);
    thread_.join();
    const Status flushed = producer_.Flush(60s);
    const ShutdownReport report = client_.Shutdown(5s);
    const std::lock_guard lock(mutex_);
    if (!failure_.empty() || !flushed.ok() || !report.drained) {
        throw std::runtime_error("flush: " + flushed.ToString() + "; " + failure_);
    }
    return persisted_.load();
}

void Load::Abandon() {
    stop_.store(true);
    // First, for the thread may be waiting for room.
    (void)client_.Shutdown(0ms);
    if (thread_.joinable()) {
        thread_.join();
    }
}

}  // namespace qmq::bench
