// Handles that are empty: made by a default constructor, moved from, or null where a function was
// wanted. They ended in signal 11, without a word.

#include <gmock/gmock.h>

#include <functional>
#include <utility>

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;

class EmptyHandlesTest : public testing::ClientFixture {};

TEST_F(EmptyHandlesTest, AnEmptyProducerSaysSo) {
    Producer empty;
    EXPECT_DEATH((void)empty.Send(Message("s")), "a Producer is used that is empty");
    EXPECT_DEATH((void)empty.Send(Message("s"), milliseconds(1)), "a Producer is used");
    EXPECT_DEATH((void)empty.Send(Message("s"), [](const SendReceipt&) {}), "a Producer is used");
    EXPECT_DEATH((void)empty.Flush(milliseconds(0)), "a Producer is used that is empty");
}

TEST_F(EmptyHandlesTest, AnEmptySubscriptionSaysSo) {
    Subscription empty;
    EXPECT_DEATH(empty.Pause(), "a Subscription is used that is empty");
    EXPECT_DEATH(empty.Resume(), "a Subscription is used that is empty");
    EXPECT_DEATH((void)empty.stats(), "a Subscription is used that is empty");
    EXPECT_DEATH((void)empty.warnings(), "a Subscription is used that is empty");
    EXPECT_DEATH((void)empty.WaitReady(milliseconds(0)), "a Subscription is used that is empty");
    EXPECT_DEATH((void)empty.Close(milliseconds(0)), "a Subscription is used that is empty");
}

TEST_F(EmptyHandlesTest, AnEmptyPullConsumerSaysSo) {
    PullConsumer empty;
    const auto ignore = [](const Result<std::vector<Delivery>>&) {};
    EXPECT_DEATH((void)empty.Pull({}), "a PullConsumer is used that is empty");
    EXPECT_DEATH((void)empty.PullAsync({}, ignore), "a PullConsumer is used that is empty");
    EXPECT_DEATH((void)empty.WaitReady(milliseconds(0)), "a PullConsumer is used that is empty");
    EXPECT_DEATH((void)empty.Close(milliseconds(0)), "a PullConsumer is used that is empty");
}

TEST_F(EmptyHandlesTest, AnEmptyFutureSaysSo) {
    const SendFuture empty;
    EXPECT_FALSE(empty.ready());
    EXPECT_DEATH((void)empty.Get(), "a SendFuture that came from no send was waited for");
    EXPECT_DEATH((void)empty.WaitFor(milliseconds(0)),
                 "a SendFuture that came from no send was waited for");
}

TEST_F(EmptyHandlesTest, WhatWasMovedFromSaysSo) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    Producer other_producer = std::move(producer);
    // NOLINTBEGIN(bugprone-use-after-move): that is the point.
    EXPECT_DEATH((void)producer.Send(Message("s")), "a Producer is used that is empty");
    Client other = std::move(client);
    EXPECT_DEATH((void)client.MakeProducer(), "a Client is used that was moved from");
    EXPECT_DEATH((void)client.MakePullConsumer({}), "a Client is used that was moved from");
    EXPECT_DEATH((void)client.Subscribe({}, [](const Message&) {}), "a Client is used");
    EXPECT_DEATH((void)client.WaitReady("s", milliseconds(0)), "a Client is used");
    EXPECT_DEATH((void)client.Shutdown(milliseconds(0)), "a Client is used that was moved from");
    EXPECT_DEATH(client.ShutdownAsync(milliseconds(0), nullptr), "a Client is used");
    EXPECT_DEATH((void)client.client_id(), "a Client is used that was moved from");
    auto awaited = Awaitable<Status>::Of([](auto) {});
    auto other_awaited = std::move(awaited);
    EXPECT_DEATH((void)awaited.await_ready(), "an Awaitable that was moved from");
    // NOLINTEND(bugprone-use-after-move)
}

TEST_F(EmptyHandlesTest, AnEmptyCallbackIsNone) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    (void)producer.Send(Message("s"), std::function<void(const SendReceipt&)>());
    (void)producer.Send(Message("s"), nullptr);
    Settle();
    EXPECT_EQ(broker().stored().size(), 2U);
    EXPECT_FALSE(Logged("threw"));
}

TEST_F(EmptyHandlesTest, AnEmptyHandlerOrFilterIsRefused) {
    Client client = MakeClient();
    EXPECT_EQ(client.Subscribe(Consumer(), Handler()).status().code(),
              StatusCode::kInvalidArgument);
    SubscriptionOptions options = Consumer();
    options.filters.push_back(nullptr);
    EXPECT_EQ(client.Subscribe(options, [](const Message&) {}).status().code(),
              StatusCode::kInvalidArgument);
    PullConsumerOptions pull;
    pull.subject = "s";
    pull.group = "g";
    PullConsumer consumer = *client.MakePullConsumer(pull);
    EXPECT_EQ(consumer.PullAsync({}, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qmq
