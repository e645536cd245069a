// A job that takes messages when it wants them: it writes each batch in one go, and then acks it.
//
//     pull [URI]

#include <chrono>
#include <cstddef>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "howto.h"

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kEvents = 250;

/// Stands for a transaction of a database.
qmq::Status WriteAll(const std::vector<qmq::Delivery>& batch) {
    std::cout << "wrote " << batch.size() << " events" << std::endl;
    return qmq::Status::Ok();
}

// excerpt: import
qmq::Result<std::size_t> ImportOnce(qmq::PullConsumer& consumer) {
    auto batch = consumer.Pull({.max_messages = 100, .max_wait = 1s});
    if (!batch.ok()) return batch.status();
    if (batch->empty()) return std::size_t{0};  // Nothing came within a second.

    if (const qmq::Status written = WriteAll(*batch); !written.ok()) {
        for (qmq::Delivery& delivery : *batch) delivery.Later(5s, written.ToString());
        return written;  // They come again in 5 s.
    }
    for (qmq::Delivery& delivery : *batch) delivery.Ack();
    return batch->size();
}
// end

qmq::Status Run(qmq::Client& client) {
    auto producer = client.MakeProducer();
    if (!producer.ok()) return producer.status();
    for (std::size_t i = 0; i < kEvents; ++i) {
        qmq::Message message("page.viewed");
        message.Set("page", "/" + std::to_string(i));
        if (auto sent = SendOne(*producer, std::move(message)); !sent.ok()) return sent;
    }

    // excerpt: consumer
    auto consumer = client.MakePullConsumer(
        {.subject = "page.viewed", .group = "warehouse", .start = qmq::StartPosition::kEarliest});
    if (!consumer.ok()) return consumer.status();
    // end
    // excerpt: loop
    for (std::size_t imported = 0; imported < kEvents;) {
        auto count = ImportOnce(*consumer);
        if (count.ok()) {
            imported += *count;
        } else if (!count.status().IsRetryable()) {  // The broker, or the database, is away: again.
            return count.status();
        }
    }
    // end
    return consumer->Close(5s);
}

}  // namespace

int main(int argc, char** argv) {
    return RunHowTo(argc, argv, "pull", Run);
}
