#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <thread>

#include "qmq/v1/broker.grpc.pb.h"

#include "tests/integration/grpc/grpc_fixture.h"

// A client in another language sees the generated classes and nothing of ours; here it is one in
// C++.

namespace qmq {
namespace {

namespace proto = qmq::v1;
using testing::HasSubstr;

class PlainCallsTest : public GrpcTest {
protected:
    void SetUp() override { Start({}); }
    void Start(rpc::GrpcServerOptions options) {
        StartServer(std::move(options));
        channel_ = grpc::CreateChannel(Address(), grpc::InsecureChannelCredentials());
        stub_ = proto::Broker::NewStub(channel_);
    }

    /// Calls `method` of the stub with a deadline.
    template <typename Method, typename Request, typename Reply>
    grpc::Status Call(Method method, const Request& request, Reply* reply) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + kPatience);
        return ((*stub_).*method)(&context, request, reply);
    }
    grpc::Status SendOne(const proto::Message& message, proto::SendReply* reply) {
        proto::SendRequest request;
        request.set_subject("order.paid");
        request.set_durability(proto::DURABILITY_PAGE_CACHE);
        *request.add_messages() = message;
        return Call(&proto::Broker::Stub::Send, request, reply);
    }
    proto::PullRequest PullFrom(const std::string& subject, const std::string& group) {
        proto::PullRequest request;
        request.mutable_consumer()->set_subject(subject);
        request.mutable_consumer()->set_group(group);
        request.mutable_consumer()->set_consumer_id("me");
        return request;
    }

    /// Commands to open a subscription to "s" and give it credit.
    proto::ConsumeRequest Subscribe(std::uint64_t number,
                                    std::uint32_t messages = 0,
                                    std::uint64_t bytes = 0) {
        proto::ConsumeRequest commands;
        auto* subscribe = commands.add_commands();
        subscribe->set_subscription(number);
        subscribe->mutable_subscribe()->set_subject("s");
        subscribe->mutable_subscribe()->set_group("g");
        subscribe->mutable_subscribe()->set_consumer_id("me");
        auto* credit = commands.add_commands();
        credit->set_subscription(number);
        credit->mutable_credit()->set_messages(messages);
        credit->mutable_credit()->set_bytes(bytes);
        return commands;
    }

    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<proto::Broker::Stub> stub_;
};

TEST_F(PlainCallsTest, AMessageInClearIsPulledAsItWasSent) {
    proto::Message message;
    message.set_id("my-id");
    message.add_tags("domestic");
    message.set_body(std::string("\x00\xff", 2));
    proto::Property* property = message.add_properties();
    property->set_name("amount");
    property->set_int_value(42);
    proto::SendReply sent;
    ASSERT_TRUE(SendOne(message, &sent).ok());
    EXPECT_EQ(sent.durability(), proto::DURABILITY_PAGE_CACHE);
    ASSERT_EQ(sent.ids_size(), 1);
    EXPECT_EQ(sent.ids(0), "my-id");

    proto::PullReply pulled;
    const grpc::Status status =
        Call(&proto::Broker::Stub::Pull, PullFrom("order.paid", "g"), &pulled);

    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(pulled.incarnation(), 7U);
    ASSERT_EQ(pulled.warnings_size(), 1);
    EXPECT_EQ(pulled.warnings(0), "others differ");
    ASSERT_EQ(pulled.messages_size(), 1);
    EXPECT_EQ(pulled.messages(0).pull_sequence(), 0U);
    EXPECT_EQ(pulled.messages(0).attempt(), 1U);
    const proto::Message& back = pulled.messages(0).message();
    EXPECT_EQ(back.id(), "my-id");
    EXPECT_EQ(back.body(), message.body());
    EXPECT_EQ(back.tags(0), "domestic");
    ASSERT_EQ(back.properties_size(), 1);
    EXPECT_EQ(back.properties(0).int_value(), 42);
    EXPECT_GT(back.created_time_ms(), 0);
}

TEST_F(PlainCallsTest, AMessageWithoutAnIdGetsOneOfItsOwn) {
    proto::SendReply first;
    proto::SendReply second;
    ASSERT_TRUE(SendOne({}, &first).ok());
    ASSERT_TRUE(SendOne({}, &second).ok());
    EXPECT_FALSE(first.ids(0).empty());
    EXPECT_NE(first.ids(0), second.ids(0));
}

