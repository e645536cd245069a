#include <numeric>

#include "tests/integration/grpc/grpc_fixture.h"

namespace qmq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class StreamTest : public GrpcTest {};

TEST_F(StreamTest, AFrameOfSeveralBatchesGetsOneReceiptForEachInItsOrder) {
    StartServer();
    broker_.Refuse("full", Status::ResourceExhausted("disk full"));
    Connect();

    const Receipts receipts = Await(Send(
        {{"a", MakeBatch(3), Durability::kFsync}, {"full", MakeBatch(1)}, {"a", MakeBatch(2)}}));

    ASSERT_THAT(receipts, SizeIs(3));
    EXPECT_EQ(receipts[0].outcome, SendOutcome::kPersisted);
    EXPECT_EQ(receipts[0].durability, Durability::kFsync);
    EXPECT_EQ(receipts[0].first_sequence, 0U);
    EXPECT_EQ(receipts[1].outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipts[1].status, Status::ResourceExhausted("disk full"));
    EXPECT_EQ(receipts[2].first_sequence, 3U);
}

TEST_F(StreamTest, ABatchArrivesAtTheConsumerAsTheBytesThatWereSent) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    stream->Grant({1'000, 1 << 20});
    const Slice small = MakeBatch(3);
    const Slice large = MakeBatch(50, 4'000);

    Await(Send({{"s", small}, {"s", large}}));

    ASSERT_TRUE(consumer->delivered.WaitFor(2));
    const auto delivered = consumer->delivered.values();
    EXPECT_EQ(WholeBatch(delivered[0]), small.bytes());
    EXPECT_EQ(WholeBatch(delivered[1]), large.bytes());
    EXPECT_EQ(delivered[1].first_pull_sequence, 3U);
    EXPECT_EQ(delivered[1].count, 50U);
    EXPECT_EQ(consumer->subscribed.values().front().incarnation, 7U);
}

TEST_F(StreamTest, ASubscriptionArrivesAtTheBrokerAsItWasAskedFor) {
    StartServer();
    Connect();
    SubscribeRequest request = Consumer("s", "g");
    request.key.source = ConsumeSource::kRetry;
    request.filter = {TagMode::kAny, {"x", "y"}};
    request.retry = {7, std::chrono::milliseconds(0), 1.5, std::chrono::hours(1)};
    request.ack_timeout = std::chrono::hours(2);
    request.reconnect_grace = std::chrono::milliseconds(0);
    request.resume = ResumePoint{99, 1'000};
    auto consumer = std::make_shared<RecordingDelivery>();

    auto stream = connection_->Subscribe(request, consumer);

    ASSERT_TRUE(consumer->subscribed.WaitFor(1));
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.subscribed_locked().size() == 1; }));
    const SubscribeRequest& asked = broker_.subscribed_locked().front();
    EXPECT_EQ(asked.key, request.key);
    EXPECT_EQ(asked.filter, request.filter);
    EXPECT_EQ(asked.start, request.start);
    EXPECT_EQ(asked.retry, request.retry);
    EXPECT_EQ(asked.ack_timeout, request.ack_timeout);
    EXPECT_EQ(asked.reconnect_grace, request.reconnect_grace);
    ASSERT_TRUE(asked.resume.has_value());
    EXPECT_EQ(asked.resume->incarnation, 99U);
    EXPECT_EQ(asked.resume->next_pull_sequence, 1'000U);
}

TEST_F(StreamTest, NothingIsDeliveredBeyondTheCredit) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    stream->Grant({2, 1 << 20});
    Await(Send({{"s", MakeBatch(1)}, {"s", MakeBatch(1)}, {"s", MakeBatch(1)}}));
    ASSERT_TRUE(consumer->delivered.WaitFor(2));

    // An ack goes the same way as a delivery would have: after it nothing can be on the way.
    std::promise<void> acked;
    stream->Ack({{AckVerdict::kAck, 0, 1, {}, ""}},
                [&](const Result<AckReply>&) { acked.set_value(); });
    acked.get_future().wait();

    EXPECT_THAT(consumer->delivered.values(), SizeIs(2));
    stream->Grant({1, 0});
    EXPECT_TRUE(consumer->delivered.WaitFor(3));
}

