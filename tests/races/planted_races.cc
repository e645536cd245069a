// Two data races of our own kind, planted to prove that ThreadSanitizer reports them although
// tests/tsan.supp is in force: one in a callback that runs on gRPC's thread, below frames of its
// library, and one in a message handler.
//
//     planted_races grpc_callback | handler      run by scripts/show sanitizers; must end with
//     TSan's exit code
#include <barrier>
#include <chrono>
#include <iostream>
#include <semaphore>
#include <string_view>

#include "qmq/client.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/grpc.h"
#include "qmq/inproc.h"

#include "server/app/server_node.h"

namespace qmq {
namespace {

using namespace std::chrono_literals;

constexpr int kRounds = 50;

/// What two threads change without a lock. The name of its function is what the report must
/// contain: with few debug symbols a frame is reported without the name of its class.
struct PlantedRace {
    int counter = 0;
    void TouchPlantedRace() { ++counter; }
};

/// A reply of the broker comes on a thread of gRPC's, while the main thread is at work.
int InGrpcCallback() {
    app::ServerConfig config;
    config.memory = true;
    config.grpc_port = 0;
    const auto node = app::ServerNode::Start(config).value();
    const Clock& clock = SystemClock();
    ThreadPool timers({.threads = 1});
    const auto transport = GrpcTransport()
                               ->Make("grpc://127.0.0.1:" + std::to_string(node->grpc_port()),
                                      {.clock = clock, .timers = timers, .client_id = "races"})
                               .value();
    PlantedRace race;
    for (int i = 0; i < kRounds; ++i) {
        std::binary_semaphore answered{0};
        transport->Discover({"races", "", ClientRole::kProducer, "races", ""},
                            clock.Now() + 10s,
                            [&](const Result<Route>&) {
                                race.TouchPlantedRace();
                                answered.release();
                            });
        race.TouchPlantedRace();
        answered.acquire();
    }
    return race.counter;
}

/// Handlers of one subscription run in parallel.
int InHandler() {
    ClientOptions options;
    options.uri = "inproc:";
    options.app_code = "races";
    options.transports = {InprocTransport()};
    Client client = Client::Create(std::move(options)).value();
    PlantedRace race;
    std::counting_semaphore<> handled{0};
    std::barrier<> two_inside(2);  // However quick handlers are, two touch it at once.
    SubscriptionOptions subscription;
    subscription.subject = "races";
    subscription.group = "races";
    subscription.start = StartPosition::kEarliest;
    subscription.parallelism = 2;  // As many as the barrier is for.
    const Subscription running = client
                                     .Subscribe(subscription,
                                                [&](const Message&) {
                                                    two_inside.arrive_and_wait();
                                                    race.TouchPlantedRace();
                                                    handled.release();
                                                })
                                     .value();
    Producer producer = client.MakeProducer().value();
    for (int i = 0; i < kRounds; ++i) producer.Send(Message("races")).Detach();
    for (int i = 0; i < kRounds; ++i) handled.acquire();
    client.Shutdown(10s);
    return race.counter;
}

}  // namespace
}  // namespace qmq

int main(int argc, char** argv) {
    const std::string_view which = argc > 1 ? argv[1] : "";
    if (which == "grpc_callback") {
        std::cout << qmq::InGrpcCallback() << '\n';
    } else if (which == "handler") {
        std::cout << qmq::InHandler() << '\n';
    } else {
        std::cerr << "planted_races grpc_callback | handler\n";
        return 2;
    }
    return 0;
}
