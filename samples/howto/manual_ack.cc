// Messages that are handled by threads of the application, and acked by them.
//
//     manual_ack [URI]

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "qmq/client.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

constexpr int kInvoices = 10;

void Print(const qmq::Message& invoice) {
    if (invoice.Get<std::int32_t>("number") == 3 && invoice.attempt() == 1)
        throw std::runtime_error("out of paper");
}

using Counter = std::shared_ptr<std::counting_semaphore<>>;

/// Two threads, and the deliveries that wait for them.
class Printers {
public:
    explicit Printers(Counter printed) : printed_(std::move(printed)) {}
    ~Printers() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        changed_.notify_all();
    }

    void Add(qmq::Delivery delivery) {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(std::move(delivery));
        changed_.notify_one();
    }

private:
    // excerpt: work
    void Work() {
        while (std::optional<qmq::Delivery> delivery = Take()) {
            try {
                Print(delivery->message());
                // The callback may come when this object is gone: it holds what it needs.
                delivery->Ack([printed = printed_](const qmq::Status& recorded) {
                    // Not ok: its lease was lost meanwhile, and it comes again.
                    if (recorded.ok()) printed->release();
                });
            } catch (const std::exception& e) {
                delivery->Nack(e.what());
            }
        }
    }
    // end
    /// Nothing once this is closed: what still waits is destroyed, and so goes back at once.
    std::optional<qmq::Delivery> Take() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
        if (closed_) return std::nullopt;
        std::optional<qmq::Delivery> delivery(std::move(waiting_.front()));
        waiting_.pop_front();
        return delivery;
    }

    const Counter printed_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<qmq::Delivery> waiting_;
    bool closed_ = false;
    std::jthread first_{[this] { Work(); }};
    std::jthread second_{[this] { Work(); }};
};

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (int number = 1; number <= kInvoices; ++number) {
        qmq::Message message("invoice.wanted");
        message.Set("number", number);
        if (auto sent = SendOne(*producer, std::move(message)); !sent.ok()) return sent;
    }

    const auto printed = std::make_shared<std::counting_semaphore<>>(0);
    Printers printers(printed);
    qmq::SubscriptionOptions options;
    options.subject = "invoice.wanted";
    options.group = "printers";
    options.start = qmq::StartPosition::kEarliest;
    options.retry.initial_backoff = 10ms;
    // excerpt: subscribe
    // The handler takes the delivery itself: that it returns acks nothing.
    auto subscription = client.Subscribe(
        options, [&](qmq::Delivery delivery) { printers.Add(std::move(delivery)); });
    if (!subscription.ok()) return subscription.status();
    // end
    const qmq::Status waited = WaitFor(*printed, kInvoices);
    return FirstError(waited, subscription->Close(5s));
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "manual-ack", Run);
}
