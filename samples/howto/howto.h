#pragma once

#include <chrono>
#include <functional>
#include <iostream>
#include <string>
#include <utility>

#include "qmq/client.h"
#include "qmq/grpc.h"
#include "qmq/inproc.h"

/// What the programs of this folder share: a client by the URI of the command line ("inproc:" when
/// there is none), and an exit code that tells whether `run` worked and everything was acked.
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
