// Coroutines that wait for receipts: always resumed or destroyed, and never on a thread that others
// need.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <coroutine>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Owned;
using ::testing::SizeIs;

class SendCoroutineTest : public testing::ClientFixture {
protected:
    SendCoroutineTest() : client(MakeClient()) {}

    Owned SendOne(Producer producer) { receipts.push_back(co_await producer.Send(Message("s"))); }
    Owned SendOneOn(Producer producer, Executor* executor) {
        receipts.push_back(co_await producer.Send(Message("s")).On(*executor));
    }
    Owned WaitFor(SendFuture future) { receipts.push_back(co_await future); }
    Owned WaitOn(SendFuture future, Executor* executor) {
        receipts.push_back(co_await future.On(*executor));
    }
    std::vector<Owned> Start(Producer& producer, int count) {
        std::vector<Owned> all;
        for (int i = 0; i < count; ++i) {
            all.push_back(SendOne(producer));
        }
        return all;
    }

    Client client;
    std::vector<SendReceipt> receipts;
};

// A coroutine that was destroyed while it waited, as of a cancelled request, was resumed later.
TEST_F(SendCoroutineTest, ACoroutineThatIsDestroyedIsNotResumed) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    std::vector<Owned> all = Start(producer, 5);
    Settle();
    all[0].Destroy();
    all[2].Destroy();
    all[4].Destroy();
    broker().SetHoldSends(false);
    while (broker().AnswerHeld()) {
        Settle();
    }
    Settle();
    EXPECT_THAT(receipts, SizeIs(2));
}

TEST_F(SendCoroutineTest, ACoroutineMayBeDestroyedBetweenItsAnswerAndItsTurn) {
    testing::ManualExecutor callbacks(time.clock);
    ClientOptions options = Options();
    options.runtime.callbacks = &callbacks;
    Client other = MakeClient(std::move(options));
    Producer producer = MakeProducer(other);
    std::vector<Owned> all = Start(producer, 3);
    Settle();
    all[1].Destroy();
    callbacks.RunAll();
    EXPECT_THAT(receipts, SizeIs(2));
    EXPECT_TRUE(all[0].done() && all[2].done());
}

TEST_F(SendCoroutineTest, ACoroutineMayDestroyAnotherThatWaitsForTheSameBatch) {
    Producer producer = MakeProducer(client);
    std::vector<Owned> all;
    const auto first = [](Producer to, std::vector<Owned>* others) -> Owned {
        (void)co_await to.Send(Message("s"));
        others->front().Destroy();
    };
    const Owned killer = first(producer, &all);
    all.push_back(SendOne(producer));
    Settle();
    EXPECT_TRUE(killer.done());
    EXPECT_THAT(receipts, SizeIs(0));
}

// A coroutine that is resumed while it is being suspended may end before `await_suspend` returns.
// With an answer that comes inside the call the future is ready before it is waited for.
TEST_F(SendCoroutineTest, AReceiptThatIsThereNeedsNoTurn) {
    Producer producer = MakeProducer(client);
    const SendFuture future = producer.Send(Message("s"));
    Settle();
    ASSERT_TRUE(future.ready());
    const auto wait = [](SendFuture of) -> Owned { (void)co_await of; };
    const Owned waits = wait(future);
    EXPECT_TRUE(waits.done());
}

// At a shutdown a coroutine whose turn did not come was never resumed: it, and all that it held,
// leaked.
TEST_F(SendCoroutineTest, AShutdownResumesEveryCoroutine) {
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    std::vector<Owned> all = Start(producer, 100);
    (void)client.Shutdown(milliseconds(0));
    EXPECT_THAT(receipts, SizeIs(100));
    for (const Owned& one : all) {
        EXPECT_TRUE(one.done());
    }
}

TEST_F(SendCoroutineTest, AClientThatIsDroppedResumesEveryCoroutine) {
    testing::ManualExecutor callbacks(time.clock);
    ClientOptions options = Options();
    options.runtime.callbacks = &callbacks;  // Never runs.
    std::optional<Client> other(MakeClient(std::move(options)));
    Producer producer = MakeProducer(*other);
    std::vector<Owned> all = Start(producer, 10);
    Settle();
    other.reset();
    producer = Producer();
    EXPECT_THAT(receipts, SizeIs(10));
}

