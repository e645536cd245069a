// A whole messaging system in one process: no server, no port.
//
//     embedded                   in memory
//     embedded inproc:///dir     durable in that directory: what was sent and not handled is there
//     again at the next start

#include <chrono>
#include <iostream>
#include <latch>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/inproc.h"

namespace {

using namespace std::chrono_literals;

constexpr int kMessages = 3;

qmq::Status Run(const std::string& uri) {
    // What the handler refers to is made before the client, and so goes after it.
    std::latch handled(kMessages);
    std::mutex mutex;
    std::set<std::string> seen;

    qmq::ClientOptions options;
    options.uri = uri;
    options.app_code = "embedded";
    options.transports = {qmq::InprocTransport()};
    auto client = qmq::Client::Create(std::move(options));
    if (!client.ok()) return client.status();

    qmq::SubscriptionOptions subscription;
    subscription.subject = "thumbnail.wanted";
    subscription.group = "thumbnails";
    subscription.start = qmq::StartPosition::kEarliest;
    auto subscribed = client->Subscribe(subscription, [&](const qmq::Message& message) {
        // The first delivery of the second picture fails, and comes again.
        if (message.Get<std::string>("picture") == "2.png" && message.attempt() == 1)
            throw qmq::RetryLater(10ms);
        std::cout << "thumbnail of " + message.Get<std::string>("picture") + ", attempt " +
                         std::to_string(message.attempt()) + "\n"
                  << std::flush;
        // A message may come twice: only the first time counts.
        const std::lock_guard lock(mutex);
        if (seen.insert(message.Get<std::string>("picture")).second) handled.count_down();
    });
    if (!subscribed.ok()) return subscribed.status();

    auto producer = client->MakeProducer();
    if (!producer.ok()) return producer.status();
    for (int i = 1; i <= kMessages; ++i) {
        qmq::Message message("thumbnail.wanted");
        message.Set("picture", std::to_string(i) + ".png");
        const qmq::SendReceipt receipt = producer->Send(std::move(message)).Get();
        if (!receipt.ok()) return receipt.status;
    }
    handled.wait();
    return client->Shutdown(5s).drained ? qmq::Status::Ok()
                                        : qmq::Status::DeadlineExceeded("shutdown");
}

}  // namespace

int main(int argc, char** argv) {
    if (const qmq::Status status = Run(argc > 1 ? argv[1] : "inproc:"); !status.ok()) {
        std::cerr << "embedded: " << status << '\n';
        return 1;
    }
    return 0;
}
