#include "server/app/bench.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/executor.h"
#include "qmq/random.h"

#include "server/app/commands.h"

namespace qmq::app {

namespace {

using Seconds = std::chrono::duration<double>;

std::int64_t NowNanos() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               SystemClock().Now().time_since_epoch())
        .count();
}

/// Counts up on many threads; one thread waits.
class Progress {
public:
    void Add(std::uint64_t count) {
        const std::uint64_t now = count_.fetch_add(count) + count;
        if (now >= wanted_.load()) {
            const std::lock_guard lock(mutex_);
            changed_.notify_all();
        }
    }
    void Fail(std::string reason) {
        const std::lock_guard lock(mutex_);
        if (failure_.empty()) {
            failure_ = std::move(reason);
        }
        changed_.notify_all();
    }
    /// Fails the command when a minute passes without anything happening.
    void WaitFor(std::uint64_t wanted, const char* what) {
        wanted_.store(wanted);
        std::unique_lock lock(mutex_);
        while (failure_.empty() && count_.load() < wanted) {
            const std::uint64_t before = count_.load();
            if (changed_.wait_for(lock, std::chrono::seconds(60)) == std::cv_status::timeout &&
                count_.load() == before) {
                failure_ = std::string(what) + ": nothing came for 60 s, after " +
                           std::to_string(before) + " of " + std::to_string(wanted);
            }
        }
        if (!failure_.empty()) {
            Fail_(failure_);
        }
    }
    std::uint64_t count() const { return count_.load(); }

private:
    [[noreturn]] static void Fail_(const std::string& reason) {
        ::qmq::app::Fail(kExitFailed, reason);
    }

    std::atomic<std::uint64_t> count_{0};
    std::atomic<std::uint64_t> wanted_{UINT64_MAX};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string failure_;  // guarded by mutex_
};

/// A fixed room for samples, filled by many threads; later ones are left out once it is full.
class Samples {
public:
    explicit Samples(std::size_t room) : values_(room) {}
    void Record(std::int64_t nanos) {
        const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
        if (place < values_.size()) {
            values_[place] = nanos;
        }
    }
    std::optional<double> PercentileMicros(double percent) {
        const std::size_t count = std::min(next_.load(), values_.size());
        if (count == 0) {
            return std::nullopt;
        }
        const auto place =
            static_cast<std::ptrdiff_t>(static_cast<double>(count - 1) * percent / 100);
        std::nth_element(values_.begin(),
                         values_.begin() + place,
                         values_.begin() + static_cast<std::ptrdiff_t>(count));
        return static_cast<double>(values_[static_cast<std::size_t>(place)]) / 1'000;
    }

private:
    std::vector<std::int64_t> values_;
    std::atomic<std::size_t> next_{0};
};

/// One run: its clients, its subject, and what it counts.
class Bench {
public:
    explicit Bench(const BenchArguments& arguments) : arguments_(arguments), samples_(1U << 22) {
        Random random = Random::FromSystem();
        subject_ = "bench." + std::to_string(random.Below(1'000'000'000'000ULL));
        for (std::uint32_t i = 0; i < arguments.connections; ++i) {
            ClientOptions options;
            options.uri = arguments.client.uri;
            options.app_code = "qmq-bench";
            options.transports = transports_;
            // One set of threads for all connections, as many connections are the point and not
            // many threads.
            options.runtime.executor = &work_;
            options.runtime.callbacks = &work_;
            options.inline_callbacks = arguments.inline_callbacks;
            clients_.push_back(
                OrFail(Client::Create(std::move(options)), kExitUsage, "cannot make a client"));
        }
        for (Client& client : clients_) {
            const Status ready = client.WaitReady(subject_, std::chrono::seconds(10));
            if (!ready.ok()) {
                Fail(kExitFailed, "no connection: " + ready.ToString());
            }
        }
    }

    ~Bench() {
        for (Client& client : clients_) {
            (void)client.Shutdown(std::chrono::seconds(5));
        }
    }

    BenchResult Publish() {
        WarmUp();
        const std::int64_t begin = NowNanos();
        const std::uint64_t sent = arguments_.window == 0 ? Flood(clients_[0]) : Windowed();
        acked_.WaitFor(sent, "acknowledgements");
        return Rate(sent, begin, NowNanos());
    }