TEST_F(StreamTest, HoweverMuchCreditAClientGrantsTheBrokerGetsMoreAsDeliveriesGoOut) {
    StartServer();
    Connect();
    constexpr std::size_t kBatches = 20;
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);

    stream->Grant({1'000, std::uint64_t{1} << 40});

    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() > 0; }));
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() == 4U << 20; }));
    std::vector<std::future<Receipts>> receipts;
    for (std::size_t i = 0; i < kBatches; ++i) {
        receipts.push_back(Send({{"s", MakeBatch(1, 1U << 20)}}));
    }
    EXPECT_TRUE(consumer->delivered.WaitFor(kBatches));
    // As much as went out came back.
    EXPECT_TRUE(
        broker_.WaitFor([&] { return broker_.granted_bytes_locked() >= (kBatches + 4) << 20; }));
    EXPECT_FALSE(
        broker_.WaitFor([&] { return broker_.granted_bytes_locked() > (kBatches + 5) << 20; },
                        std::chrono::milliseconds(0)));
}

// What a message larger than the credit had overdrawn was never granted again, and so the broker,
// which remembers it, handed out nothing more.
TEST_F(StreamTest, WhatALargeMessageOverdrewIsGrantedAgain) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    stream->Grant({1'000, std::uint64_t{1} << 40});
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.granted_bytes_locked() == 4U << 20; }));

    const Slice large = MakeBatch(1, 12U << 20);
    Await(Send({{"s", large}}));

    ASSERT_TRUE(consumer->delivered.WaitFor(1));
    EXPECT_TRUE(broker_.WaitFor(
        [&] { return broker_.granted_bytes_locked() == (4U << 20) + large.size(); }));
}

TEST_F(StreamTest, AcksArriveAsTheyWereMadeAndAreAnswered) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    std::promise<Result<AckReply>> reply;

    stream->Ack({{AckVerdict::kAck, 5, 9, {}, ""},
                 {AckVerdict::kRetry, 10, 10, std::chrono::milliseconds(0), "not \xff now"}},
                [&](Result<AckReply> answer) { reply.set_value(std::move(answer)); });

    EXPECT_TRUE(Await(reply.get_future()).ok());
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.acks_locked().size() == 2; }));
    const AckItem& first = broker_.acks_locked()[0];
    EXPECT_EQ(first.verdict, AckVerdict::kAck);
    EXPECT_EQ(first.first, 5U);
    EXPECT_EQ(first.last, 9U);
    EXPECT_FALSE(first.delay.has_value());
    const AckItem& second = broker_.acks_locked()[1];
    EXPECT_EQ(second.verdict, AckVerdict::kRetry);
    EXPECT_EQ(second.delay, std::chrono::milliseconds(0));
    EXPECT_EQ(second.error, "not ? now");
}

TEST_F(StreamTest, AnAckOfThousandsOfItemsIsAnsweredOnce) {
    StartServer();
    Connect();
    auto stream = connection_->Subscribe(Consumer("s", "g"), std::make_shared<RecordingDelivery>());
    std::vector<AckItem> items(5'000);
    for (std::size_t i = 0; i < items.size(); ++i) {
        items[i].first = items[i].last = i * 2;
    }
    std::promise<Result<AckReply>> reply;

    stream->Ack(items, [&](Result<AckReply> answer) { reply.set_value(std::move(answer)); });

    EXPECT_TRUE(Await(reply.get_future()).ok());
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.acks_locked().size() == 5'000; }));
}

TEST_F(StreamTest, CloseLeavesTheGroupAndIsConfirmed) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);

    stream->Close();

    ASSERT_TRUE(consumer->closed.WaitFor(1));
    EXPECT_EQ(consumer->closed.values().front().code(), StatusCode::kCancelled);
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.closed_locked() == 1; }));
}

TEST_F(StreamTest, DestroyingADeliveryStreamLeavesTheGroup) {
    StartServer();
    Connect();
    auto consumer = std::make_shared<RecordingDelivery>();

    connection_->Subscribe(Consumer("s", "g"), consumer).reset();

    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.closed_locked() == 1; }));
    EXPECT_TRUE(consumer->closed.WaitFor(1));
}

