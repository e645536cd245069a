#include <gtest/gtest.h>

#include <future>
#include <optional>

#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using testing::Await;

class SendHeldTest : public testing::SendThreadsFixture {};

// Whoever waits holds what the handle has: a callback may let go of that meanwhile.
TEST_F(SendHeldTest, ACallbackMayDestroyTheProducerThatAnotherThreadWaitsInForRoom) {
    Client client = MakeClient();
    std::optional<Producer> producer = Blocking(client, 1);
    std::promise<void> began;
    ASSERT_TRUE(producer
                    ->Send(Message("s"),
                           [&](const SendReceipt&) {
                               began.set_value();
                               (void)Await([&] { return producer->stats().blocked_calls == 1; });
                               producer.reset();
                           })
                    .ok());
    began.get_future().wait();
    const SendFuture second = producer->Send(Message("s"));
    EXPECT_TRUE(second.Get().ok()) << second.Get();
}

}  // namespace
}  // namespace qmq
