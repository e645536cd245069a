// Sentences of the public headers that no other test holds.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class PromiseTest : public testing::ClientFixture {};

TEST_F(PromiseTest, APropertyThatIsAbsentMakesADeadLetterWithItsText) {
    Client client = MakeClient();
    SubscriptionOptions options = Consumer();
    options.retry.max_attempts = 2;
    options.retry.initial_backoff = milliseconds(1);
    const auto subscription = client.Subscribe(
        options, [](const Message& message) { (void)message.Get<std::string>("orderId"); });
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    Append(1);
    Advance(seconds(1));
    ASSERT_THAT(broker().dead_letters(), SizeIs(1));
    EXPECT_THAT(broker().dead_letters()[0].second, HasSubstr("orderId"));
}

TEST_F(PromiseTest, AMistakeOfASetterIsToldByEverySendAndNothingIsSent) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    const auto bad = [] { return Message("s").AddTag("vip").Set("", 1).SetId("").SetBody("x"); };
    int called = 0;
    const auto count = [&called](const SendReceipt&) { ++called; };
    const SendFuture sent = producer.Send(bad());
    const SendFuture tried = producer.TrySend(bad());
    ASSERT_TRUE(sent.ready() && tried.ready());
    for (const Status& status : {sent.Get().status,
                                 tried.Get().status,
                                 producer.Send(bad(), count),
                                 producer.Send(bad(), seconds(1), count),
                                 producer.TrySend(bad(), count)}) {
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(status.message()), HasSubstr("property name is empty"));
    }
    Advance(seconds(1));
    EXPECT_EQ(called, 0);
    EXPECT_THAT(broker().stored(), SizeIs(0));
}

TEST_F(PromiseTest, WithoutALogSinkWarningsGoToStandardError) {
    ClientOptions options = Options();
    options.log = nullptr;
    broker().SetConnectError(Status::Unavailable("nobody is there"));
    ::testing::internal::CaptureStderr();
    {
        Client client = MakeClient(options);
        const auto subscription = client.Subscribe(Consumer(), [](const Message&) {});
        Advance(seconds(1));
        broker().SetConnectError(Status::Ok());
        broker().AppendUndecodable("s");
        Advance(seconds(20));
    }
    const std::string printed = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(printed, HasSubstr("warning: "));
    EXPECT_THAT(printed, HasSubstr("nobody is there"));
    EXPECT_THAT(printed, HasSubstr("error: "));
    EXPECT_THAT(printed, HasSubstr("cannot be decoded"));
    EXPECT_THAT(printed, Not(HasSubstr("connected again")));  // Neither.
}

// The text of an exception is the application's own; what messages carry is not for the log.
TEST_F(PromiseTest, TheLogHasNothingOfTheBodiesOfMessages) {
    std::vector<std::string> lines;
    ClientOptions options = Options();
    options.log = [&lines](LogLevel, std::string_view line) { lines.emplace_back(line); };
    Client client = MakeClient(options);
    SubscriptionOptions consumer = Consumer();
    consumer.retry.max_attempts = 2;
    consumer.retry.initial_backoff = milliseconds(1);
    const auto subscription =
        client.Subscribe(consumer, [](const Message&) { throw std::runtime_error("no"); });
    broker().Append(Message("s").SetBody("s3cret"));
    Advance(seconds(1));
    EXPECT_THAT(broker().dead_letters(), SizeIs(1));
    broker().SetSendHook([](const SendBatch&) {
        return std::optional(BatchReceipt{
            Status::Unavailable("stopping"), SendOutcome::kRefused, Durability::kDefault, 0});
    });
    Producer producer = MakeProducer(client);
    for (int i = 0; i < 30; ++i) {
        producer.Send(Message("t").SetBody("s3cret").Set("password", "s3cret")).Detach();
        Advance(milliseconds(100));
    }
    broker().Cut();
    Advance(seconds(60));
    EXPECT_THAT(lines, Contains(HasSubstr("to the dead letters")));
    EXPECT_THAT(lines, Contains(HasSubstr("giving it a rest")));
    EXPECT_THAT(lines, Not(Contains(HasSubstr("s3cret"))));
}

TEST_F(PromiseTest, AMessageHasTheTimeOfItsSendUnlessItHasOne) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    const WallTime set(std::chrono::hours(7));
    Advance(seconds(1));
    time.clock.JumpWall(std::chrono::hours(1));
    const WallTime sent = time.clock.WallNow();
    // As many as make the producer put them aside until it knows where they go.
    for (int i = 0; i < 10; ++i) {
        const std::string subject = "s" + std::to_string(i);
        producer.Send(Message(subject).SetId("new")).Detach();
        producer.Send(Message(subject).SetId("set").SetCreatedTime(set)).Detach();
    }
    int refusals = 10;
    broker().SetSendHook([&refusals](const SendBatch&) -> std::optional<BatchReceipt> {
        if (refusals-- > 0) {
            return BatchReceipt{
                Status::ResourceExhausted("busy"), SendOutcome::kRefused, Durability::kDefault, 0};
        }
        return std::nullopt;
    });
    Advance(seconds(5));
    ASSERT_THAT(broker().stored(), SizeIs(20));
    for (const auto& message : broker().stored()) {
        const auto head = BatchView::Trusted(message.batch).begin_heads().Next();
        EXPECT_EQ(head->created, message.id == "set" ? set : sent) << message.subject;
    }
}

