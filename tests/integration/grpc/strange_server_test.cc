#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "qmq/v1/broker.grpc.pb.h"

#include "plugins/grpc/codec/channel_tuning.h"
#include "tests/integration/grpc/grpc_fixture.h"

// A server that says what ours does not.

namespace qmq {
namespace {

namespace proto = qmq::v1;
using testing::HasSubstr;

class StrangeServer final : public proto::Broker::Service {
public:
    StrangeServer() {
        int port = 0;
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
        address = "127.0.0.1:" + std::to_string(port);
    }
    ~StrangeServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

    grpc::Status Publish(
        grpc::ServerContext* context,
        grpc::ServerReaderWriter<proto::PublishReply, proto::PublishFrame>* stream) override {
        context->AddInitialMetadata(rpc::kMaxMessageBytesKey, max_message_bytes);
        stream->SendInitialMetadata();
        proto::PublishFrame frame;
        while (stream->Read(&frame)) {
        }
        return grpc::Status::OK;
    }
    grpc::Status Discover(grpc::ServerContext*,
                          const proto::DiscoverRequest*,
                          proto::DiscoverReply* reply) override {
        for (const std::string& name : groups) {
            proto::BrokerGroup* group = reply->add_groups();
            group->set_name(name);
            group->set_address(address);
        }
        return grpc::Status::OK;
    }

    std::string address;
    std::string max_message_bytes = "1048576";
    std::vector<std::string> groups;

private:
    std::unique_ptr<grpc::Server> server_;
};

class StrangeServerTest : public testing::Test {
protected:
    std::unique_ptr<Transport> MakeTransport() {
        return GrpcTransport()
            ->Make("grpc://" + server_.address, {SystemClock(), timers_, "client"})
            .value();
    }

    StrangeServer server_;
    ThreadPool timers_{{1, 1024, "timers"}};
};

// Every send was then refused for good, as a batch too large for any frame.
TEST_F(StrangeServerTest, AServerThatTakesNextToNothingIsNotConnectedTo) {
    for (const char* limit : {"0", "65535"}) {
        server_.max_message_bytes = limit;
        auto transport = MakeTransport();
        auto listener = std::make_shared<RecordingConnection>();
        auto connection = transport->Connect({"default", server_.address}, listener);
        ASSERT_TRUE(listener->closed.WaitFor(1));
        EXPECT_EQ(listener->closed.values().front().code(), StatusCode::kUnavailable);
        EXPECT_THAT(std::string(listener->closed.values().front().message()),
                    HasSubstr("takes frames of " + std::string(limit) + " bytes"));
        EXPECT_TRUE(listener->ready.values().empty());
    }
}

// Both were taken into the route.
TEST_F(StrangeServerTest, AGroupThatIsNamedTwiceIsNoRoute) {
    server_.groups = {"a", "b", "a"};
    auto transport = MakeTransport();
    std::promise<Result<Route>> found;
    transport->Discover({"s", "", ClientRole::kProducer, "app", "id"},
                        SystemClock().Now() + kPatience,
                        [&](auto answer) { found.set_value(std::move(answer)); });
    const Status status = Await(found.get_future()).status();
    EXPECT_EQ(status.code(), StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("names group a twice"));
}

}  // namespace
}  // namespace qmq