TEST_F(StreamTest, ARefusedSubscriptionClosesWithTheReasonAndLeavesTheConnectionOpen) {
    StartServer();
    Connect();
    auto refused = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "forbidden"), refused);

    ASSERT_TRUE(refused->closed.WaitFor(1));

    EXPECT_EQ(refused->closed.values().front(), Status::InvalidArgument("group: forbidden"));
    EXPECT_EQ(Await(Send({{"s", MakeBatch(1)}})).front().outcome, SendOutcome::kPersisted);
}

TEST_F(StreamTest, SubscriptionsOfOneConnectionDoNotMix) {
    StartServer();
    Connect();
    auto a = std::make_shared<RecordingDelivery>();
    auto b = std::make_shared<RecordingDelivery>();
    auto stream_a = connection_->Subscribe(Consumer("a", "g"), a);
    auto stream_b = connection_->Subscribe(Consumer("b", "g"), b);
    stream_a->Grant({10, 1 << 20});
    stream_b->Grant({10, 1 << 20});

    Await(Send({{"a", MakeBatch(1)}, {"b", MakeBatch(2)}}));

    ASSERT_TRUE(a->delivered.WaitFor(1));
    ASSERT_TRUE(b->delivered.WaitFor(1));
    EXPECT_EQ(a->delivered.values().front().count, 1U);
    EXPECT_EQ(b->delivered.values().front().count, 2U);
}

TEST_F(StreamTest, ALostConnectionDetachesItsConsumersAndAnswersEverythingFirst) {
    StartServer();
    Connect();
    broker_.HoldSends();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    ASSERT_TRUE(consumer->subscribed.WaitFor(1));
    auto receipts = Send({{"s", MakeBatch(1)}});
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.send_count_locked() == 1; }));

    server_->Shutdown(TimePoint());

    ASSERT_TRUE(listener_->closed.WaitFor(1));
    EXPECT_EQ(listener_->closed.values().front().code(), StatusCode::kUnavailable);
    // Everything was told before: nothing is left to wait for.
    ASSERT_EQ(receipts.wait_for(std::chrono::seconds(0)), std::future_status::ready);
    const BatchReceipt receipt = receipts.get().front();
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kUnavailable);
    ASSERT_THAT(consumer->closed.values(), SizeIs(1));
    EXPECT_TRUE(broker_.WaitFor([&] { return broker_.detached_locked() == 1; }));
    broker_.Release();
}

TEST_F(StreamTest, ShutdownAnswersWhatTheBrokerHasBeforeItEndsTheStreams) {
    StartServer();
    Connect();
    broker_.HoldSends();
    auto receipts = Send({{"s", MakeBatch(1)}});
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.send_count_locked() == 1; }));

    auto shutdown =
        std::async(std::launch::async, [&] { server_->Shutdown(SystemClock().Now() + kPatience); });
    broker_.Release();

    EXPECT_EQ(Await(std::move(receipts)).front().outcome, SendOutcome::kPersisted);
    ASSERT_EQ(shutdown.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    EXPECT_TRUE(listener_->closed.WaitFor(1));
}

TEST_F(StreamTest, DestroyingTheConnectionAnswersWhatIsUnderWay) {
    StartServer();
    Connect();
    broker_.HoldSends();
    auto receipts = Send({{"s", MakeBatch(1)}});
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.send_count_locked() == 1; }));

    connection_.reset();

    EXPECT_EQ(Await(std::move(receipts)).front().outcome, SendOutcome::kUnknown);
    ASSERT_TRUE(listener_->closed.WaitFor(1));
    EXPECT_EQ(listener_->closed.values().front().code(), StatusCode::kCancelled);
    broker_.Release();
}

TEST_F(StreamTest, DestroyingTheTransportEndsAndWaitsForEverything) {
    StartServer();
    Connect();
    broker_.HoldSends();
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    auto receipts = Send({{"s", MakeBatch(1)}});

    transport_.reset();

    EXPECT_THAT(listener_->closed.values(), SizeIs(1));
    EXPECT_THAT(consumer->closed.values(), SizeIs(1));
    EXPECT_EQ(receipts.wait_for(std::chrono::seconds(0)), std::future_status::ready);
    broker_.Release();
}