TEST_F(PromiseTest, AClientThatIsMovedGoesOn) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    Client moved = std::move(client);
    const SendFuture future = producer.Send(Message("s"));
    Settle();
    EXPECT_TRUE(future.ready() && future.Get().ok());
    Client other = MakeClient(Options());
    other = std::move(moved);  // Ends the one that it was.
    EXPECT_TRUE(other.MakeProducer().ok());
}

TEST_F(PromiseTest, APrefetchBelowTheParallelismIsRaisedToIt) {
    Client client = MakeClient();
    SubscriptionOptions options = Consumer();
    options.parallelism = 8;
    options.prefetch_count = 1;
    const auto subscription = client.Subscribe(options, [](const Message&) {});
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    Settle();
    EXPECT_EQ(broker().granted_messages(), 8U);
}

TEST_F(PromiseTest, ASubscriptionWhoseHandlesWereDroppedGoesOn) {
    Client client = MakeClient();
    int handled = 0;
    ASSERT_TRUE(client.Subscribe(Consumer(), [&](const Message&) { ++handled; }).ok());
    Append(3);
    Advance(seconds(1));
    EXPECT_EQ(handled, 3);
}

TEST_F(PromiseTest, ALingerOfZeroGathersNothing) {
    Client client = MakeClient();
    ProducerOptions options;
    options.linger = std::chrono::microseconds(0);
    Producer producer = MakeProducer(client, options);
    producer.Send(Message("s")).Detach();
    Settle();
    broker().SetHoldSends(true);
    for (int i = 0; i < 5; ++i) {
        producer.Send(Message("s")).Detach();
    }
    Settle();
    EXPECT_EQ(broker().held_frame_count(), 5U);
}

TEST_F(PromiseTest, AMessageBeyondTheLimitPassesWhenItIsAlone) {
    Client client = MakeClient();
    ProducerOptions options;
    options.max_pending_bytes = 64U << 10;
    Producer producer = MakeProducer(client, options);
    const SendFuture alone = producer.Send(Message("s").SetBody(std::string(200'000, 'x')));
    const SendFuture another = producer.Send(Message("s").SetBody("x"));
    ASSERT_TRUE(another.ready());
    EXPECT_EQ(another.Get().status.code(), StatusCode::kResourceExhausted);
    Advance(seconds(1));
    ASSERT_TRUE(alone.ready());
    EXPECT_TRUE(alone.Get().ok()) << alone.Get().status;
}

/// With the client's own threads.
class PromiseThreadsTest : public ::testing::Test {
protected:
    PromiseThreadsTest() {
        cluster.AddBroker("a");
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.transports = {cluster.factory()};
        options.log = [](auto&&...) {};
        client = *Client::Create(std::move(options));
    }
    static SubscriptionOptions Consumer() {
        SubscriptionOptions options;
        options.subject = "s";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return options;
    }

    ThreadPool transport{{.threads = 1, .name = "transport"}};
    testing::FakeCluster cluster{&transport};
    std::optional<Client> client;
};

TEST_F(PromiseThreadsTest, AHandlerMayWaitForRoom) {
    ProducerOptions options;
    options.max_pending_count = 2;
    options.when_full = WhenFull::kBlock;
    Producer producer = *client->MakeProducer(options);
    std::promise<int> refused;
    const auto subscription = client->Subscribe(Consumer(), [&](const Message&) {
        int count = 0;
        for (int i = 0; i < 100; ++i) {
            const SendFuture future = producer.Send(Message("t"));
            count += static_cast<int>(future.ready() &&
                                      future.Get().status.code() == StatusCode::kResourceExhausted);
        }
        refused.set_value(count);
    });
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    cluster.broker("a").Append(Message("s"));
    EXPECT_EQ(refused.get_future().get(), 0);
}

TEST_F(PromiseThreadsTest, CallbacksAndHandlersMayWaitForAFuture) {
    Producer producer = *client->MakeProducer();
    std::promise<bool> in_callback;
    std::promise<bool> in_handler;
    (void)producer.Send(Message("t"), [&](const SendReceipt&) {
        in_callback.set_value(producer.Send(Message("t")).Get().ok());
    });
    const auto subscription = client->Subscribe(Consumer(), [&](const Message&) {
        in_handler.set_value(producer.Send(Message("t")).Get().ok());
    });
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    cluster.broker("a").Append(Message("s"));
    EXPECT_TRUE(in_callback.get_future().get());
    EXPECT_TRUE(in_handler.get_future().get());
}

}  // namespace
}  // namespace qmq
