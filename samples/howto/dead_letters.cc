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
        if (auto sent = SendOne(*producer, std::move(message)); !sent.ok()) return sent;
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
        // What nobody can mend must not be sent again: it would be a dead letter for ever.
        if (!zip.starts_with('I')) throw qmq::Reject("nobody knows what it means: " + zip);
        zip.front() = '1';
        qmq::Message mended("address.changed");
        mended
            .SetId("mended-" + std::string(letter.id()))  // The same, should the letter come twice.
            .Set("zip", zip)
            .Set("customer", letter.Get<std::string>("customer"));
        // A handler may wait for the receipt.
        const qmq::SendReceipt receipt = producer->Send(std::move(mended)).Get();
        if (receipt.ok()) return;
        if (receipt.status.IsRetryable()) throw qmq::Later(1s, receipt.status.ToString());
        throw qmq::Reject(receipt.status.ToString());
    });
    // end
    qmq::Status result = clerks.status();
    if (clerks.ok()) {
        result = WaitFor(stored, kAddresses);
        result = FirstError(result, clerks->Close(5s));
    }
    return FirstError(result, subscription->Close(5s));
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "dead-letters", Run);
}
