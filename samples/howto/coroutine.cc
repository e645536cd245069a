// Consume, transform, send, as a coroutine: it acks an order when what it has made of it is stored.
//
//     coroutine [URI]

#include <chrono>
#include <coroutine>
#include <exception>
#include <future>
#include <iostream>
#include <string>
#include <utility>

#include "qmq/client.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

constexpr int kOrders = 20;

/// The smallest coroutine there is: it begins at once, and nobody awaits it. Yours may come from
/// any library, since QMQ asks nothing of it.
struct Job {
    struct promise_type {
        Job get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

qmq::Message ParcelFor(const qmq::Message& order) {
    qmq::Message parcel("parcel.wanted");
    // The id follows from the order's: an order that comes twice makes one parcel for who looks.
    parcel.SetId("parcel-" + order.Get<std::string>("orderId"))
        .Set("orderId", order.Get<std::string>("orderId"));
    return parcel;
}

// excerpt: job
Job MakeParcels(qmq::PullConsumer orders, qmq::Producer producer, std::promise<qmq::Status> done) {
    for (int acked = 0; acked < kOrders;) {
        auto batch = co_await orders.PullAsync({.max_messages = 10, .max_wait = 1s});
        if (!batch.ok()) {
            if (batch.status().IsRetryable()) continue;  // No broker for a second: again.
            done.set_value(batch.status());              // kCancelled: the client shuts down.
            co_return;
        }
        for (qmq::Delivery& order : *batch) {
            try {
                const auto receipt = co_await producer.Send(ParcelFor(order.message()));
                if (receipt.ok()) {
                    if ((co_await order.AckAsync()).ok()) ++acked;
                } else if (receipt.status.IsRetryable()) {
                    order.Later(1s, receipt.status.ToString());
                } else {  // Refused for good: to try again would not help.
                    order.Reject(receipt.status.ToString());
                }
            } catch (const std::exception& e) {  // The order lacks something.
                order.Nack(e.what());
            }
        }
    }
    done.set_value(qmq::Status::Ok());
}
// end

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (int i = 1; i <= kOrders; ++i) {
        qmq::Message order("order.packed");
        order.Set("orderId", "A-" + std::to_string(i));
        if (auto sent = SendOne(*producer, std::move(order)); !sent.ok()) return sent;
    }
    auto orders = client.MakePullConsumer(
        {.subject = "order.packed", .group = "shipping", .start = qmq::StartPosition::kEarliest});
    if (!orders.ok()) return orders.status();

    std::promise<qmq::Status> done;
    std::future<qmq::Status> ended = done.get_future();
    MakeParcels(*orders, *producer, std::move(done));
    qmq::Status status = ended.get();
    std::cout << "parcels: " << status << std::endl;
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "coroutine", Run);
}
