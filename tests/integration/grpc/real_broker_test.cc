#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <thread>

#include "qmq/client.h"
#include "qmq/v1/broker.grpc.pb.h"

#include "server/env/file_system.h"
#include "tests/integration/grpc/grpc_fixture.h"

// The transport over the real engine: what only the two together can get wrong.

namespace qmq {
namespace {

using testing::SizeIs;

class RealBrokerTest : public testing::Test {
protected:
    RealBrokerTest() {
        broker::BrokerOptions options;
        options.directory = "memory";
        options.shards = 2;
        options.default_durability = Durability::kMemory;
        options.best_durability = Durability::kMemory;
        options.store.segment_bytes = 1U << 20;
        auto broker = broker::Broker::Open(options, {*files_, SystemClock(), timers_, io_});
        EXPECT_TRUE(broker.ok()) << broker.status();
        broker_ = std::move(broker).value();
        auto server = rpc::GrpcServer::Start({}, *broker_);
        EXPECT_TRUE(server.ok()) << server.status();
        server_ = std::move(server).value();
        address_ = "127.0.0.1:" + std::to_string(server_->port());
        transport_ = std::move(GrpcTransport()->Make("grpc://" + address_,
                                                     {SystemClock(), timers_, "client"}))
                         .value();
        connection_ = Connect();
    }
    ~RealBrokerTest() override {
        connection_.reset();
        transport_.reset();
        server_->Shutdown(SystemClock().Now() + kPatience);
        std::promise<Status> closed;
        broker_->Close([&](Status status) { closed.set_value(std::move(status)); });
        EXPECT_TRUE(Await(closed.get_future()).ok());
    }

    std::unique_ptr<BrokerConnection> Connect() {
        auto listener = std::make_shared<RecordingConnection>();
        auto connection = transport_->Connect({"default", address_}, listener);
        EXPECT_TRUE(listener->ready.WaitFor(1));
        return connection;
    }
    std::vector<BatchReceipt> Send(std::vector<SendBatch> batches) {
        std::promise<std::vector<BatchReceipt>> receipts;
        connection_->Send(std::move(batches), [&](std::vector<BatchReceipt> answer) {
            receipts.set_value(std::move(answer));
        });
        return Await(receipts.get_future());
    }
    static SubscribeRequest Consumer() {
        SubscribeRequest request;
        request.key = {"s", "g", "consumer", ConsumeSource::kBoth};
        request.start = StartPosition::kEarliest;
        request.reconnect_grace = std::chrono::minutes(10);
        return request;
    }
    static Result<AckReply> Ack(DeliveryStream& stream, std::uint64_t first, std::uint64_t last) {
        std::promise<Result<AckReply>> reply;
        stream.Ack({{AckVerdict::kAck, first, last, {}, ""}},
                   [&](Result<AckReply> answer) { reply.set_value(std::move(answer)); });
        return Await(reply.get_future());
    }
    Result<std::vector<GroupInfo>> Groups() {
        std::promise<Result<std::vector<GroupInfo>>> groups;
        connection_->ListGroups("s", [&](auto answer) { groups.set_value(std::move(answer)); });
        return Await(groups.get_future());
    }

    std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    ThreadPool io_{{2, 1024, "io"}};
    ThreadPool timers_{{1, 1024, "timers"}};
    std::unique_ptr<broker::Broker> broker_;
    std::unique_ptr<rpc::GrpcServer> server_;
    std::string address_;
    std::unique_ptr<Transport> transport_;
    std::unique_ptr<BrokerConnection> connection_;
};

TEST_F(RealBrokerTest, WhatWasSentIsDeliveredAndGoneOnceItIsAcked) {
    const auto receipts = Send({{"s", MakeBatch(3)}, {"s", MakeBatch(2)}});
    ASSERT_THAT(receipts, SizeIs(2));
    EXPECT_EQ(receipts[0].outcome, SendOutcome::kPersisted) << receipts[0].status;
    EXPECT_EQ(receipts[1].first_sequence, receipts[0].first_sequence + 3);

    auto delivery = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer(), delivery);
    stream->Grant({100, 1 << 20});
    ASSERT_TRUE(delivery->delivered.WaitFor(2));
    const auto messages =
        DecodeMessages("s", Slice::Own(WholeBatch(delivery->delivered.values()[1])), 1, {});
    ASSERT_TRUE(messages.ok()) << messages.status();
    EXPECT_THAT(*messages, SizeIs(2));

