// A payment that arrives twice is booked once.
//
//     idempotency [URI]

#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "qmq/client.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (const std::string payment : {"P-1", "P-2", "P-1"}) {  // One answer was lost: sent again.
        qmq::Message message("payment.made");
        message.Set("paymentId", payment);
        if (auto sent = SendOne(*producer, std::move(message)); !sent.ok()) return sent;
    }

    std::atomic<int> booked = 0;
    const auto acks = std::make_shared<CountAcks>();

    // excerpt: subscribe
    qmq::SubscriptionOptions options;
    options.subject = "payment.made";
    options.group = "bookkeeping";
    options.start = qmq::StartPosition::kEarliest;
    options.idempotency = qmq::MakeMemoryIdempotencyStore();
    // What makes two messages the same. Without this their ids are compared.
    options.idempotency_key = [](const qmq::Message& message) {
        return message.Get<std::string>("paymentId");
    };
    // end
    options.filters = {acks};
    auto subscription = client.Subscribe(options, [&](const qmq::Message&) { ++booked; });
    if (!subscription.ok()) return subscription.status();
    const qmq::Status waited = WaitFor(acks->acked, 3);
    const qmq::Status closed = subscription->Close(5s);
    std::cout << booked << " payments booked" << std::endl;
    if (booked != 2) return qmq::Status::Internal("a payment was booked twice, or not at all");
    return FirstError(waited, closed);
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "idempotency", Run);
}
