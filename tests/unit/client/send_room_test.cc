// Who waits for room in a producer that is full, for how long, and who is refused at once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Await;
using ::testing::HasSubstr;
using testing::kPatience;

class SendRoomTest : public testing::SendThreadsFixture {
protected:
    /// Fills a producer of one message, which is answered by `GiveRoom`.
    void Fill(Producer& producer) {
        broker().SetHoldSends(true);
        producer.Send(Message("s"), hours(1)).Detach();
        EXPECT_TRUE(Await([this] { return broker().held_frame_count() == 1; }));
    }
    void GiveRoom() {
        broker().SetHoldSends(false);
        EXPECT_TRUE(broker().AnswerHeld());
    }
    static bool AwaitBlocked(const Producer& producer, std::uint64_t count) {
        return Await([&] { return producer.stats().blocked_calls == count; });
    }
    /// `send` is seen to be the `count`th call that waits for room, and refused, since none comes.
    static void ExpectWaitsInVain(const Producer& producer,
                                  std::uint64_t count,
                                  const std::function<Status()>& send) {
        std::atomic<bool> seen{false};
        std::vector<Status> refused;
        std::thread sender([&] {
            do {  // Its deadline may come before anybody has looked.
                refused.push_back(send());
            } while (!seen);
        });
        EXPECT_TRUE(AwaitBlocked(producer, count));
        seen = true;
        sender.join();
        for (const Status& status : refused) {
            EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
            EXPECT_THAT(std::string(status.message()), HasSubstr("for the whole timeout"));
        }
    }
    /// How many of a hundred messages a handler could not send, with room for two at a time.
    int RefusedInAHandler(Client& client, SubscriptionOptions options) {
        Producer producer = Blocking(client, 2);
        auto refused = std::make_shared<std::promise<int>>();
        auto made =
            client.Subscribe(std::move(options), [producer, refused](const Message&) mutable {
                int count = 0;
                for (int i = 0; i < 100; ++i) {
                    count += producer.Send(Message("out"), [](const SendReceipt&) {}).ok() ? 0 : 1;
                }
                refused->set_value(count);
            });
        EXPECT_TRUE(made.ok()) << made.status();
        broker().Append(Message("in"));
        return refused->get_future().get();
    }
};

// Other threads bring the answers, but nobody runs the callback that would give room.
TEST_F(SendRoomTest, ACallbackIsRefusedAtOnceSinceItWouldWaitForItself) {
    for (const bool inline_callbacks : {false, true}) {
        std::promise<std::vector<Status>> told;
        Client client = MakeClient(inline_callbacks);
        Producer producer = Blocking(client, 1);
        const Status taken = producer.Send(Message("s"), [&](const SendReceipt&) {
            told.set_value({producer.Send(Message("s"), SendCallback()),
                            producer.Send(Message("s"), hours(1), SendCallback()),
                            producer.Send(Message("s")).Get().status,
                            producer.Send(Message("s"), hours(1)).Get().status});
        });
        ASSERT_TRUE(taken.ok()) << taken;
        auto came = told.get_future();
        ASSERT_EQ(came.wait_for(kPatience / 2), std::future_status::ready);
        for (const Status& status : came.get()) {
            EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
            EXPECT_THAT(std::string(status.message()), HasSubstr("wait for itself"));
        }
    }
}