    BenchResult Consume() {
        const std::uint64_t backlog = arguments_.messages == 0 ? 1'000'000 : arguments_.messages;
        SubscribeEarliestPaused();
        const std::uint64_t sent = Flood(clients_[0], backlog);
        acked_.WaitFor(sent, "acknowledgements");
        subscription_.Resume();
        handled_.WaitFor(sent, "messages");
        // The last acks too, each confirmed by the broker.
        const Status closed = subscription_.Close(std::chrono::seconds(30));
        const std::int64_t end = NowNanos();
        if (!closed.ok()) {
            Fail(kExitFailed, "acks: " + closed.ToString());
        }
        return Rate(sent, first_handled_nanos_.load(), end);
    }

    BenchResult Both() {
        Subscribe(false);
        const std::int64_t begin = NowNanos();
        const std::uint64_t sent = Flood(clients_[0]);
        acked_.WaitFor(sent, "acknowledgements");
        handled_.WaitFor(sent, "messages");
        const Status closed = subscription_.Close(std::chrono::seconds(30));
        if (!closed.ok()) {
            Fail(kExitFailed, "acks: " + closed.ToString());
        }
        return Rate(sent, begin, NowNanos());
    }

    BenchResult Latency() {
        Subscribe(false);
        Producer producer = MakeProducer(clients_[0]);
        const auto total = static_cast<std::uint64_t>(arguments_.rate * arguments_.seconds);
        const auto warm = static_cast<std::uint64_t>(arguments_.rate / 2);
        const auto gap =
            std::chrono::duration_cast<std::chrono::nanoseconds>(Seconds(1 / arguments_.rate));
        TimePoint next = SystemClock().Now();
        const std::int64_t begin = NowNanos();
        for (std::uint64_t i = 0; i < total + warm; ++i) {
            std::this_thread::sleep_until(next);  // The pace is the job.
            next += gap;
            recording_.store(i >= warm);
            Send(producer, subject_);
        }
        handled_.WaitFor(total + warm, "messages");
        return Rate(total, begin, NowNanos());
    }

private:
    Producer MakeProducer(Client& client) {
        ProducerOptions options;
        options.when_full = WhenFull::kBlock;
        if (!arguments_.durability.empty()) {
            options.durability =
                OrFail(ParseDurability(arguments_.durability), kExitUsage, "--durability");
        }
        if (arguments_.batch_bytes != 0) {
            options.max_batch_bytes = arguments_.batch_bytes;
        }
        if (arguments_.linger_us >= 0) {
            options.linger = std::chrono::microseconds(arguments_.linger_us);
        }
        return OrFail(client.MakeProducer(options), kExitUsage, "cannot make a producer");
    }

    Message MakeMessage(const std::string& subject) const {
        std::string body(arguments_.body_bytes, 'x');
        const std::int64_t now = NowNanos();
        std::memcpy(body.data(), &now, std::min(sizeof(now), body.size()));
        Message message(subject);
        message.SetBody(std::move(body)).Set("orderId", "order-0000000001").AddTag("domestic");
        return message;
    }

    void Send(Producer& producer, const std::string& subject) {
        const Status taken =
            producer.Send(MakeMessage(subject), [this](const SendReceipt& receipt) {
                if (receipt.ok()) {
                    acked_.Add(1);
                } else {
                    acked_.Fail("a send was not persisted: " + receipt.status.ToString());
                }
            });
        if (!taken.ok()) {
            acked_.Fail("a message was not taken: " + taken.ToString());
        }
    }

    void WarmUp() {
        Producer producer = MakeProducer(clients_[0]);
        (void)producer.Send(MakeMessage(subject_)).Get();
    }

    std::uint64_t Flood(Client& client) { return Flood(client, arguments_.messages); }

    /// As fast as the producer takes them. How many.
    std::uint64_t Flood(Client& client, std::uint64_t count) {
        Producer producer = MakeProducer(client);
        std::vector<std::string> subjects;
        for (std::uint32_t i = 0; i < arguments_.subjects; ++i) {
            subjects.push_back(i == 0 ? subject_ : subject_ + "." + std::to_string(i));
        }
        const std::int64_t end = NowNanos() + static_cast<std::int64_t>(arguments_.seconds * 1e9);
        std::uint64_t sent = 0;
        for (std::size_t subject = 0;
             count != 0 ? sent < count : (sent % 64 != 0 || NowNanos() < end);
             ++sent) {
            Send(producer, subjects[subject]);
            subject = subject + 1 == subjects.size() ? 0 : subject + 1;
        }
        const Status flushed = producer.Flush(std::chrono::seconds(60));
        if (!flushed.ok()) {
            Fail(kExitFailed, "flush: " + flushed.ToString());
        }
        return sent;
    }

