// Starts whatever consumers are linked, says what was found, and fails as StartConsumers does.

#include <iostream>

#include "qmq/client.h"
#include "qmq/consumer.h"
#include "qmq/inproc.h"
#ifdef WITH_TICKETING
#include "ticketing.h"
#endif

int main() {
    qmq::ClientOptions options;
    options.app_code = "registration";
    options.transports = {qmq::InprocTransport()};
    auto client = qmq::Client::Create(std::move(options));
    if (!client.ok()) {
        std::cerr << client.status() << '\n';
        return 3;
    }
    qmq::ConsumerBindings bindings;
#ifdef WITH_TICKETING
    Ticketing ticketing;
    bindings.AddObject(ticketing);
#endif
    auto started = qmq::StartConsumers(*client, bindings);
    if (!started.ok()) {
        std::cerr << started.status() << '\n';
        return 1;
    }
    std::cout << started->size() << " consumers started" << std::endl;
    (void)client->Shutdown(std::chrono::seconds(5));
}