TEST_F(PlainCallsTest, WhatCannotBeStoredIsRefusedWithTheReason) {
    broker_.Refuse("order.paid", Status::ResourceExhausted("disk full"));
    proto::SendReply reply;
    const grpc::Status full = SendOne({}, &reply);
    EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(full.error_message(), "disk full");

    proto::SendRequest none;
    none.set_subject("order.paid");
    EXPECT_EQ(Call(&proto::Broker::Stub::Send, none, &reply).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);

    proto::Message message;
    message.add_tags("");
    const grpc::Status wrong = SendOne(message, &reply);
    EXPECT_EQ(wrong.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(wrong.error_message(), HasSubstr("messages[0]"));
}

TEST_F(PlainCallsTest, AnAckReachesTheBrokerAndItsErrorComesBack) {
    proto::AckRequest request;
    request.set_subject("s");
    request.set_group("g");
    request.set_consumer_id("me");
    proto::AckItem* item = request.add_items();
    item->set_first(3);
    item->set_last(4);
    item->set_verdict(proto::AckItem::RENEW);
    proto::AckReply reply;
    ASSERT_TRUE(Call(&proto::Broker::Stub::Ack, request, &reply).ok());
    EXPECT_EQ(reply.not_held_count(), 3U);
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.acks_locked().size() == 1; }));
    EXPECT_EQ(broker_.acks_locked()[0].verdict, AckVerdict::kRenew);
    EXPECT_EQ(broker_.acks_locked()[0].last, 4U);

    request.set_consumer_id("nobody");
    EXPECT_EQ(Call(&proto::Broker::Stub::Ack, request, &reply).error_code(),
              grpc::StatusCode::NOT_FOUND);
}

TEST_F(PlainCallsTest, APullThatWaitsEndsWithItsCallerAndDoesNotHoldUpTheShutdown) {
    proto::PullRequest request = PullFrom("s", "silent");
    request.set_max_wait_ms(3'600'000);
    auto pull = std::async(std::launch::async, [&] {
        proto::PullReply reply;
        grpc::ClientContext context;
        return stub_->Pull(&context, request, &reply);
    });
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.held_locked() == 1; }));

    server_->Shutdown(TimePoint());

    EXPECT_FALSE(pull.get().ok());
    broker_.Release();  // The broker's answer comes too late, and harms nobody.
    server_.reset();
}

// What was handed out to nobody waited for its time-out.
TEST_F(PlainCallsTest, WhatAPullGotAfterItsCallerHadGoneIsGivenBack) {
    broker_.Send({{"s", MakeBatch(3)}}, [](const Receipts&) {});
    grpc::ClientContext context;
    auto pull = std::async(std::launch::async, [&] {
        proto::PullReply reply;
        return stub_->Pull(&context, PullFrom("s", "silent"), &reply);
    });
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.held_locked() == 1; }));
    context.TryCancel();
    EXPECT_EQ(pull.get().error_code(), grpc::StatusCode::CANCELLED);
    server_->Shutdown(TimePoint());  // Until then the server may not have heard of it.

    broker_.Release();

    ASSERT_TRUE(broker_.WaitFor([&] { return !broker_.acks_locked().empty(); }));
    const AckItem& ack = broker_.acks_locked().front();
    EXPECT_EQ(ack.verdict, AckVerdict::kRelease);
    EXPECT_EQ(ack.first, 0U);
    EXPECT_EQ(ack.last, 2U);
}

// The whole pull failed, again and again.
TEST_F(PlainCallsTest, ABatchThatCannotBeDecodedGoesToTheDeadLettersAndHidesNoOther) {
    broker_.Send({{"s", MakeBatch(1)}}, [](const Receipts&) {});
    std::string body(MakeBatch(2).bytes().substr(BatchHeader::kBytes));
    const std::size_t property = body.find(std::string("\x02\x01\x00\x01\x00\x00\x00n1", 9));
    ASSERT_NE(property, std::string::npos);
    body[property] = 9;  // A kind that is unknown.
    broker_.Send({{"s", Slice::Own(MakeBatchHeader(2, body) + body)}}, [](const Receipts&) {});
    broker_.Send({{"s", MakeBatch(1)}}, [](const Receipts&) {});

    proto::PullReply reply;
    const grpc::Status status = Call(&proto::Broker::Stub::Pull, PullFrom("s", "g"), &reply);

    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(reply.messages_size(), 2);
    EXPECT_EQ(reply.messages(0).pull_sequence(), 0U);
    EXPECT_EQ(reply.messages(1).pull_sequence(), 3U);
    ASSERT_EQ(reply.warnings_size(), 2);
    EXPECT_THAT(reply.warnings(1), HasSubstr("2 messages from sequence 1: cannot be decoded"));
    ASSERT_TRUE(broker_.WaitFor([&] { return !broker_.acks_locked().empty(); }));
    const AckItem& ack = broker_.acks_locked().front();
    EXPECT_EQ(ack.verdict, AckVerdict::kDeadLetter);
    EXPECT_EQ(ack.first, 1U);
    EXPECT_EQ(ack.last, 2U);
    EXPECT_THAT(ack.error, HasSubstr("its kind is unknown"));
}