    /// Every connection keeps `window` messages in flight: an answer sends the next.
    std::uint64_t Windowed() {
        std::deque<Producer> producers;  // Its elements stay where they are.
        const std::int64_t end = NowNanos() + static_cast<std::int64_t>(arguments_.seconds * 1e9);
        std::atomic<std::uint64_t> sent = 0;
        Progress chains;
        std::function<void(Producer&)> next = [&](Producer& producer) {
            ++sent;
            const std::int64_t begin = NowNanos();
            const Status taken = producer.Send(
                MakeMessage(subject_),
                [this, &next, &producer, &chains, begin, end](const SendReceipt& receipt) {
                    if (!receipt.ok()) {
                        chains.Fail("a send was not persisted: " + receipt.status.ToString());
                        return;
                    }
                    const std::int64_t now = NowNanos();
                    samples_.Record(now - begin);
                    acked_.Add(1);
                    if (now < end) {
                        next(producer);
                    } else {
                        chains.Add(1);
                    }
                });
            if (!taken.ok()) {
                chains.Fail("a message was not taken: " + taken.ToString());
            }
        };
        for (Client& client : clients_) {
            producers.push_back(MakeProducer(client));
            for (std::uint32_t i = 0; i < arguments_.window; ++i) {
                next(producers.back());
            }
        }
        chains.WaitFor(std::uint64_t{arguments_.window} * clients_.size(), "acknowledgements");
        return sent.load();
    }

    void SubscribeEarliestPaused() { Subscribe(true); }

    void Subscribe(bool paused) {
        SubscriptionOptions options;
        options.subject = subject_;
        options.group = "bench";
        options.start = StartPosition::kEarliest;
        options.parallelism = arguments_.parallelism;
        options.prefetch_count = arguments_.prefetch;
        options.prefetch_bytes = 64U << 20;
        options.start_paused = paused;
        subscription_ =
            OrFail(clients_[0].Subscribe(std::move(options),
                                         [this](const Message& message) { Handle(message); }),
                   kExitUsage,
                   "cannot subscribe");
    }

    void Handle(const Message& message) {
        const std::int64_t now = NowNanos();
        std::int64_t none = 0;
        if (first_handled_nanos_.load(std::memory_order_relaxed) == 0) {
            first_handled_nanos_.compare_exchange_strong(none, now);
        }
        if (recording_.load(std::memory_order_relaxed)) {
            std::int64_t sent = 0;
            std::memcpy(
                &sent, message.body().data(), std::min(sizeof(sent), message.body().size()));
            samples_.Record(now - sent);
        }
        handled_.Add(1);
    }

    BenchResult Rate(std::uint64_t count, std::int64_t begin, std::int64_t end) {
        BenchResult result;
        result.messages = count;
        result.seconds = static_cast<double>(end - begin) / 1e9;
        result.rate = static_cast<double>(count) / result.seconds;
        result.p50_us = samples_.PercentileMicros(50);
        result.p99_us = samples_.PercentileMicros(99);
        return result;
    }

    const BenchArguments& arguments_;
    std::string subject_;
    Progress acked_;
    Progress handled_;
    Samples samples_;
    std::atomic<bool> recording_{false};
    std::atomic<std::int64_t> first_handled_nanos_{0};
    ThreadPool work_{ThreadPoolOptions{.threads = 2, .name = "bench"}};
    std::vector<std::shared_ptr<TransportFactory>> transports_{MakeTransports(arguments_.client)};
    std::vector<Client> clients_;
    Subscription subscription_;
};

}  // namespace

BenchResult RunBench(const BenchArguments& arguments) {
    Bench bench(arguments);
    if (arguments.job == "publish") {
        return bench.Publish();
    }
    if (arguments.job == "consume") {
        return bench.Consume();
    }
    return arguments.job == "both" ? bench.Both() : bench.Latency();
}

}  // namespace qmq::app