    const auto reply = Ack(*stream, 0, 4);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply.value().not_held_count(), 0U);
    const auto groups = Groups();
    ASSERT_TRUE(groups.ok()) << groups.status();
    EXPECT_EQ(groups.value().at(0).lag_count, 0U);
}

TEST_F(RealBrokerTest, AConsumerThatComesBackAfterALostConnectionStillHoldsWhatItHad) {
    Send({{"s", MakeBatch(5)}});
    auto delivery = std::make_shared<RecordingDelivery>();
    auto other = Connect();
    auto stream = other->Subscribe(Consumer(), delivery);
    stream->Grant({5, 1 << 20});
    ASSERT_TRUE(delivery->delivered.WaitFor(1));
    const std::uint64_t incarnation = delivery->subscribed.values().at(0).incarnation;
    other.reset();  // Not left: lost.
    ASSERT_TRUE(delivery->closed.WaitFor(1));

    SubscribeRequest again = Consumer();
    again.resume = ResumePoint{incarnation, 5};
    auto returned = std::make_shared<RecordingDelivery>();
    auto resumed = connection_->Subscribe(again, returned);
    ASSERT_TRUE(returned->subscribed.WaitFor(1));
    EXPECT_EQ(returned->subscribed.values().at(0).held_below, 5U);
    const auto reply = Ack(*resumed, 0, 4);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply.value().not_held_count(), 0U);
}

// It was more than gRPC's clients take, so the caller never saw it.
TEST_F(RealBrokerTest, WhatAPullOfTheDefaultSizeGetsFitsIntoADefaultClient) {
    constexpr std::size_t kMessages = 12;
    for (std::size_t i = 0; i < kMessages; ++i) {
        Send({{"s", MakeBatch(1, 512U << 10)}});
    }
    auto stub =
        qmq::v1::Broker::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
    qmq::v1::PullRequest request;
    request.mutable_consumer()->set_subject("s");
    request.mutable_consumer()->set_group("g");
    request.mutable_consumer()->set_consumer_id("me");
    request.mutable_consumer()->set_start(qmq::v1::SubscribeRequest::START_EARLIEST);
    request.set_max_wait_ms(20'000);
    std::size_t seen = 0;
    while (seen < kMessages) {
        grpc::ClientContext context;
        qmq::v1::PullReply reply;
        const grpc::Status status = stub->Pull(&context, request, &reply);
        ASSERT_TRUE(status.ok()) << status.error_message();
        ASSERT_GT(reply.messages_size(), 0);
        seen += static_cast<std::size_t>(reply.messages_size());
    }
}

TEST_F(RealBrokerTest, AConsumerThatLeavesGivesBackWhatItHeld) {
    Send({{"s", MakeBatch(4)}});
    auto first = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer(), first);
    stream->Grant({4, 1 << 20});
    ASSERT_TRUE(first->delivered.WaitFor(1));
    stream->Close();
    ASSERT_TRUE(first->closed.WaitFor(1));

    SubscribeRequest other = Consumer();
    other.key.consumer_id = "other";
    auto second = std::make_shared<RecordingDelivery>();
    auto next = connection_->Subscribe(other, second);
    next->Grant({4, 1 << 20});
    EXPECT_TRUE(second->delivered.WaitFor(1));
}