// It is larger than any batch that may be sent.
TEST_F(PlainCallsTest, ARetryThatHasGrownByItsErrorIsPulled) {
    const std::size_t most = BatchLimits().max_batch_bytes;
    const Slice sent = MakeBatch(1, most - MakeBatch(1, 0).size());
    const std::string_view body = sent.bytes().substr(BatchHeader::kBytes);
    const auto head = ReadHead(body, 0);
    ASSERT_TRUE(head.ok());
    broker_.Send({{"s", Slice::Own(EncodeRetry(body, *head, 2, {}, "no room"))}},
                 [](const Receipts&) {});
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    auto stub = proto::Broker::NewStub(
        grpc::CreateCustomChannel(Address(), grpc::InsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    proto::PullReply reply;
    const grpc::Status status = stub->Pull(&context, PullFrom("s", "g"), &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reply.messages_size(), 1);
}

// Both were UNAVAILABLE, as when nothing was stored.
TEST_F(PlainCallsTest, WhatMayHaveBeenStoredIsToldApartFromWhatWasNot) {
    proto::SendReply reply;
    broker_.Refuse("order.paid", Status::Unavailable("stopping"));
    EXPECT_EQ(SendOne({}, &reply).error_code(), grpc::StatusCode::UNAVAILABLE);
    broker_.Refuse("order.paid", Status::Unavailable("the sync failed"), SendOutcome::kUnknown);
    const grpc::Status unknown = SendOne({}, &reply);
    EXPECT_EQ(unknown.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_EQ(unknown.error_message(), "the sync failed");
}

TEST_F(PlainCallsTest, AGroupIsMovedOnlyWhenItIsSaidWhereTo) {
    proto::ResetGroupRequest request;
    request.set_subject("s");
    request.set_group("known");
    proto::ResetGroupReply reply;
    EXPECT_THAT(Call(&proto::Broker::Stub::ResetGroup, request, &reply).error_message(),
                HasSubstr("nothing was moved"));
    request.set_position(proto::SubscribeRequest::START_EARLIEST);
    EXPECT_TRUE(Call(&proto::Broker::Stub::ResetGroup, request, &reply).ok());
}

TEST_F(PlainCallsTest, TheStreamsSpeakTheGeneratedClasses) {
    grpc::ClientContext publish_context;
    auto publish = stub_->Publish(&publish_context);
    proto::PublishFrame frame;
    proto::PublishRequest* request = frame.add_requests();
    request->set_id(99);
    request->add_batches()->set_subject("s");
    const std::string batch(MakeBatch(2).bytes());
    request->mutable_batches(0)->set_batch(batch);
    ASSERT_TRUE(publish->Write(frame));
    proto::PublishReply receipts;
    ASSERT_TRUE(publish->Read(&receipts));
    EXPECT_EQ(receipts.results(0).id(), 99U);
    EXPECT_EQ(receipts.results(0).receipts(0).outcome(), proto::BatchReceipt::PERSISTED);
    publish->WritesDone();
    EXPECT_TRUE(publish->Finish().ok());

    grpc::ClientContext consume_context;
    auto consume = stub_->Consume(&consume_context);
    proto::ConsumeRequest commands;
    auto* subscribe = commands.add_commands();
    subscribe->set_subscription(5);
    subscribe->mutable_subscribe()->set_subject("s");
    subscribe->mutable_subscribe()->set_group("g");
    subscribe->mutable_subscribe()->set_consumer_id("me");
    auto* credit = commands.add_commands();
    credit->set_subscription(5);
    credit->mutable_credit()->set_messages(10);
    ASSERT_TRUE(consume->Write(commands));
    std::string delivered;
    proto::ConsumeFrame events;
    while (delivered.empty() && consume->Read(&events)) {
        for (const auto& event : events.events()) {
            EXPECT_EQ(event.subscription(), 5U);
            if (event.has_delivery()) {
                delivered = event.delivery().batches(0).batch();
            }
        }
    }
    EXPECT_EQ(delivered, batch);
    consume->WritesDone();
    while (consume->Read(&events)) {
    }
    EXPECT_TRUE(consume->Finish().ok());
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.detached_locked() == 1; }));
}

