// A subscription that is ready over gRPC, and one that never will be.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>

#include "qmq/client.h"

#include "server/env/file_system.h"
#include "tests/integration/grpc/grpc_fixture.h"
#include "tests/support/ready_rounds.h"

namespace qmq {
namespace {

using ::testing::HasSubstr;

class ReadyTest : public ::testing::Test {
protected:
    ReadyTest() {
        broker::BrokerOptions options;
        options.directory = "memory";
        options.default_durability = Durability::kMemory;
        options.best_durability = Durability::kMemory;
        options.store.segment_bytes = 1U << 20;
        broker_ = broker::Broker::Open(options, {*files_, SystemClock(), timers_, io_}).value();
    }
    ~ReadyTest() override {
        server_->Shutdown(SystemClock().Now() + kPatience);
        std::promise<void> closed;
        broker_->Close([&](const Status&) { closed.set_value(); });
        closed.get_future().wait();
    }
    void StartServer(rpc::GrpcServerOptions options = {}) {
        server_ = rpc::GrpcServer::Start(std::move(options), *broker_).value();
    }
    ClientOptions Options() const {
        ClientOptions options;
        options.uri = "grpc://127.0.0.1:" + std::to_string(server_->port());
        options.app_code = "test";
        options.transports = {GrpcTransport()};
        options.log = [](LogLevel, std::string_view) {};
        return options;
    }

    std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    ThreadPool io_{{2, 1024, "io"}};
    ThreadPool timers_{{1, 1024, "timers"}};
    std::unique_ptr<broker::Broker> broker_;
    std::unique_ptr<rpc::GrpcServer> server_;
};

// Of messages that were sent right after Subscribe, 28 of 30 were never received.
TEST_F(ReadyTest, WhatIsSentOnceASubscriptionIsReadyIsReceived) {
    StartServer();
    testing::ExpectThatReadyMeansReady(Options(), 30);
}

TEST_F(ReadyTest, ATokenThatIsRefusedEndsTheWaitAtOnce) {
    rpc::GrpcServerOptions server;
    server.bearer_token = "s3cret";
    server.allow_token_without_tls = true;
    StartServer(std::move(server));
    Client client = Client::Create(Options()).value();
    SubscriptionOptions options;
    options.subject = "s";
    options.group = "g";
    Subscription subscription = client.Subscribe(options, [](const Message&) {}).value();
    const Status status = subscription.WaitReady(std::chrono::hours(1));
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(subscription.stats().last_error.message()), HasSubstr("token"));
}

// "Without secrets": the log tells that the token is refused, and not the token.
TEST_F(ReadyTest, ATokenIsNotToldInTheLog) {
    rpc::GrpcServerOptions server;
    server.bearer_token = "s3cret";
    server.allow_token_without_tls = true;
    StartServer(std::move(server));
    GrpcClientOptions grpc;
    grpc.token = "wr0ng";
    grpc.allow_token_without_tls = true;
    std::string text;  // Nothing is added to it once the client has been shut down.
    std::promise<void> logged;
    ClientOptions options = Options();
    options.transports = {GrpcTransport(std::move(grpc))};
    options.log = [&text, &logged](LogLevel, std::string_view line) {
        if (text.empty()) {
            logged.set_value();
        }
        text.append(line).append("\n");
    };
    Client client = Client::Create(std::move(options)).value();
    SubscriptionOptions consumer;
    consumer.subject = "s";
    consumer.group = "g";
    Subscription subscription = client.Subscribe(consumer, [](const Message&) {}).value();
    const Status status = subscription.WaitReady(std::chrono::hours(1));
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << status;
    ASSERT_EQ(logged.get_future().wait_for(kPatience), std::future_status::ready);
    (void)client.Shutdown(kPatience);
    EXPECT_THAT(text, HasSubstr("token"));
    EXPECT_THAT(text + status.ToString(), ::testing::Not(HasSubstr("wr0ng")));
}

}  // namespace
}  // namespace qmq
