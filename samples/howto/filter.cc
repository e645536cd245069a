// What every handler needs is written once: filters around it.
//
//     filter [URI]

#include <atomic>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "qmq/client.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

constexpr int kPayments = 5;

// excerpt: timing
/// Says how long each handler took, and how its delivery ended.
class Timing : public qmq::Filter {
public:
    qmq::HandlerOutcome Handle(qmq::DeliveryContext& context, Next& next) override {
        context.Put(Begun{std::chrono::steady_clock::now()});
        return next();
    }
    void OnSettled(qmq::DeliveryContext& context, const qmq::HandlerOutcome& verdict) override {
        const Begun* begun = context.Find<Begun>();
        if (begun == nullptr) return;  // A filter outside of this one has answered.
        const auto took = std::chrono::steady_clock::now() - begun->at;
        std::cout << std::string(context.group()) + ", attempt " +
                         std::to_string(context.attempt()) + ": " +
                         (verdict.kind == qmq::HandlerOutcome::Kind::kAck ? "done"
                                                                          : verdict.error) +
                         " after " + std::to_string(took / 1us) + " us\n"
                  << std::flush;
    }

private:
    struct Begun {
        std::chrono::steady_clock::time_point at;
    };
};
// end

/// Stands for a transaction of a database: what is not committed is rolled back.
struct Ledger {
    void Book(std::int64_t cents) { booked += cents; }
    void Commit() { total += booked; }
    std::int64_t booked = 0;
    inline static std::atomic<std::int64_t> total = 0;
};

// excerpt: transaction
/// Begins a transaction for the handler, and commits it when the handler says that all is well. Not
/// for handlers that take a `Delivery`: those return before they have decided.
class InTransaction : public qmq::Filter {
public:
    qmq::HandlerOutcome Handle(qmq::DeliveryContext& context, Next& next) override {
        Ledger& ledger = context.Put(Ledger());
        qmq::HandlerOutcome outcome = next();  // What the handler throws passes through here.
        if (outcome.kind == qmq::HandlerOutcome::Kind::kAck) ledger.Commit();
        return outcome;
    }
};

qmq::HandlerOutcome OnPayment(const qmq::Message& message, qmq::DeliveryContext& context) {
    context.Find<Ledger>()->Book(message.Get<std::int64_t>("cents"));
    if (message.Get<std::int64_t>("cents") == 300 && message.attempt() == 1)
        return qmq::HandlerOutcome::Retry(10ms, "the bank is busy");  // So nothing is booked.
    return qmq::HandlerOutcome::Ack();
}
// end

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (int i = 1; i <= kPayments; ++i) {
        qmq::Message message("payment.received");
        message.Set("cents", std::int64_t{100} * i);
        if (auto sent = SendOne(*producer, std::move(message)); !sent.ok()) return sent;
    }

    const auto acks = std::make_shared<CountAcks>();

    // excerpt: subscribe
    qmq::SubscriptionOptions options;
    options.subject = "payment.received";
    options.group = "ledger";
    options.start = qmq::StartPosition::kEarliest;
    options.filters = {acks, std::make_shared<Timing>(), std::make_shared<InTransaction>()};
    auto subscription = client.Subscribe(options, OnPayment);
    // end
    if (!subscription.ok()) return subscription.status();
    const qmq::Status waited = WaitFor(acks->acked, kPayments);
    const qmq::Status closed = subscription->Close(5s);
    if (waited.ok() && Ledger::total != 1500)
        return qmq::Status::Internal("the ledger does not add up");
    return FirstError(waited, closed);
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "filter", Run);
}