TEST_F(PlainCallsTest, AStreamOfNonsenseIsRefusedAndHarmsNobodyElse) {
    Connect();
    for (const char* method : {"/qmq.v1.Broker/Publish", "/qmq.v1.Broker/Consume"}) {
        grpc::ClientContext context;
        grpc::CompletionQueue queue;
        grpc::GenericStub generic(channel_);
        auto call = generic.PrepareCall(&context, method, &queue);
        void* tag = nullptr;
        bool ok = false;
        const auto next = [&] { ASSERT_TRUE(queue.Next(&tag, &ok)); };
        call->StartCall(&tag);
        next();
        const grpc::Slice nonsense("\xff\xff\xff\xff", 4);
        call->Write(grpc::ByteBuffer(&nonsense, 1), &tag);
        next();
        grpc::Status status;
        call->Finish(&status, &tag);
        next();
        EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
        EXPECT_THAT(status.error_message(), HasSubstr("byte"));
        queue.Shutdown();
        while (queue.Next(&tag, &ok)) {
        }
    }
    EXPECT_EQ(Await(Send({{"s", MakeBatch(1)}})).front().outcome, SendOutcome::kPersisted);
}

// All were made, and waited in the server's memory.
TEST_F(PlainCallsTest, AProducerThatReadsNoReceiptsIsNotReadOn) {
    constexpr std::size_t kFrames = 60;
    constexpr std::size_t kRequests = 1'000;
    broker_.Refuse("s", Status::FailedPrecondition(std::string(1'000, 'x')));
    proto::PublishFrame frame;
    for (std::size_t i = 0; i < kRequests; ++i) {
        frame.add_requests()->set_id(i + 1);
        frame.mutable_requests(static_cast<int>(i))->add_batches()->set_subject("s");
    }
    grpc::ClientContext context;
    auto publish = stub_->Publish(&context);
    std::thread writer([&] {
        for (std::size_t i = 0; i < kFrames; ++i) {
            EXPECT_TRUE(publish->Write(frame));
        }
        EXPECT_TRUE(publish->WritesDone());
    });
    EXPECT_FALSE(
        broker_.WaitFor([&] { return broker_.send_count_locked() > kFrames * kRequests / 2; },
                        std::chrono::seconds(1)));

    std::size_t answered = 0;
    proto::PublishReply reply;
    while (publish->Read(&reply)) {
        answered += static_cast<std::size_t>(reply.results_size());
    }
    writer.join();
    EXPECT_EQ(answered, kFrames * kRequests);
    EXPECT_TRUE(publish->Finish().ok());
}

/// Acks of one subscription, in many frames, whose results nobody reads for a while.
class UnreadAcksTest : public PlainCallsTest {
protected:
    static constexpr std::size_t kFrames = 150;
    static constexpr std::size_t kAcks = 8'000;  // In a frame.
    static constexpr std::uint64_t kNumber = std::uint64_t{1} << 60;

    /// Opens what `open` says, acks until the server reads no further, and then reads: how many
    /// results there were.
    std::size_t AckUnread(const proto::ConsumeRequest& open) {
        grpc::ClientContext context;
        auto consume = stub_->Consume(&context);
        EXPECT_TRUE(consume->Write(open));
        proto::ConsumeRequest frame;
        for (std::size_t i = 0; i < kAcks; ++i) {
            auto* ack = frame.add_commands();
            ack->set_subscription(kNumber);
            ack->mutable_ack()->set_id(kNumber + i);
            ack->mutable_ack()->add_items();
        }
        std::thread writer([&] {
            for (std::size_t i = 0; i < kFrames; ++i) {
                EXPECT_TRUE(consume->Write(frame));
            }
            EXPECT_TRUE(consume->WritesDone());
        });
        EXPECT_FALSE(
            broker_.WaitFor([&] { return broker_.acks_locked().size() > kFrames * kAcks / 2; },
                            std::chrono::seconds(1)));
        std::size_t answered = 0;
        proto::ConsumeFrame events;
        while (consume->Read(&events)) {
            for (const auto& event : events.events()) {
                answered += event.has_ack() ? 1U : 0U;
            }
        }
        writer.join();
        EXPECT_TRUE(consume->Finish().ok());
        return answered;
    }
};

TEST_F(UnreadAcksTest, AConsumerThatReadsNoResultsOfItsAcksIsNotReadOn) {
    EXPECT_EQ(AckUnread(Subscribe(kNumber)), kFrames * kAcks);
}

// Each subscription let 4 MiB more of answers wait, though nothing was delivered to any.
TEST_F(UnreadAcksTest, AConsumerOfManySubscriptionsThatReadsNothingIsNotReadOn) {
    proto::ConsumeRequest open;
    for (std::uint64_t i = 0; i < 100; ++i) {
        open.MergeFrom(Subscribe(kNumber + i));
    }
    EXPECT_EQ(AckUnread(open), kFrames * kAcks);
}

// The other way round: one delivery that is larger than the bound held up the acks for as long as
// it was on its way.
TEST_F(PlainCallsTest, ALargeDeliveryThatIsOnItsWayHoldsUpNoAck) {
    grpc::ClientContext context;
    auto consume = stub_->Consume(&context);
    ASSERT_TRUE(consume->Write(Subscribe(1, 100, 64U << 20)));
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() > 0; }));
    broker_.Send({{"s", MakeBatch(1, 12U << 20)}}, [](const Receipts&) {});
    std::promise<void> told;  // The broker tells one thing after another.
    broker_.Send({}, [&](const Receipts&) { told.set_value(); });
    told.get_future().wait();
    for (int i = 0; i < 2; ++i) {  // The first may be read by a read that was under way.
        proto::ConsumeRequest ack;
        ack.add_commands()->set_subscription(1);
        ack.mutable_commands(0)->mutable_ack()->set_id(static_cast<std::uint64_t>(i) + 1);
        ack.mutable_commands(0)->mutable_ack()->add_items();
        ASSERT_TRUE(consume->Write(ack));
    }
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.acks_locked().size() == 2; },
                                std::chrono::seconds(3)));
    consume->WritesDone();
    proto::ConsumeFrame events;
    while (consume->Read(&events)) {
    }
    consume->Finish();
}

