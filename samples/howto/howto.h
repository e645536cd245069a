#pragma once

#include <chrono>
#include <functional>
#include <iostream>
#include <semaphore>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/grpc.h"
#include "qmq/inproc.h"

// What the programs of this folder share. Each sends a few messages and ends when it has seen as
// many.

/// Makes a client by the URI of the command line ("inproc:" when there is none). The exit code
/// tells whether `run` worked and everything was acked.
inline int RunHowTo(int argc,
                    char** argv,
                    const std::string& name,
                    const std::function<qmq::Status(qmq::Client&)>& run) {
    qmq::ClientOptions options;
    options.uri = argc > 1 ? argv[1] : "inproc:";
    options.app_code = name;
    options.transports = {qmq::InprocTransport(), qmq::GrpcTransport()};
    auto client = qmq::Client::Create(std::move(options));
    if (!client.ok()) {
        std::cerr << name << ": " << client.status() << '\n';
        return 1;
    }
    if (const qmq::Status status = run(*client); !status.ok()) {
        std::cerr << name << ": " << status << '\n';
        return 1;
    }
    if (!client->Shutdown(std::chrono::seconds(5)).drained) {
        std::cerr << name << ": something was left at shutdown\n";
        return 1;
    }
    return 0;
}

/// Sends, and waits until the message is stored.
inline qmq::Status SendOne(qmq::Producer& producer, qmq::Message message) {
    return producer.Send(std::move(message)).Get().status;
}

/// Waits until `done` was released `count` times.
inline qmq::Status WaitFor(std::counting_semaphore<>& done, int count) {
    for (int i = 0; i < count; ++i) {
        if (!done.try_acquire_for(std::chrono::seconds(30))) {
            return qmq::Status::DeadlineExceeded("the " + std::to_string(i + 1) +
                                                 ". message did not come within 30 s");
        }
    }
    return qmq::Status::Ok();
}

/// Counts what was acked; outermost, so that it hears what became of each delivery in the end.
class CountAcks : public qmq::Filter {
public:
    qmq::HandlerOutcome Handle(qmq::DeliveryContext&, Next& next) override { return next(); }
    void OnSettled(qmq::DeliveryContext&, const qmq::HandlerOutcome& verdict) override {
        if (verdict.kind == qmq::HandlerOutcome::Kind::kAck) acked.release();
    }
    std::counting_semaphore<> acked{0};
};

/// The first of two that is not ok.
inline qmq::Status FirstError(const qmq::Status& first, const qmq::Status& second) {
    return first.ok() ? second : first;
}
