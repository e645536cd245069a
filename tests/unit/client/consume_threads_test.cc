// Consumers with the client's own threads: which thread calls what, how many handlers there are at
// once, and how a thread that waits is let go.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"
#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/signal.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Counter;
using ::testing::Each;
using testing::Owned;
using testing::Signal;

constexpr seconds kPatience{60};  // Never waited for, where the code is right.

using Batch = Result<std::vector<Delivery>>;

class ConsumeThreadsTest : public ::testing::Test {
protected:
    ConsumeThreadsTest() { cluster.AddBroker("a"); }

    ClientOptions Options(const std::string& id = "client-1") {
        ClientOptions options;
        options.uri = "fake:";
        options.app_code = "test";
        options.client_id = id;
        options.transports = {cluster.factory()};
        options.log = [](LogLevel, std::string_view) {};
        return options;
    }
    static SubscriptionOptions Consumer(const std::string& subject) {
        SubscriptionOptions options;
        options.subject = subject;
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return options;
    }
    static PullConsumer MakePuller(Client& client, const std::string& subject = "s") {
        PullConsumerOptions options;
        options.subject = subject;
        options.group = "g";
        options.start = StartPosition::kEarliest;
        return client.MakePullConsumer(options).value();
    }
    std::thread::id TransportThread() {
        std::promise<std::thread::id> thread;
        transport_threads.Post([&] { thread.set_value(std::this_thread::get_id()); });
        return thread.get_future().get();
    }
    /// The thread that calls what `begin` is given.
    template <typename Begin>
    static std::thread::id CalledOn(Begin begin) {
        std::promise<std::thread::id> called;
        begin([&called](const auto&) { called.set_value(std::this_thread::get_id()); });
        return called.get_future().get();
    }
    /// The thread on which a coroutine goes on that waits for a pull, once `then` was called.
    template <typename Then>
    static std::thread::id ResumedOn(PullConsumer consumer, Then then) {
        std::promise<std::thread::id> resumed;
        const auto pull = [](PullConsumer from, std::promise<std::thread::id>* on) -> Owned {
            (void)co_await from.PullAsync({1, kPatience});
            on->set_value(std::this_thread::get_id());
        };
        const Owned waits = pull(std::move(consumer), &resumed);
        then();
        const std::thread::id thread = resumed.get_future().get();
        waits.AwaitEnd();
        return thread;
    }
    /// A thread that waits in a pull, and has asked for its message.
    std::future<Status> PullElsewhere(PullConsumer consumer) {
        const std::uint64_t before = broker().granted_messages();
        auto pulled = std::async(std::launch::async, [consumer = std::move(consumer)]() mutable {
            return consumer.Pull({1, kPatience}).status();
        });
        while (broker().granted_messages() == before) {
            std::this_thread::yield();
        }
        return pulled;
    }
    testing::FakeBroker& broker() { return cluster.broker("a"); }

    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    testing::FakeCluster cluster{&transport_threads};
};

TEST_F(ConsumeThreadsTest, AcksAndPullsAreAnsweredOnOneThreadOfTheClient) {
    for (const bool inline_callbacks : {false, true}) {
        ClientOptions options = Options();
        options.inline_callbacks = inline_callbacks;  // Of sends: these here stay where they are.
        Client client = Client::Create(std::move(options)).value();
        const std::string subject = inline_callbacks ? "inline" : "s";
        PullConsumer consumer = MakePuller(client, subject);
        std::vector<std::thread::id> on;
        std::vector<Delivery> pulled;
        std::promise<std::thread::id> came;
        broker().Append(Message(subject));
        const Status begun = consumer.PullAsync({1, kPatience}, [&](Batch batch) {
            pulled = std::move(batch).value();
            came.set_value(std::this_thread::get_id());
        });
        ASSERT_TRUE(begun.ok()) << begun;
        on.push_back(came.get_future().get());
        ASSERT_EQ(pulled.size(), 1U);
        on.push_back(CalledOn([&](auto done) { pulled[0].Ack(std::move(done)); }));
        on.push_back(CalledOn([&](auto done) { pulled[0].Nack("the second", std::move(done)); }));
        on.push_back(CalledOn([&](auto done) {  // Nothing comes in so short a time.
            EXPECT_TRUE(consumer.PullAsync({1, milliseconds(0)}, std::move(done)).ok());
        }));
        on.push_back(ResumedOn(consumer, [&] { broker().Append(Message(subject)); }));
        EXPECT_THAT(on, Each(on[0]));
        EXPECT_NE(on[0], std::this_thread::get_id());
        EXPECT_NE(on[0], TransportThread());

        std::promise<std::thread::id> handled;
        broker().Append(Message("t"));
        Subscription subscription =
            client
                .Subscribe(Consumer("t"),
                           [&](const Message&) { handled.set_value(std::this_thread::get_id()); })
                .value();
        EXPECT_NE(on[0], handled.get_future().get());
        EXPECT_TRUE(client.Shutdown(kPatience).drained);
    }
}

