// What a call of a producer says at once: refusals, limits, waiting, and what it tells of itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <sstream>
#include <thread>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class SendCallsTest : public testing::ClientFixture {
protected:
    SendCallsTest() : client(MakeClient()) {}

    static Message Sized(std::size_t body_bytes) {
        Message message("s");
        message.SetBody(std::string(body_bytes, 'x'));
        return message;
    }

    Client client;
};

// A refused message was gone: the caller had nothing to send again, and no id to tell it by.
TEST_F(SendCallsTest, AMessageThatIsNotTakenIsTheCallersAndUnchanged) {
    ProducerOptions options;
    options.max_pending_count = 1;
    Producer producer = MakeProducer(client, options);
    broker().SetHoldSends(true);
    producer.Send(Message("s")).Detach();
    Settle();
    Message message("s");
    message.SetId("kept").SetBody("body").Set("n", 7).AddTag("t").SetDelay(milliseconds(1),
                                                                           time.clock);
    const auto due = message.deliver_at();
    int called = 0;
    const Status status = producer.Send(std::move(message), [&](const SendReceipt&) { ++called; });
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(message.id(), "kept");  // NOLINT(bugprone-use-after-move): not taken.
    EXPECT_EQ(message.body(), "body");
    EXPECT_EQ(message.Get<std::int32_t>("n"), 7);
    EXPECT_TRUE(message.HasTag("t"));
    EXPECT_EQ(message.deliver_at(), due);
    broker().AnswerHeld();
    Settle();
    broker().SetHoldSends(false);
    EXPECT_TRUE(producer.Send(std::move(message), [&](const SendReceipt&) { ++called; }).ok());
    Advance(seconds(1));
    EXPECT_EQ(called, 1);
    EXPECT_EQ(broker().stored().back().id, "kept");
}

TEST_F(SendCallsTest, ARefusalInTheFutureFormNamesTheMessage) {
    Producer producer = MakeProducer(client);
    const SendReceipt receipt = producer.Send(Message("s").SetId("mine"), milliseconds(0)).Get();
    EXPECT_EQ(receipt.outcome, SendOutcome::kRefused);
    EXPECT_EQ(receipt.message_id, "mine");
}

// After a shutdown the callback of a send never came, and its header said that it would.
TEST_F(SendCallsTest, AfterAShutdownASendSaysSoAndCallsNobody) {
    Producer producer = MakeProducer(client);
    (void)client.Shutdown(milliseconds(0));
    int called = 0;
    const Status status = producer.Send(Message("s"), [&](const SendReceipt&) { ++called; });
    EXPECT_EQ(status.code(), StatusCode::kCancelled);
    Advance(seconds(1));
    EXPECT_EQ(called, 0);
}

TEST_F(SendCallsTest, WhatWasTakenIsCalledBackThroughAShutdown) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    std::vector<SendReceipt> receipts;
    for (int i = 0; i < 30; ++i) {
        ASSERT_TRUE(producer
                        .Send(Message("s"),
                              [&](const SendReceipt& receipt) { receipts.push_back(receipt); })
                        .ok());
        Settle();
    }
    (void)client.Shutdown(milliseconds(0));
    ASSERT_THAT(receipts, SizeIs(30));
    for (const SendReceipt& receipt : receipts) {
        EXPECT_TRUE(receipt.outcome == SendOutcome::kUnknown ||
                    receipt.status.code() == StatusCode::kCancelled)
            << receipt;
    }
}

TEST_F(SendCallsTest, AnEmptyCallbackIsNone) {
    Producer producer = MakeProducer(client);
    EXPECT_TRUE(producer.Send(Message("s"), SendCallback()).ok());
    Settle();
    EXPECT_THAT(broker().stored(), SizeIs(1));
    EXPECT_EQ(producer.stats().pending_count, 0U);
}