TEST_F(StreamTest, TheTransportMayBeDestroyedInsideACallback) {
    StartServer();
    Connect();
    std::promise<void> destroyed;

    connection_->Send({{"s", MakeBatch(1)}}, [&](Receipts) {
        transport_.reset();
        destroyed.set_value();
    });

    Await(destroyed.get_future());
    EXPECT_TRUE(listener_->closed.WaitFor(1));
}

TEST_F(StreamTest, TheLastChannelOfAProcessMayEndOnOneOfGrpcsOwnThreads) {
    // No server, which would have its part in gRPC's threads. Port 1: nobody listens there.
    for (int i = 0; i < 20; ++i) {
        auto transport = GrpcTransport()->Make("grpc://127.0.0.1:1", {SystemClock(), timers_, "c"});
        auto listener = std::make_shared<RecordingConnection>();
        transport.value()->Connect({"default", "127.0.0.1:1"}, listener).reset();
        ASSERT_TRUE(listener->closed.WaitFor(1));
    }
}

TEST_F(StreamTest, WhatIsSentBeforeTheConnectionIsReadyWaitsForIt) {
    StartServer();
    auto transport = MakeTransport();
    transport_ = std::move(transport).value();
    connection_ = transport_->Connect({"default", Address()}, listener_);

    EXPECT_EQ(Await(Send({{"s", MakeBatch(1)}})).front().outcome, SendOutcome::kPersisted);
}

TEST_F(StreamTest, SendsOnAClosedConnectionAreRefusedAtOnce) {
    StartServer();
    Connect();
    server_->Shutdown(TimePoint());
    ASSERT_TRUE(listener_->closed.WaitFor(1));

    const Receipts receipts = Await(Send({{"s", MakeBatch(1)}, {"s", MakeBatch(1)}}));

    ASSERT_THAT(receipts, SizeIs(2));
    EXPECT_EQ(receipts[1].outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipts[1].status.code(), StatusCode::kUnavailable);
    auto consumer = std::make_shared<RecordingDelivery>();
    auto stream = connection_->Subscribe(Consumer("s", "g"), consumer);
    EXPECT_THAT(consumer->closed.values(), SizeIs(1));
}

