// Messages that can never be handled go to the dead letters at once; somebody looks at them, mends
// them and sends them again.
//
//     dead_letters [URI]

#include <chrono>
#include <iostream>
#include <semaphore>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/subject.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

constexpr int kAddresses = 4;

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (const std::string zip : {"10115", "80331", "I0115", "50667"}) {
        qmq::Message message("address.changed");
        message.Set("zip", zip).Set("customer", "C-" + zip);
        producer->Send(std::move(message)).Detach();
    }

    std::counting_semaphore<> stored{0};
    qmq::SubscriptionOptions options;
    options.subject = "address.changed";
    options.group = "addresses";
    options.start = qmq::StartPosition::kEarliest;
    options.retry.max_attempts = 5;  // A failure that is not `Reject` gets so many.
    // excerpt: reject
    auto subscription = client.Subscribe(options, [&](const qmq::Message& message) {
        const auto zip = message.Get<std::string>("zip");
        if (zip.find_first_not_of("0123456789") != std::string::npos)
            throw qmq::Reject("not a number: " + zip);  // To try again would not help.
        std::cout << "stored " + zip + "\n" << std::flush;
        stored.release();
    });
    // end
    if (!subscription.ok()) return subscription.status();

    // excerpt: mend
    qmq::SubscriptionOptions dead = options;
    dead.subject = qmq::DeadLetterSubject("address.changed", "addresses");
    dead.group = "clerks";
    auto clerks = client.Subscribe(dead, [&](const qmq::Message& letter) {
        std::cout << "dead letter: " + letter.last_error() + "\n" << std::flush;
        auto zip = letter.Get<std::string>("zip");
        if (zip.front() == 'I') zip.front() = '1';
        qmq::Message mended("address.changed");  // Of its own id: the old one is done with.
        mended.Set("zip", zip).Set("customer", letter.Get<std::string>("customer"));
        // A handler may wait for the receipt. Thrown, the letter comes again.
        const qmq::SendReceipt receipt = producer->Send(std::move(mended)).Get();
        if (!receipt.ok()) throw qmq::Later(1s, receipt.status.ToString());
    });
    // end
    if (!clerks.ok()) {
        (void)subscription->Close(5s);
        return clerks.status();
    }
    for (int i = 0; i < kAddresses; ++i) stored.acquire();
    const qmq::Status closed = clerks->Close(5s);
    return closed.ok() ? subscription->Close(5s) : closed;
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "dead-letters", Run);
}
