// How a client over gRPC ends: its threads are those of gRPC, which belong to the process.

#include <future>
#include <optional>
#include <thread>

#include "qmq/client.h"

#include "server/env/file_system.h"
#include "tests/integration/grpc/grpc_fixture.h"
#include "tests/support/forked.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::InChild;
using testing::IsForkRefusal;

class GrpcClientEndTest : public ::testing::Test {
protected:
    GrpcClientEndTest() {
        broker::BrokerOptions options;
        options.directory = "memory";
        options.default_durability = Durability::kMemory;
        options.best_durability = Durability::kMemory;
        options.store.segment_bytes = 1U << 20;
        auto broker = broker::Broker::Open(options, {*files_, SystemClock(), timers_, io_});
        EXPECT_TRUE(broker.ok()) << broker.status();
        broker_ = std::move(broker).value();
        auto server = rpc::GrpcServer::Start({}, *broker_);
        EXPECT_TRUE(server.ok()) << server.status();
        server_ = std::move(server).value();
    }
    ~GrpcClientEndTest() override {
        server_->Shutdown(SystemClock().Now() + kPatience);
        std::promise<Status> closed;
        broker_->Close([&](Status status) { closed.set_value(std::move(status)); });
        EXPECT_TRUE(closed.get_future().get().ok());
    }

    ClientOptions Options() const {
        ClientOptions options;
        options.uri = "grpc://127.0.0.1:" + std::to_string(server_->port());
        options.app_code = "test";
        options.transports = {GrpcTransport()};
        options.log = [](LogLevel, std::string_view) {};
        return options;
    }

    const std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    ThreadPool timers_{{1, 1U << 20, "timers"}};
    ThreadPool io_{{1, 1U << 20, "io"}};
    std::unique_ptr<broker::Broker> broker_;
    std::unique_ptr<rpc::GrpcServer> server_;
};

// A send callback that does not return kept a thread of gRPC, whose end the transport waited for:
// Shutdown(500ms) had not returned after 8 s.
TEST_F(GrpcClientEndTest, ShutdownReturnsAlthoughAnInlineCallbackDoesNot) {
    std::promise<void> go;
    const auto went = go.get_future().share();
    const auto inside = std::make_shared<std::promise<void>>();
    {
        ClientOptions options = Options();
        options.inline_callbacks = true;
        Client client = std::move(*Client::Create(std::move(options)));
        Producer producer = *client.MakeProducer();
        (void)producer.Send(Message("s"), [inside, went](const SendReceipt&) {
            inside->set_value();
            went.wait();
        });
        inside->get_future().wait();
        const auto start = steady_clock::now();
        (void)client.Shutdown(milliseconds(100));
        EXPECT_LT(steady_clock::now() - start, seconds(5));
    }
    go.set_value();
}

// A child of fork() that called Shutdown, or left by exit() with a static client, hung for ever.
TEST_F(GrpcClientEndTest, AForkedChildLeavesTheClientAloneAndIsToldWhatToDo) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    std::optional<Client> client(std::move(*Client::Create(Options())));
    Producer producer = *client->MakeProducer();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([&] {
                  const bool refused = IsForkRefusal(producer.Send(Message("s")).Get().status) &&
                                       IsForkRefusal(client->Shutdown(milliseconds(500)).status);
                  client.reset();
                  return refused ? 7 : 1;
              }),
              7);
    EXPECT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_TRUE(client->Shutdown(kPatience).drained);
}

// The new client of a child found no route. (`Create` starts threads before it asks the transport.)
TEST_F(GrpcClientEndTest, AClientOfAForkedChildIsRefusedAndToldWhatToDo) {
    QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE();
    QMQ_SKIP_UNLESS_CHILD_MAY_START_THREADS();
    Client client = std::move(*Client::Create(Options()));
    ASSERT_TRUE(client.MakeProducer()->Send(Message("s")).Get().ok());
    EXPECT_EQ(InChild([&] { return IsForkRefusal(Client::Create(Options()).status()) ? 7 : 1; }),
              7);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

}  // namespace
}  // namespace qmq