// What has gone out counts as written before its deliveries are told. The difference of the two
// fell below zero: then the stream was read no further, and its next credit lay there. (In every
// other run or so: the two have to meet.)
TEST_F(PlainCallsTest, AConsumerWhoseCreditIsUsedUpIsReadOn) {
    constexpr int kCount = 5'000;
    constexpr int kConsumers = 4;  // More than there are cores, so that threads are interrupted.
    const auto consume_all = [&] {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + kPatience);
        auto consume = stub_->Consume(&context);
        EXPECT_TRUE(consume->Write(Subscribe(1, 1, 64U << 20)));
        proto::ConsumeRequest credit;
        credit.add_commands()->set_subscription(1);
        const proto::ConsumeRequest none = credit;
        credit.mutable_commands(0)->mutable_credit()->set_messages(1);
        credit.mutable_commands(0)->mutable_credit()->set_bytes(1'000);
        int delivered = 0;
        for (proto::ConsumeFrame events; delivered < kCount && consume->Read(&events);) {
            for (const auto& event : events.events()) {
                delivered += event.delivery().batches_size();
            }
            // A frame that brings about nothing, and while nothing else happens the one that
            // counts.
            consume->Write(none);
            consume->Write(credit);
        }
        EXPECT_EQ(delivered, kCount);
        consume->WritesDone();
        for (proto::ConsumeFrame events; consume->Read(&events);) {
        }
        EXPECT_TRUE(consume->Finish().ok());
    };
    for (int i = 0; i < kCount; ++i) {
        broker_.Send({{"s", MakeBatch(1, 100)}}, [](const Receipts&) {});
    }
    std::vector<std::thread> consumers;
    for (int i = 0; i < kConsumers; ++i) {
        consumers.emplace_back(consume_all);
    }
    for (std::thread& consumer : consumers) {
        consumer.join();
    }
}

