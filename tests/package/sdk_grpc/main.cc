// A program that only links the SDK and gRPC. Nobody listens: what is shown is that it links,
// starts and says so.
#include <chrono>
#include <iostream>

#include "qmq/client.h"
#include "qmq/grpc.h"

int main() {
    using namespace std::chrono_literals;
    qmq::ClientOptions options;
    options.uri = "grpc://127.0.0.1:1";
    options.app_code = "stranger";
    options.transports = {qmq::GrpcTransport()};
    options.log = [](qmq::LogLevel, std::string_view) {};
    qmq::Client client = qmq::Client::Create(std::move(options)).value();
    qmq::Producer producer = client.MakeProducer().value();
    const qmq::SendReceipt receipt = producer.Send(qmq::Message("greetings"), 200ms).Get();
    std::cout << receipt.status << '\n';
    return receipt.ok() ? 1 : 0;
}