TEST_F(SendRoomTest, AHandlerWaitsForRoomAlsoOnAnExecutorOfItsSubscription) {
    ThreadPool handlers{{1, 1U << 20, "handlers"}};
    Client client = MakeClient();
    SubscriptionOptions options = Consumer();
    options.executor = &handlers;
    EXPECT_EQ(RefusedInAHandler(client, options), 0);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

TEST_F(SendRoomTest, ACallWaitsUpToItsOwnDeadline) {
    Client client = MakeClient();
    Producer producer = Blocking(client, 1);
    Fill(producer);
    std::promise<Status> patient;
    std::thread waits(
        [&] { patient.set_value(producer.Send(Message("s"), hours(1), SendCallback())); });
    EXPECT_TRUE(AwaitBlocked(producer, 1));
    ExpectWaitsInVain(
        producer, 2, [&] { return producer.Send(Message("s"), milliseconds(50), SendCallback()); });
    ExpectWaitsInVain(
        producer, 2, [&] { return producer.Send(Message("s"), milliseconds(50)).Get().status; });
    EXPECT_EQ(producer.stats().blocked_calls, 1U) << "the one that has time goes on waiting";
    GiveRoom();
    EXPECT_TRUE(patient.get_future().get().ok());
    waits.join();
}

TEST_F(SendRoomTest, ACallWithoutADeadlineWaitsUpToTheTimeoutOfTheProducer) {
    Client client = MakeClient();
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    options.timeout = milliseconds(50);
    Producer producer = *client.MakeProducer(options);
    Fill(producer);
    ExpectWaitsInVain(producer, 1, [&] { return producer.Send(Message("s"), SendCallback()); });
    ExpectWaitsInVain(producer, 1, [&] { return producer.Send(Message("s")).Get().status; });
    GiveRoom();
}

TEST_F(SendRoomTest, ACallWaitsForBytesAsForMessages) {
    for (const bool has_callback : {false, true}) {
        const auto callback = [has_callback] {
            return has_callback ? SendCallback([](const SendReceipt&) {}) : SendCallback();
        };
        const auto sized = [](const char* subject, std::size_t bytes) {
            Message message(subject);
            message.SetBody(std::string(bytes, 'x'));
            return message;
        };
        Client client = MakeClient();
        ProducerOptions options;
        options.max_pending_bytes = 64U << 10;
        options.when_full = WhenFull::kBlock;
        options.timeout = kPatience;
        Producer producer = *client.MakeProducer(options);
        broker().SetHoldSends(true);
        EXPECT_TRUE(producer.Send(sized("s", 40U << 10), callback()).ok());
        EXPECT_TRUE(Await([this] { return broker().held_frame_count() == 1; }));
        EXPECT_TRUE(producer.Send(sized("t", 10U << 10), callback()).ok());
        EXPECT_TRUE(Await([this] { return broker().held_frame_count() == 2; }));
        std::promise<Status> taken;
        std::thread sender(
            [&] { taken.set_value(producer.Send(sized("s", 40U << 10), callback())); });
        EXPECT_TRUE(AwaitBlocked(producer, 1));
        GiveRoom();  // The second is not answered: there is room for bytes, not for all.
        EXPECT_TRUE(taken.get_future().get().ok());
        sender.join();
        EXPECT_TRUE(broker().AnswerHeld());
        EXPECT_TRUE(producer.Flush(kPatience).ok());
    }
}

TEST_F(SendRoomTest, BlockedCallsAreTheThreadsThatWaitAtThisMoment) {
    constexpr std::uint64_t kThreads = 3;
    Client client = MakeClient();
    Producer producer = Blocking(client, 1);
    EXPECT_EQ(producer.stats().blocked_calls, 0U);
    Fill(producer);
    std::vector<std::thread> senders;
    std::atomic<int> taken{0};
    for (std::uint64_t i = 0; i < kThreads; ++i) {
        senders.emplace_back(
            [&] { taken += producer.Send(Message("s"), [](const SendReceipt&) {}).ok() ? 1 : 0; });
        EXPECT_TRUE(AwaitBlocked(producer, i + 1));
    }
    EXPECT_FALSE(producer.TrySend(Message("s"), SendCallback()).ok());
    EXPECT_EQ(producer.stats().blocked_calls, kThreads);
    GiveRoom();
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_EQ(taken, 3);
    EXPECT_EQ(producer.stats().blocked_calls, 0U);
}

/// On executors of somebody else's.
class SendRoomInTimeTest : public testing::ClientFixture {};

TEST_F(SendRoomInTimeTest, AHandlerOnAnExecutorOfTheRuntimeIsRefusedAtOnce) {
    Client client = MakeClient();
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    options.timeout = seconds(20);
    Producer producer = MakeProducer(client, options);
    std::vector<Status> told;
    Subscription subscription = MakeSubscription(client, Consumer(), [&](const Message&) {
        told.push_back(producer.Send(Message("out"), SendCallback()));
        told.push_back(producer.Send(Message("out"), SendCallback()));
        told.push_back(producer.Send(Message("out")).Get().status);
    });
    broker().SetHoldSends(true);
    Append(1);
    Settle();
    ASSERT_EQ(told.size(), 3U);
    EXPECT_TRUE(told[0].ok()) << told[0];
    for (const Status& status : {told[1], told[2]}) {
        EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
        EXPECT_THAT(std::string(status.message()), HasSubstr("wait for itself"));
    }
    broker().AnswerHeld();
    Settle();
}

}  // namespace
}  // namespace qmq