// Room was given back with the answer: where coroutines are slower than answers, millions of them
// waited for their turn, whatever the limit said.
TEST_F(SendCoroutineTest, AMessageCountsUntilItsCoroutineHasItsTurn) {
    testing::ManualExecutor callbacks(time.clock);
    testing::ManualExecutor mine(time.clock);
    ClientOptions client_options = Options();
    client_options.runtime.callbacks = &callbacks;
    Client slow = MakeClient(client_options);
    ProducerOptions options;
    options.max_pending_count = 4;
    Producer producer = MakeProducer(slow, options);
    std::vector<Owned> all = Start(producer, 2);
    all.push_back(SendOneOn(producer, &mine));
    ASSERT_TRUE(producer.Send(Message("s"), [](const SendReceipt&) {}).ok());
    Advance(seconds(1));
    EXPECT_THAT(broker().stored(), SizeIs(4));
    const auto has_room = [&producer] { return producer.stats().pending_count < 4; };
    EXPECT_FALSE(has_room());
    EXPECT_EQ(producer.Send(Message("s")).Get().status.code(), StatusCode::kResourceExhausted);
    all[0].Destroy();  // Its turn comes, and gives its room back.
    std::uint64_t most = 4;
    while (callbacks.RunOne()) {
        EXPECT_LE(producer.stats().pending_count, most);
        most = producer.stats().pending_count;
    }
    EXPECT_EQ(most, 1U) << "the one on the other executor";
    EXPECT_EQ(producer.stats().callbacks_owed, 0U);
    mine.RunAll();
    EXPECT_EQ(producer.stats().pending_count, 0U);
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    EXPECT_THAT(receipts, SizeIs(2));
}

// Its room was given back with the first turn: with one that came at once and one that did not,
// 100,000 messages went through a producer that was to hold one.
TEST_F(SendCoroutineTest, AMessageCountsUntilTheLastOfItsCoroutinesHasItsTurn) {
    testing::ManualExecutor mine(time.clock);
    ProducerOptions options;
    options.max_pending_count = 2;
    options.linger = milliseconds(10);
    Producer producer = MakeProducer(client, options);
    std::vector<Owned> all;
    const SendFuture first = producer.Send(Message("s"));
    const SendFuture second = producer.Send(Message("s"));
    for (int i = 0; i < 5; ++i) {
        all.push_back(WaitFor(first));
    }
    all.push_back(WaitOn(first, &mine));
    all.push_back(WaitOn(second, &mine));
    Advance(seconds(1));
    EXPECT_THAT(receipts, SizeIs(5));
    EXPECT_EQ(producer.stats().pending_count, 2U);
    const std::uint64_t bytes = producer.stats().pending_bytes;
    EXPECT_TRUE(mine.RunOne());
    EXPECT_EQ(producer.stats().pending_count, 1U);
    EXPECT_LT(producer.stats().pending_bytes, bytes);
    mine.RunAll();
    EXPECT_EQ(producer.stats().pending_count, 0U);
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
    EXPECT_THAT(receipts, SizeIs(7));
}

// What did not divide by their number was lost, of each batch.
TEST_F(SendCoroutineTest, CoroutinesOfOneBatchGiveAllOfItBack) {
    ProducerOptions options;
    options.linger = milliseconds(10);
    Producer producer = MakeProducer(client, options);
    for (int count = 1; count < 40; ++count) {
        broker().SetHoldSends(true);
        std::vector<Owned> all = Start(producer, count);
        Settle();
        broker().SetHoldSends(false);
        while (broker().AnswerHeld()) {
            Settle();
        }
        Advance(seconds(1));
        ASSERT_EQ(producer.stats().pending_bytes, 0U) << count;
        ASSERT_EQ(producer.stats().pending_count, 0U) << count;
    }
    EXPECT_THAT(receipts, SizeIs(39 * 40 / 2));
}

TEST_F(SendCoroutineTest, AMessageThatSeveralCoroutinesWaitForCountsOnce) {
    testing::ManualExecutor callbacks(time.clock);
    ClientOptions client_options = Options();
    client_options.runtime.callbacks = &callbacks;
    Client slow = MakeClient(client_options);
    Producer producer = MakeProducer(slow);
    const auto wait = [this](SendFuture future) -> Owned { receipts.push_back(co_await future); };
    const SendFuture future = producer.Send(Message("s"));
    ASSERT_TRUE(producer.Send(Message("s"), [](const SendReceipt&) {}).ok());
    std::vector<Owned> all;
    for (int i = 0; i < 3; ++i) {
        all.push_back(wait(future));
    }
    Advance(seconds(1));
    EXPECT_EQ(producer.stats().pending_count, 2U);
    callbacks.RunAll();
    EXPECT_THAT(receipts, SizeIs(3));
    EXPECT_EQ(producer.stats().pending_count, 0U);
    EXPECT_EQ(producer.stats().pending_bytes, 0U);
}

TEST_F(SendCoroutineTest, ACoroutineHasItsRoomBackWhenItGoesOn) {
    ProducerOptions options;
    options.max_pending_count = 1;
    Producer producer = MakeProducer(client, options);
    const auto send_ten = [this](Producer to) -> Owned {
        for (int i = 0; i < 10; ++i) {
            receipts.push_back(co_await to.Send(Message("s")));
        }
    };
    const Owned one = send_ten(producer);
    Advance(seconds(1));
    ASSERT_THAT(receipts, SizeIs(10));
    for (const SendReceipt& receipt : receipts) {
        EXPECT_TRUE(receipt.ok()) << receipt.status;
    }
}