TEST_F(RealBrokerTest, TensOfThousandsOfMessagesArriveOnceEachInOrder) {
    constexpr std::uint32_t kPerBatch = 100;
    constexpr std::size_t kBatches = 500;
    auto delivery = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer(), delivery);
    stream->Grant({kPerBatch * kBatches, 1U << 30});
    Inbox<bool> persisted;
    const Slice batch = MakeBatch(kPerBatch);
    for (std::size_t i = 0; i < kBatches; ++i) {
        connection_->Send({{"s", batch}}, [&](const std::vector<BatchReceipt>& receipts) {
            persisted.Put(receipts.front().status.ok());
        });
    }
    std::uint64_t next = 0;
    std::size_t seen = 0;
    while (next < kPerBatch * kBatches) {
        ASSERT_TRUE(delivery->delivered.WaitFor(seen + 1)) << next;
        const auto batches = delivery->delivered.values();
        for (; seen < batches.size(); ++seen) {
            ASSERT_EQ(batches[seen].first_pull_sequence, next);
            next += batches[seen].count;
        }
    }
    EXPECT_TRUE(Ack(*stream, 0, next - 1).ok());
    ASSERT_TRUE(persisted.WaitFor(kBatches));
    EXPECT_THAT(persisted.values(), testing::Each(true));
}

// Messages are staged, encoded, expired and given up by different threads at the same time.
TEST_F(RealBrokerTest, EachMessageOfAFloodOverManySubjectsIsAnsweredOnceWhateverBecomesOfIt) {
    constexpr std::size_t kThreads = 3;
    constexpr std::size_t kMessages = 20'000;
    constexpr std::size_t kSubjects = 300;
    for (const auto shutdown_time :
         {std::chrono::milliseconds(0), std::chrono::milliseconds(10'000)}) {
        std::vector<std::atomic<int>> answers(kThreads * kMessages);
        std::atomic<std::size_t> stored{0};
        ClientOptions options;
        options.uri = "grpc://" + address_;
        options.app_code = "flood";
        options.transports = {GrpcTransport()};
        Result<Client> client = Client::Create(std::move(options));
        ASSERT_TRUE(client.ok()) << client.status();
        {
            std::vector<std::jthread> threads;
            for (std::size_t thread = 0; thread < kThreads; ++thread) {
                ProducerOptions producer_options;
                // Of one many a message expires, wherever it is just then.
                producer_options.timeout = std::chrono::milliseconds(thread == 0 ? 1 : 30'000);
                Result<Producer> producer = client->MakeProducer(producer_options);
                ASSERT_TRUE(producer.ok()) << producer.status();
                threads.emplace_back([&, thread, producer = *producer]() mutable {
                    for (std::size_t i = 0; i < kMessages; ++i) {
                        std::atomic<int>& answer = answers[thread * kMessages + i];
                        Message message("flood-" + std::to_string(i % kSubjects));
                        message.SetBody(std::string(i % 200, 'x'));
                        const Status taken =
                            producer.Send(std::move(message), [&](const SendReceipt& receipt) {
                                ++answer;
                                stored += receipt.ok() ? 1 : 0;
                            });
                        // Its room is full, and no callback comes.
                        answer += taken.ok() ? 0 : 1;
                    }
                });
            }
        }
        const ShutdownReport report = client->Shutdown(shutdown_time);
        for (const std::atomic<int>& answer : answers) {
            ASSERT_EQ(answer, 1);
        }
        if (report.drained) {
            EXPECT_GE(stored, (kThreads - 1) * kMessages);
        }
    }
}

TEST_F(RealBrokerTest, ABrokenBatchIsRefusedByTheBroker) {
    std::string bytes(MakeBatch(1).bytes());
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    const auto receipts = Send({{"s", Slice::Own(bytes)}, {"s", MakeBatch(1)}});
    EXPECT_EQ(receipts[0].outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipts[0].status.code(), StatusCode::kDataLoss) << receipts[0].status;
    EXPECT_EQ(receipts[1].outcome, SendOutcome::kPersisted);
}

}  // namespace
}  // namespace qmq