// Messages above what the broker takes were copied, encoded and summed, and then refused.
TEST_F(SendCallsTest, AMessageLargerThanTheBrokersTakeIsRefusedAtOnce) {
    cluster.SetLimits("a", {.max_batch_bytes = 100'000});
    Producer producer = MakeProducer(client);
    EXPECT_TRUE(producer.Send(Message("s"), SendCallback()).ok());
    Settle();
    Message large = Sized(100'000);
    const std::size_t overhead = large.encoded_bytes() - 100'000 + BatchHeader::kBytes;
    const Status status = producer.Send(std::move(large), SendCallback());
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at most 99984"));
    EXPECT_EQ(large.body().size(), 100'000U);  // NOLINT(bugprone-use-after-move): not taken.
    EXPECT_FALSE(producer.Send(Sized(100'001 - overhead), SendCallback()).ok());
    EXPECT_TRUE(producer.Send(Sized(100'000 - overhead), SendCallback()).ok());
    Settle();
    EXPECT_THAT(broker().stored(), SizeIs(2));
}

TEST_F(SendCallsTest, WithoutAWordOfTheBrokerTheLimitIs4MiB) {
    Producer producer = MakeProducer(client);
    EXPECT_TRUE(producer.Send(Message("s"), SendCallback()).ok());
    Settle();
    EXPECT_FALSE(producer.Send(Sized(4U << 20), SendCallback()).ok());
    EXPECT_TRUE(producer.Send(Sized((4U << 20) - 200), SendCallback()).ok());
    Settle();
}

TEST_F(SendCallsTest, ABrokerMayTakeMoreThan4MiB) {
    cluster.SetLimits("a", {.max_batch_bytes = 8U << 20});
    Producer producer = MakeProducer(client);
    const SendFuture early = producer.Send(Message("s").SetBody(std::string(7U << 20, 'x')));
    Settle();
    ASSERT_TRUE(early.ready());
    EXPECT_TRUE(early.Get().ok()) << early.Get();
    const SendFuture late = producer.Send(Message("s").SetBody(std::string(7U << 20, 'x')));
    Settle();
    ASSERT_TRUE(late.ready());
    EXPECT_TRUE(late.Get().ok()) << late.Get();
}

TEST_F(SendCallsTest, WhatWasTakenBeforeTheLimitWasKnownIsRefusedWhenItIs) {
    Producer producer = MakeProducer(client);
    const SendFuture plain = producer.Send(Message("s").SetBody(std::string(5U << 20, 'x')));
    const SendFuture keyed =
        producer.Send(Message("s").SetOrderingKey("k").SetBody(std::string(5U << 20, 'x')));
    const SendFuture small = producer.Send(Message("s").SetOrderingKey("k"));
    Settle();
    for (const SendFuture& future : {plain, keyed}) {
        ASSERT_TRUE(future.ready());
        EXPECT_EQ(future.Get().outcome, SendOutcome::kRefused);
        EXPECT_EQ(future.Get().status.code(), StatusCode::kInvalidArgument);
    }
    ASSERT_TRUE(small.ready());
    EXPECT_TRUE(small.Get().ok());
}

TEST_F(SendCallsTest, NoBatchIsLargerThanTheBrokersTake) {
    cluster.SetLimits("a", {.max_batch_bytes = 10'000});
    Producer producer = MakeProducer(client);
    EXPECT_TRUE(producer.Send(Message("s"), SendCallback()).ok());
    Settle();
    broker().SetHoldSends(true);
    broker().SetSendHook([](const SendBatch& batch) -> std::optional<BatchReceipt> {
        EXPECT_LE(batch.batch.size(), 10'000U);
        return std::nullopt;
    });
    for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(producer.Send(Sized(1'000), SendCallback()).ok());
    }
    while (broker().AnswerHeld()) {
        Settle();
    }
    EXPECT_THAT(broker().stored(), SizeIs(101));
}

TEST_F(SendCallsTest, TrySendNeverWaits) {
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    options.timeout = std::chrono::hours(1);
    Producer producer = MakeProducer(client, options);
    broker().SetHoldSends(true);
    producer.Send(Message("s")).Detach();
    EXPECT_EQ(producer.TrySend(Message("s")).Get().status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(producer.TrySend(Message("s"), SendCallback()).code(),
              StatusCode::kResourceExhausted);
}

TEST_F(SendCallsTest, ACallbackDoesNotWaitForRoomAndSaysWhy) {
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    options.timeout = std::chrono::hours(1);
    Producer producer = MakeProducer(client, options);
    Status status;
    EXPECT_TRUE(
        producer
            .Send(Message("s"),
                  [&](const SendReceipt&) { status = producer.Send(Message("s"), SendCallback()); })
            .ok());
    Settle();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("wait for itself"));
}

TEST_F(SendCallsTest, AFutureIsNotWaitedForOnTheThreadThatBringsTheAnswer) {
    Producer producer = MakeProducer(client);
    SendReceipt receipt;
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) { receipt = producer.Send(Message("s")).Get(); })
                    .ok());
    Settle();
    EXPECT_EQ(receipt.outcome, SendOutcome::kUnknown);
    EXPECT_EQ(receipt.status.code(), StatusCode::kFailedPrecondition);
}

// A thread that may be somebody's request had to send up to 64 frames of others.
TEST_F(SendCallsTest, ACallerSendsAFewFramesAndTheClientTheRest) {
    testing::FakeCluster inline_cluster;  // Answers inside the call.
    testing::FakeBroker& only = inline_cluster.AddBroker("a");
    auto options = Options();
    options.transports = {inline_cluster.factory()};
    Client other = MakeClient(std::move(options));
    inline_cluster.SetEverySubject(true);
    Producer producer = MakeProducer(other);
    constexpr int kMessages = 700;
    for (int i = 0; i < kMessages; ++i) {
        producer.Send(Message("subject-" + std::to_string(i))).Detach();
        time.clock.Advance(std::chrono::microseconds(1));  // A burst, which gathers.
    }
    EXPECT_EQ(producer.Flush(milliseconds(0)).code(), StatusCode::kDeadlineExceeded);
    EXPECT_LE(only.stored().size(), 400U) << "four frames of 64 batches, and the begin";
    Settle();
    EXPECT_THAT(only.stored(), SizeIs(kMessages));
}

TEST_F(SendCallsTest, StatisticsTellWhatIsPendingAndWhatBecameOfTheRest) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    for (int i = 0; i < 3; ++i) {
        producer.Send(Message("s"), seconds(1)).Detach();
        Settle();
    }
    Producer::Stats stats = producer.stats();
    EXPECT_EQ(stats.pending_count, 3U);
    EXPECT_GT(stats.pending_bytes, 300U);
    EXPECT_EQ(stats.in_flight_batches, 2U);
    broker().AnswerHeld();
    Settle();
    Advance(seconds(2));
    EXPECT_FALSE(producer.Send(Message(), SendCallback()).ok());
    stats = producer.stats();
    EXPECT_EQ(stats.pending_count, 0U);
    EXPECT_EQ(stats.persisted_count, 1U);
    EXPECT_EQ(stats.unknown_count, 2U);
    EXPECT_EQ(stats.refused_count, 1U);
    std::ostringstream text;
    text << stats;
    EXPECT_THAT(text.str(), HasSubstr("persisted 1, unknown 2, refused 1"));
}

TEST_F(SendCallsTest, AReceiptIsOneLine) {
    Producer producer = MakeProducer(client);
    const SendFuture stored = producer.Send(Message("s").SetId("7"));
    Settle();
    std::ostringstream text;
    text << stored.Get() << "\n" << producer.Send(Message("s").SetId("8"), milliseconds(0)).Get();
    EXPECT_THAT(text.str(),
                HasSubstr("message 7: persisted, memory, in broker group a at 0, attempts 1\n"
                          "message 8: refused (invalid argument: timeout of the send: 0 ms"));
}

// The difference to now overflowed.
TEST_F(SendCallsTest, ADueTimeOfAnyPastIsDeliveredAtOnce) {
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s").SetDeliverAt(WallTime::min()));
    Settle();
    ASSERT_TRUE(future.ready());
    EXPECT_TRUE(future.Get().ok()) << future.Get();
}

// A retry carries the time at which its broker wanted to deliver it, on the broker's clock; where
// that is half a second ahead of ours it was refused as delayed.
TEST_F(SendCallsTest, ARetryOfABrokerWhoseClockIsAheadCanBeSentAgain) {
    Producer producer = MakeProducer(client);
    broker().Append(Message("s").SetDeliverAt(time.clock.WallNow() + seconds(2)));
    std::optional<SendFuture> again;
    const Subscription subscription =
        MakeSubscription(client, Consumer(), [&](const Message& message) {
            if (!again.has_value()) {
                again = producer.Send(message);
            }
        });
    Settle();
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(again->ready() && again->Get().ok());
}

}  // namespace
}  // namespace qmq