TEST_F(SendCoroutineTest, ACoroutineResumesOnTheExecutorItNames) {
    testing::ManualExecutor mine(time.clock);
    Producer producer = MakeProducer(client);
    const Owned one = SendOneOn(producer, &mine);
    Settle();
    EXPECT_FALSE(one.done());
    mine.RunAll();
    EXPECT_TRUE(one.done());
    ASSERT_THAT(receipts, SizeIs(1));
    EXPECT_TRUE(receipts[0].ok());
}

// Of all that is called, this alone may come when the client has ended: the executor is not its
// own.
TEST_F(SendCoroutineTest, OnItsExecutorACoroutineIsResumedAlsoWhenTheClientHasEnded) {
    testing::ManualExecutor mine(time.clock);
    Producer producer = MakeProducer(client);
    broker().SetHoldSends(true);
    const Owned one = SendOneOn(producer, &mine);
    Settle();
    (void)client.Shutdown(milliseconds(0));
    EXPECT_FALSE(one.done());
    mine.RunAll();
    EXPECT_TRUE(one.done());
    EXPECT_THAT(receipts, SizeIs(1));
}

TEST_F(SendCoroutineTest, OnItsExecutorADestroyedCoroutineIsNotResumedEither) {
    testing::ManualExecutor mine(time.clock);
    Producer producer = MakeProducer(client);
    Owned one = SendOneOn(producer, &mine);
    Settle();
    one.Destroy();
    mine.RunAll();
    EXPECT_THAT(receipts, SizeIs(0));
}

TEST_F(SendCoroutineTest, AnExecutorThatRefusesLeavesNobodyWaiting) {
    class Refusing final : public Executor {
        bool Post(Task) override { return false; }
        TimerId PostAt(TimePoint, Task) override { return 0; }
        bool Cancel(TimerId) override { return false; }
    };
    Refusing refusing;
    Producer producer = MakeProducer(client);
    const Owned one = SendOneOn(producer, &refusing);
    Settle();
    EXPECT_TRUE(one.done());
}

// A coroutine whose turn had been taken by an executor that then stopped was never resumed.
TEST_F(SendCoroutineTest, AnExecutorThatDropsWhatItTookLeavesNobodyWaiting) {
    std::optional<testing::ManualExecutor> mine(std::in_place, time.clock);
    Producer producer = MakeProducer(client);
    const Owned one = SendOneOn(producer, &*mine);
    Settle();
    EXPECT_FALSE(one.done());
    mine.reset();
    EXPECT_TRUE(one.done());
}

// With `inline_callbacks` coroutines were resumed on the transport's thread.
TEST(SendCoroutineThreadsTest, ACoroutineIsNeverResumedOnATransportsThread) {
    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    testing::FakeCluster cluster{&transport_threads};
    cluster.AddBroker("a");
    std::promise<std::thread::id> transport;
    transport_threads.Post([&] { transport.set_value(std::this_thread::get_id()); });
    const std::thread::id transport_thread = transport.get_future().get();
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.transports = {cluster.factory()};
    options.inline_callbacks = true;
    Client client = *Client::Create(std::move(options));
    Producer producer = *client.MakeProducer();
    for (int i = 0; i < 200; ++i) {
        std::promise<std::thread::id> resumed;
        const auto send = [](Producer to, std::promise<std::thread::id>* on) -> Owned {
            (void)co_await to.Send(Message("s"));
            on->set_value(std::this_thread::get_id());
        };
        const Owned one = send(producer, &resumed);
        ASSERT_NE(resumed.get_future().get(), transport_thread);
        one.AwaitEnd();
    }
}

// `await_suspend` used the future's state after the coroutine could have run on another thread, and
// freed it. Run under AddressSanitizer this says so.
TEST(SendCoroutineThreadsTest, ACoroutineMayEndBeforeItsSuspensionReturns) {
    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    testing::FakeCluster cluster{&transport_threads};
    cluster.AddBroker("a");
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.transports = {cluster.factory()};
    Client client = *Client::Create(std::move(options));
    Producer producer = *client.MakeProducer();
    struct Free {
        struct promise_type {
            Free get_return_object() { return {}; }
            std::suspend_never initial_suspend() { return {}; }
            std::suspend_never final_suspend() noexcept { return {}; }
            void return_void() {}
            void unhandled_exception() { std::terminate(); }
        };
    };
    std::atomic<int> ended{0};
    const auto send = [](Producer to, std::atomic<int>* count) -> Free {
        (void)co_await to.Send(Message("s"));
        count->fetch_add(1);
    };
    for (int i = 0; i < 2'000; ++i) {
        send(producer, &ended);
    }
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
    EXPECT_EQ(ended.load(), 2'000);
}

}  // namespace
}  // namespace qmq