TEST_F(StreamTest, ABatchLargerThanTheServerTakesIsRefusedWithoutHarmToTheOthers) {
    rpc::GrpcServerOptions options;
    options.max_message_bytes = 64 << 10;
    StartServer(options);
    Connect();

    const Receipts receipts =
        Await(Send({{"s", MakeBatch(1)}, {"s", MakeBatch(1, 100'000)}, {"s", MakeBatch(1)}}));

    ASSERT_THAT(receipts, SizeIs(3));
    EXPECT_EQ(receipts[0].outcome, SendOutcome::kPersisted);
    EXPECT_EQ(receipts[1].outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipts[1].status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(receipts[1].status.message()), HasSubstr("65536"));
    EXPECT_EQ(receipts[2].outcome, SendOutcome::kPersisted);
}

TEST_F(StreamTest, ASendLargerThanAFrameIsSplitAndAnsweredWhole) {
    rpc::GrpcServerOptions options;
    options.max_message_bytes = 64 << 10;
    StartServer(options);
    Connect();
    std::vector<SendBatch> batches(20, SendBatch{"s", MakeBatch(1, 30'000)});

    const Receipts receipts = Await(Send(batches));

    ASSERT_THAT(receipts, SizeIs(20));
    for (std::size_t i = 0; i < receipts.size(); ++i) {
        EXPECT_EQ(receipts[i].first_sequence, i);
    }
}

TEST_F(StreamTest, ManySendsFromManyThreadsAreEachAnsweredOnce) {
    StartServer();
    Connect();
    constexpr std::size_t kThreads = 4;
    constexpr std::size_t kSends = 500;
    Inbox<std::uint64_t> sequences;
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&] {
            for (std::size_t i = 0; i < kSends; ++i) {
                connection_->Send({{"s", MakeBatch(1)}}, [&](const Receipts& receipts) {
                    sequences.Put(receipts.front().first_sequence);
                });
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }

    ASSERT_TRUE(sequences.WaitFor(kThreads * kSends));
    auto values = sequences.values();
    std::sort(values.begin(), values.end());
    std::vector<std::uint64_t> expected(kThreads * kSends);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(values, expected);
}

TEST_F(StreamTest, ManyUnansweredSendsStopTheServerFromReading) {
    rpc::GrpcServerOptions options;
    options.max_unanswered_per_stream = 4;
    StartServer(options);
    Connect();
    broker_.HoldSends();
    std::vector<std::future<Receipts>> receipts;
    for (int i = 0; i < 50; ++i) {
        // As large as a frame becomes, so that each is one.
        receipts.push_back(Send({{"s", MakeBatch(1, 1 << 20)}}));
    }
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.send_count_locked() >= 4; }));

    // Another connection is served meanwhile, and what it does lies behind whatever the server
    // would have read of the first.
    auto other_listener = std::make_shared<RecordingConnection>();
    auto other = transport_->Connect({"default", Address()}, other_listener);
    std::promise<void> listed;
    other->ListSubjects([&](const Result<std::vector<SubjectInfo>>&) { listed.set_value(); });
    Await(listed.get_future());
    EXPECT_FALSE(broker_.WaitFor([&] { return broker_.send_count_locked() > 4; },
                                 std::chrono::milliseconds(0)));

    broker_.Release();
    for (auto& receipt : receipts) {
        EXPECT_EQ(Await(std::move(receipt)).front().outcome, SendOutcome::kPersisted);
    }
}

TEST_F(StreamTest, AClientThatNoLongerWaitsForItsAnswersGetsThemAll) {
    StartServer();
    Connect();
    constexpr int kWaited = 20;
    for (int i = 0; i < kWaited; ++i) {
        Await(Send({{"s", MakeBatch(1)}}));
    }

    // What it sends behind an unanswered frame may lie until that is answered.
    broker_.HoldSends();
    auto first = Send({{"s", MakeBatch(1)}});
    ASSERT_TRUE(broker_.WaitFor([&] { return broker_.send_count_locked() == kWaited + 1; }));
    auto second = Send({{"s", MakeBatch(1)}});
    broker_.Release();
    Await(std::move(first));
    Await(std::move(second));
}

TEST_F(StreamTest, MetadataCallsAreAnswered) {
    StartServer();
    Connect();
    Await(Send({{"one", MakeBatch(1)}, {"two", MakeBatch(2)}}));

    std::promise<Result<std::vector<SubjectInfo>>> subjects;
    connection_->ListSubjects([&](auto answer) { subjects.set_value(std::move(answer)); });
    auto listed = Await(subjects.get_future());
    ASSERT_TRUE(listed.ok()) << listed.status();
    ASSERT_THAT(*listed, SizeIs(2));
    EXPECT_EQ(listed->at(1).subject, "two");
    EXPECT_EQ(listed->at(1).next_sequence, 2U);
    EXPECT_EQ(listed->at(1).durability, Durability::kPageCache);

    std::promise<Result<std::vector<GroupInfo>>> groups;
    connection_->ListGroups("one", [&](auto answer) { groups.set_value(std::move(answer)); });
    auto known = Await(groups.get_future());
    ASSERT_TRUE(known.ok()) << known.status();
    EXPECT_EQ(known->at(0).subject, "one");
    EXPECT_EQ(known->at(0).lag_count, 5U);
    EXPECT_EQ(known->at(0).oldest_unacked_age, std::chrono::milliseconds(0));

    std::promise<Status> reset;
    connection_->ResetGroup("one", "unknown", StartPosition::kEarliest, [&](Status status) {
        reset.set_value(std::move(status));
    });
    const Status status = Await(reset.get_future());
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr("subject one has no group unknown"));
}

TEST_F(StreamTest, DiscoverNamesTheServerThatWasAskedUnlessItAdvertisesAnother) {
    rpc::GrpcServerOptions options;
    options.group_name = "group-a";
    StartServer(options);
    auto transport = MakeTransport();
    std::promise<Result<Route>> found;

    (*transport)
        ->Discover({"order.paid", "", ClientRole::kProducer, "app", "id"},
                   SystemClock().Now() + kPatience,
                   [&](auto answer) { found.set_value(std::move(answer)); });

    auto route = Await(found.get_future());
    ASSERT_TRUE(route.ok()) << route.status();
    EXPECT_THAT(route->groups, ElementsAre(BrokerGroup{"group-a", Address(), true, true}));
    EXPECT_TRUE(route->every_subject);
}

}  // namespace
}  // namespace qmq