TEST_F(ConsumeThreadsTest, ADeliveryOfAHandlerIsAnsweredOnThatThreadToo) {
    Client client = Client::Create(Options()).value();
    PullConsumer consumer = MakePuller(client);
    const std::thread::id callbacks = CalledOn([&](auto done) {
        EXPECT_TRUE(consumer.PullAsync({1, milliseconds(0)}, std::move(done)).ok());
    });
    std::promise<std::thread::id> acked;
    broker().Append(Message("t"));
    Subscription subscription = client
                                    .Subscribe(Consumer("t"),
                                               [&](Delivery delivery) {
                                                   delivery.Ack([&](const Status& status) {
                                                       EXPECT_TRUE(status.ok()) << status;
                                                       acked.set_value(std::this_thread::get_id());
                                                   });
                                               })
                                    .value();
    EXPECT_EQ(acked.get_future().get(), callbacks);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

TEST_F(ConsumeThreadsTest, CloseEndsAPullThatAnotherThreadWaitsIn) {
    Client client = Client::Create(Options()).value();
    PullConsumer consumer = MakePuller(client);
    std::future<Status> pulled = PullElsewhere(consumer);
    EXPECT_TRUE(consumer.Close(kPatience).ok());
    EXPECT_EQ(pulled.get().code(), StatusCode::kCancelled);
}

TEST_F(ConsumeThreadsTest, AShutdownEndsAPullThatAnotherThreadWaitsIn) {
    for (const milliseconds time : {milliseconds(0), milliseconds(kPatience)}) {
        Client client = Client::Create(Options()).value();
        std::future<Status> pulled = PullElsewhere(MakePuller(client));
        (void)client.Shutdown(time);
        EXPECT_EQ(pulled.get().code(), StatusCode::kCancelled);
    }
}

TEST_F(ConsumeThreadsTest, APullInAHandlerIsRefusedInsteadOfWaitingThere) {
    Client client = Client::Create(Options()).value();
    PullConsumer consumer = MakePuller(client);
    std::promise<Status> pulled;
    broker().Append(Message("t"));
    Subscription subscription =
        client
            .Subscribe(Consumer("t"),
                       [&](const Message&) {
                           pulled.set_value(consumer.Pull({1, kPatience}).status());
                       })
            .value();
    EXPECT_EQ(pulled.get_future().get().code(), StatusCode::kFailedPrecondition);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

TEST_F(ConsumeThreadsTest, AHandlerMayPullFromAnotherClient) {
    Client other = Client::Create(Options("client-2")).value();
    PullConsumer consumer = MakePuller(other);
    Client client = Client::Create(Options()).value();
    std::promise<std::pair<Status, std::size_t>> pulled;
    broker().Append(Message("s"));
    broker().Append(Message("t"));
    Subscription subscription =
        client
            .Subscribe(Consumer("t"),
                       [&](const Message&) {
                           Batch batch = consumer.Pull({1, kPatience});
                           pulled.set_value({batch.status(), batch.ok() ? batch->size() : 0});
                       })
            .value();
    const auto [status, count] = pulled.get_future().get();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(count, 1U);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

/// What comes in is let go in groups of one size, each once all of it are there.
class Crowd {
public:
    explicit Crowd(int size) : size_(size) {}
    /// False: it waited in vain.
    bool Pass() {
        std::unique_lock lock(mutex_);
        most_ = std::max(most_, ++inside_);
        const int group = (++come_ + size_ - 1) / size_ * size_;
        changed_.notify_all();
        const bool all = changed_.wait_for(lock, kPatience, [&] { return come_ >= group; });
        --inside_;
        return all;
    }
    /// That were inside at once.
    int most() {
        std::lock_guard lock(mutex_);
        return most_;
    }

private:
    const int size_;
    std::mutex mutex_;
    std::condition_variable changed_;
    int come_ = 0;
    int inside_ = 0;
    int most_ = 0;
};

class ParallelismTest : public ConsumeThreadsTest, public ::testing::WithParamInterface<bool> {};

INSTANTIATE_TEST_SUITE_P(Threads, ParallelismTest, ::testing::Bool(), [](const auto& param) {
    return param.param ? "OfTheApplication" : "OfTheClient";
});

TEST_P(ParallelismTest, SoManyHandlersRunAtOnceAndNeverMore) {
    constexpr int kGroups = 50;
    ThreadPool threads({.threads = 16});
    for (const int parallelism : {1, 3, 8}) {
        const int count = kGroups * parallelism;
        const std::string subject = "s" + std::to_string(parallelism);
        Crowd crowd(parallelism);
        Counter handled;
        for (int i = 0; i < count; ++i) {
            broker().Append(Message(subject));
        }
        Client client = Client::Create(Options()).value();
        SubscriptionOptions options = Consumer(subject);
        options.parallelism = static_cast<std::uint32_t>(parallelism);
        options.prefetch_count = 100;
        options.executor = GetParam() ? &threads : nullptr;
        Subscription subscription = client
                                        .Subscribe(options,
                                                   [&](const Message&) {
                                                       EXPECT_TRUE(crowd.Pass());
                                                       handled.Add();
                                                   })
                                        .value();
        EXPECT_TRUE(handled.WaitFor(count));
        EXPECT_EQ(crowd.most(), parallelism);
        EXPECT_TRUE(client.Shutdown(kPatience).drained);
    }
}

/// Notes in the context which thread it was called on, and meets the other ones there.
class ThreadFilter final : public Filter {
public:
    explicit ThreadFilter(Crowd& crowd) : crowd_(crowd) {}
    HandlerOutcome Handle(DeliveryContext& context, Next& next) override {
        context.Put(std::this_thread::get_id());
        EXPECT_TRUE(crowd_.Pass());
        return next();
    }
    void OnSettled(DeliveryContext& context, const HandlerOutcome&) override {
        EXPECT_EQ(*context.Find<std::thread::id>(), std::this_thread::get_id());
    }

private:
    Crowd& crowd_;
};

TEST_F(ConsumeThreadsTest, FiltersAreCalledOnTheThreadsOfTheirHandlersManyAtOnce) {
    constexpr int kAtOnce = 4;
    constexpr int kCount = 10 * kAtOnce;
    Crowd crowd(kAtOnce);
    Counter handled;
    for (int i = 0; i < kCount; ++i) {
        broker().Append(Message("s"));
    }
    Client client = Client::Create(Options()).value();
    SubscriptionOptions options = Consumer("s");
    options.parallelism = kAtOnce;
    options.filters = {std::make_shared<ThreadFilter>(crowd)};
    Subscription subscription =
        client
            .Subscribe(options,
                       [&](const Message&, DeliveryContext& context) {
                           EXPECT_EQ(*context.Find<std::thread::id>(), std::this_thread::get_id());
                           handled.Add();
                       })
            .value();
    EXPECT_TRUE(handled.WaitFor(kCount));
    EXPECT_EQ(crowd.most(), kAtOnce);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

/// With a callback that does not return: no other one has its turn.
class StuckCallbackTest : public ConsumeThreadsTest {
protected:
    StuckCallbackTest() {
        const Status begun =
            consumer.PullAsync({1, milliseconds(0)}, [called = called, go = go](const Batch&) {
                called->Set();
                (void)go->Wait(kPatience);
            });
        EXPECT_TRUE(begun.ok()) << begun;
        EXPECT_TRUE(called->Wait(kPatience));
    }
    ~StuckCallbackTest() override { go->Set(); }

    // Shared with the thread that does not return in time.
    const std::shared_ptr<Signal> called = std::make_shared<Signal>();
    const std::shared_ptr<Signal> go = std::make_shared<Signal>();
    Client client = Client::Create(Options()).value();
    PullConsumer consumer = MakePuller(client);
};

TEST_F(StuckCallbackTest, AShutdownReportsTheCallbackOfAPullThatItDrops) {
    const auto calls = std::make_shared<Counter>();
    const Status begun =
        consumer.PullAsync({1, kPatience}, [calls](const Batch&) { calls->Add(); });
    ASSERT_TRUE(begun.ok()) << begun;
    EXPECT_EQ(client.Shutdown(milliseconds(0)).callbacks_dropped, 1U);
    EXPECT_EQ(calls->count(), 0);
}

TEST_F(StuckCallbackTest, WhoEndsTheClientResumesTheCoroutinesWhoseTurnHasNotCome) {
    std::optional<Status> answer;
    std::thread::id resumed_on;
    const auto pull = [&](PullConsumer from) -> Owned {
        answer = (co_await from.PullAsync({1, kPatience})).status();
        resumed_on = std::this_thread::get_id();
    };
    const Owned waits = pull(consumer);
    EXPECT_FALSE(waits.done());
    (void)client.Shutdown(milliseconds(0));
    ASSERT_TRUE(waits.done());
    EXPECT_EQ(answer->code(), StatusCode::kCancelled);
    EXPECT_EQ(resumed_on, std::this_thread::get_id());
}

}  // namespace
}  // namespace qmq