// What went out of the older subscription was granted to the newer one, which had its number.
TEST_F(PlainCallsTest, WhatIsOnItsWayFromAClosedSubscriptionGivesTheNextOneNothing) {
    constexpr std::uint64_t kMost = 4U << 20;
    grpc::ClientContext context;
    auto consume = stub_->Consume(&context);
    ASSERT_TRUE(consume->Write(Subscribe(1, 100, kMost)));
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() == kMost; }));
    for (int i = 0; i < 5; ++i) {
        broker_.Send({{"s", MakeBatch(1, 1U << 20)}}, [](const Receipts&) {});
    }
    proto::ConsumeRequest close;
    close.add_commands()->set_subscription(1);
    close.mutable_commands(0)->mutable_close();
    ASSERT_TRUE(consume->Write(close));
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.closed_locked() == 1; }));
    std::promise<void> told;  // The broker tells one thing after another.
    broker_.Send({}, [&](const Receipts&) { told.set_value(); });
    told.get_future().wait();

    ASSERT_TRUE(consume->Write(Subscribe(1, 0, 100 * kMost)));
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() == 2 * kMost; }));
    proto::ConsumeFrame events;
    for (int subscribed = 0; subscribed < 2 && consume->Read(&events);) {
        for (const auto& event : events.events()) {
            subscribed += event.has_subscribed() ? 1 : 0;
        }
    }
    consume->WritesDone();
    while (consume->Read(&events)) {
    }
    EXPECT_TRUE(consume->Finish().ok());
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() == 2 * kMost; }));
}

// The limit was held against the compressed size.
TEST_F(PlainCallsTest, ACompressedFrameIsRefused) {
    proto::SendRequest request;
    request.set_subject("s");
    request.add_messages()->set_body(std::string(20U << 20, 'z'));
    grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    proto::SendReply reply;
    EXPECT_EQ(stub_->Send(&context, request, &reply).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(PlainCallsTest, ASubscriptionNumberIsUsedOnceAtATime) {
    grpc::ClientContext context;
    auto consume = stub_->Consume(&context);
    proto::ConsumeRequest commands;
    for (int i = 0; i < 2; ++i) {
        commands.add_commands()->set_subscription(1);
        commands.mutable_commands(i)->mutable_subscribe()->set_subject("s");
    }
    ASSERT_TRUE(consume->Write(commands));
    proto::ConsumeFrame events;
    while (consume->Read(&events)) {
    }
    EXPECT_EQ(consume->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

/// The answer of a unary call to a service whose classes we do not link.
grpc::Status CallByName(const std::shared_ptr<grpc::Channel>& channel,
                        const char* method,
                        const std::string& request,
                        std::string* reply) {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    const grpc::Slice slice(request);
    const grpc::ByteBuffer message(&slice, 1);
    grpc::ByteBuffer answer;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, method, {}, &message, &answer, [&](grpc::Status status) {
        done.set_value(std::move(status));
    });
    grpc::Status status = done.get_future().get();
    grpc::Slice bytes;
    if (status.ok() && answer.DumpToSingleSlice(&bytes).ok()) {
        reply->assign(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
    }
    return status;
}

TEST_F(PlainCallsTest, TheHealthServiceSaysServingForTheServerAndForTheBroker) {
    const std::string serving("\x08\x01", 2);  // HealthCheckResponse { status: SERVING }
    std::string reply;
    ASSERT_TRUE(CallByName(channel_, "/grpc.health.v1.Health/Check", "", &reply).ok());
    EXPECT_EQ(reply, serving);
    const std::string broker = std::string("\x0a\x0d") + "qmq.v1.Broker";
    ASSERT_TRUE(CallByName(channel_, "/grpc.health.v1.Health/Check", broker, &reply).ok());
    EXPECT_EQ(reply, serving);
}

TEST_F(PlainCallsTest, ReflectionKnowsTheBroker) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto call = stub.PrepareCall(
        &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    void* tag = nullptr;
    bool ok = false;
    call->StartCall(&tag);
    ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
    const grpc::Slice list_services("\x3a\x00",
                                    2);  // ServerReflectionRequest { list_services: "" }
    call->Write(grpc::ByteBuffer(&list_services, 1), &tag);
    ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
    grpc::ByteBuffer answer;
    call->Read(&answer, &tag);
    ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
    grpc::Slice bytes;
    ASSERT_TRUE(answer.DumpToSingleSlice(&bytes).ok());
    EXPECT_THAT(std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size()),
                HasSubstr("qmq.v1.Broker"));
    context.TryCancel();
    grpc::Status status;
    call->Finish(&status, &tag);
    ASSERT_TRUE(queue.Next(&tag, &ok));
    queue.Shutdown();
    while (queue.Next(&tag, &ok)) {
    }
}

}  // namespace
}  // namespace qmq
