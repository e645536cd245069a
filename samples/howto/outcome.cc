// A handler that says what becomes of its message, as a member of an object of the application.
//
//     outcome [URI]

#include <chrono>
#include <cstdint>
#include <iostream>
#include <semaphore>
#include <string>

#include "qmq/client.h"

#include "howto.h"
#include "tickets.h"

namespace {

using namespace std::chrono_literals;

constexpr int kOrders = 5;

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (std::int64_t i = 0; i < kOrders; ++i) {
        qmq::Message order("order.paid");
        order.Set("orderId", "A-" + std::to_string(i)).Set("cents", 1000 * i - 500);
        if (auto sent = SendOne(*producer, std::move(order)); !sent.ok()) return sent;
    }

    std::counting_semaphore<> handled{0};
    // excerpt: subscribe
    Tickets tickets;
    qmq::SubscriptionOptions options;
    options.subject = "order.paid";
    options.group = "ticketing";
    // Also what was sent before the group was there.
    options.start = qmq::StartPosition::kEarliest;
    auto subscription = client.Subscribe(options, [&](const qmq::Message& order) {
        qmq::HandlerOutcome outcome = tickets.OnPaid(order);
        handled.release();
        return outcome;
    });
    if (!subscription.ok()) return subscription.status();
    // end
    const qmq::Status waited = WaitFor(handled, kOrders);
    // excerpt: close
    // First the subscription, which waits for its handlers; then what they refer to may go.
    const qmq::Status closed = subscription->Close(5s);
    // end
    std::cout << tickets.issued().size() << " tickets" << std::endl;
    return FirstError(waited, closed);
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "outcome", Run);
}
