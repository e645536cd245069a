// Issues a ticket for each paid order.
//
//     ticketing_service grpc://127.0.0.1:7777 5      ends after 5 tickets; 0 goes on until SIGTERM

#include <semaphore.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/consumer.h"
#include "qmq/grpc.h"

namespace {

using namespace std::chrono_literals;

std::atomic<int> issued{0};
int wanted = 0;
sem_t stop;  // sem_post is one of the few things that a signal handler may do.

}  // namespace

// Returning acks the message. Throwing, or dying, delivers it again.
QMQ_CONSUMER("order.paid",
             "ticketing",
             .tags = {"domestic"},
             .start = qmq::StartPosition::kEarliest)
(const qmq::Message& message) {
    const auto order = message.Get<std::string>("orderId");
    const auto cents = message.Get<std::int64_t>("cents");
    std::cout << "ticket for order " + order + ", " + std::to_string(cents) + " cents, attempt " +
                     std::to_string(message.attempt()) + "\n"
              << std::flush;
    if (++issued == wanted) sem_post(&stop);
}

int main(int argc, char** argv) {
    wanted = argc > 2 ? std::atoi(argv[2]) : 0;
    sem_init(&stop, 0, 0);
    std::signal(SIGINT, [](int) { sem_post(&stop); });
    std::signal(SIGTERM, [](int) { sem_post(&stop); });

    qmq::ClientOptions options;
    options.uri = argc > 1 ? argv[1] : "grpc://127.0.0.1:7777";
    options.app_code = "ticketing-service";
    options.transports = {qmq::GrpcTransport()};
    auto client = qmq::Client::Create(std::move(options));
    if (!client.ok()) {
        std::cerr << "ticketing service: " << client.status() << '\n';
        return 1;
    }
    auto consumers = qmq::StartConsumers(*client);
    if (!consumers.ok()) {
        std::cerr << "ticketing service: " << consumers.status() << '\n';
        return 1;
    }
    while (sem_wait(&stop) != 0) {
    }
    const qmq::ShutdownReport report = client->Shutdown(10s);
    std::cout << issued << " tickets issued, "
              << (report.drained ? "everything acked" : "not everything acked") << std::endl;
    return report.drained ? 0 : 1;
}
