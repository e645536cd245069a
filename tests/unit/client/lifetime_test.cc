// The contract of threads and lifetimes, with the client's own threads.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <thread>

#include "qmq/client.h"

#include "tests/support/fake_transport.h"
#include "tests/unit/client/signal.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::Counter;
using testing::Signal;

ClientOptions OptionsFor(testing::FakeCluster& cluster, const std::string& id = "client-1") {
    ClientOptions options;
    options.uri = "fake:";
    options.app_code = "test";
    options.client_id = id;
    options.transports = {cluster.factory()};
    options.log = [](LogLevel, std::string_view) {};
    return options;
}

Client Make(ClientOptions options) {
    Result<Client> client = Client::Create(std::move(options));
    EXPECT_TRUE(client.ok()) << client.status();
    return std::move(*client);
}

SubscriptionOptions Consumer(const std::string& group = "g") {
    SubscriptionOptions options;
    options.subject = "s";
    options.group = group;
    options.start = StartPosition::kEarliest;
    return options;
}

enum class Threads : std::uint8_t {
    kInside,    ///< The transport calls back inside the calls, as inproc does.
    kOwn,       ///< On a thread of its own.
    kOwnInline  ///< Likewise, and the client's callbacks run there too.
};

class LifetimeTest : public ::testing::TestWithParam<Threads> {
protected:
    LifetimeTest() { cluster.AddBroker("a"); }

    static ClientOptions OptionsFor(testing::FakeCluster& of, const std::string& id = "client-1") {
        ClientOptions options = qmq::OptionsFor(of, id);
        options.inline_callbacks = GetParam() == Threads::kOwnInline;
        return options;
    }
    static Client MakeClient(testing::FakeCluster& of, const std::string& id = "client-1") {
        return Make(OptionsFor(of, id));
    }
    ThreadPool* TransportThreads() {
        return GetParam() == Threads::kInside ? nullptr : &transport_threads;
    }

    testing::FakeBroker& broker() { return cluster.broker("a"); }

    ThreadPool transport_threads{{1, 1U << 20, "transport"}};
    testing::FakeCluster cluster{TransportThreads()};
};

INSTANTIATE_TEST_SUITE_P(Transport,
                         LifetimeTest,
                         ::testing::Values(Threads::kInside, Threads::kOwn, Threads::kOwnInline),
                         [](const auto& param) {
                             return param.param == Threads::kInside ? std::string("Inline")
                                    : param.param == Threads::kOwn
                                        ? std::string("Threaded")
                                        : std::string("ThreadedWithInlineCallbacks");
                         });

TEST_P(LifetimeTest, SendsAndHandlesWithManyThreads) {
    constexpr int kSenders = 4;
    constexpr int kEach = 2'000;
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    Counter handled;
    auto made = client.Subscribe(Consumer(), [&](const Message&) { handled.Add(); });
    ASSERT_TRUE(made.ok());
    Counter called;
    std::vector<std::thread> senders;
    std::atomic<int> persisted{0};
    for (int i = 0; i < kSenders; ++i) {
        senders.emplace_back([&] {
            std::vector<SendFuture> futures;
            for (int n = 0; n < kEach; ++n) {
                if (n % 2 == 0) {
                    futures.push_back(producer.Send(Message("s").SetBody("x")));
                } else {
                    EXPECT_TRUE(producer
                                    .Send(Message("s"),
                                          [&](const SendReceipt& receipt) {
                                              EXPECT_TRUE(receipt.ok()) << receipt.status;
                                              called.Add();
                                          })
                                    .ok());
                }
            }
            for (const SendFuture& future : futures) {
                persisted += future.Get().ok() ? 1 : 0;
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_TRUE(called.WaitFor(kSenders * kEach / 2));
    EXPECT_TRUE(handled.WaitFor(kSenders * kEach));
    EXPECT_EQ(persisted, kSenders * kEach / 2);
    const ShutdownReport report = client.Shutdown(seconds(20));
    EXPECT_TRUE(report.drained);
    EXPECT_EQ(handled.count(), kSenders * kEach);
    EXPECT_EQ(broker().acked_count(), static_cast<std::uint64_t>(kSenders * kEach));
    EXPECT_EQ(called.count(), kSenders * kEach / 2);
}

TEST_P(LifetimeTest, EverythingSurvivesCutsUnderLoad) {
    constexpr int kMessages = 3'000;
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    std::mutex mutex;
    std::set<std::string> seen;
    Counter distinct;
    auto made = client.Subscribe(Consumer(), [&](const Message& message) {
        std::lock_guard lock(mutex);
        if (seen.emplace(message.body()).second) {
            distinct.Add();
        }
    });
    ASSERT_TRUE(made.ok());
    std::vector<SendFuture> futures;
    for (int i = 0; i < kMessages; ++i) {
        futures.push_back(producer.Send(Message("s").SetBody(std::to_string(i))));
        if (i % 500 == 250) {
            broker().SetKeepHeld(i % 1'000 == 250);
            broker().Cut();
        }
    }
    for (const SendFuture& future : futures) {
        EXPECT_TRUE(future.Get().ok());
    }
    EXPECT_TRUE(distinct.WaitFor(kMessages));
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
    EXPECT_EQ(broker().held_count(), 0U);
}

TEST_P(LifetimeTest, AClientMayBeDestroyedInsideItsOwnCallback) {
    std::optional<Client> client(MakeClient(cluster));
    Producer producer = *client->MakeProducer();
    Signal done;
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) {
                              client.reset();
                              done.Set();
                          })
                    .ok());
    EXPECT_TRUE(done.Wait());
    EXPECT_EQ(producer.Send(Message("s")).Get().status.code(), StatusCode::kCancelled);
}

TEST_P(LifetimeTest, OnlyInlineCallbacksRunOnTheTransportsThread) {
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());  // It is connected from here on.
    std::promise<std::thread::id> transport;
    transport_threads.Post([&] { transport.set_value(std::this_thread::get_id()); });
    const std::thread::id transport_thread = transport.get_future().get();
    // An answer that overtakes the end of the call goes to the callback thread in any case.
    bool on_transport = false;
    for (int i = 0; i < (GetParam() == Threads::kOwnInline ? 10'000 : 50) && !on_transport; ++i) {
        std::promise<std::thread::id> callback;
        EXPECT_TRUE(
            producer
                .Send(Message("s"),
                      [&](const SendReceipt&) { callback.set_value(std::this_thread::get_id()); })
                .ok());
        const std::thread::id callback_thread = callback.get_future().get();
        EXPECT_NE(callback_thread, std::this_thread::get_id());
        on_transport = callback_thread == transport_thread;
    }
    EXPECT_EQ(on_transport, GetParam() == Threads::kOwnInline);
}

TEST_P(LifetimeTest, AClientMayBeDestroyedInsideItsOwnHandler) {
    std::optional<Client> client(MakeClient(cluster));
    Signal done;
    auto made = client->Subscribe(Consumer(), [&](const Message&) {
        client.reset();
        done.Set();
    });
    ASSERT_TRUE(made.ok());
    broker().Append(Message("s"));
    EXPECT_TRUE(done.Wait());
    // It was not acked: it is delivered again to whoever comes.
    EXPECT_EQ(broker().acked_count(), 0U);
}

TEST_P(LifetimeTest, ShutdownFromAHandlerWaitsForTheOthersButNotForItself) {
    Client client = MakeClient(cluster);
    Signal other_began;
    Signal reported;
    std::atomic<bool> other_ended{false};
    ShutdownReport report;
    SubscriptionOptions options = Consumer();
    options.parallelism = 2;
    auto made = client.Subscribe(options, [&](const Message& message) {
        if (message.body() == "slow") {
            other_began.Set();
            std::this_thread::sleep_for(milliseconds(50));  // Work.
            other_ended = true;
            return;
        }
        other_began.Wait();
        report = client.Shutdown(seconds(20));
        EXPECT_TRUE(other_ended);
        reported.Set();
    });
    ASSERT_TRUE(made.ok());
    const auto start = steady_clock::now();
    broker().Append(Message("s").SetBody("slow"));
    broker().Append(Message("s").SetBody("ends it"));
    ASSERT_TRUE(reported.Wait());
    EXPECT_LT(steady_clock::now() - start, seconds(15));
    EXPECT_EQ(report.handlers_running, 1U);
    EXPECT_EQ(broker().acked_count(), 1U);
}

TEST_P(LifetimeTest, CloseInsideAHandlerReturnsAtOnce) {
    Client client = MakeClient(cluster);
    Signal closed;
    Subscription subscription;
    std::mutex mutex;
    std::unique_lock made_lock(mutex);
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        std::lock_guard lock(mutex);  // Not before the handle is there.
        EXPECT_TRUE(subscription.Close(seconds(20)).ok());
        closed.Set();
    });
    ASSERT_TRUE(made.ok());
    subscription = *made;
    made_lock.unlock();
    broker().Append(Message("s"));
    ASSERT_TRUE(closed.Wait(seconds(10)));
    EXPECT_TRUE(subscription.Close(seconds(20)).ok());
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(broker().subscriber_count(), 0U);
}

TEST_P(LifetimeTest, CloseWaitsForHandlersAndSaysHowManyStillRun) {
    Client client = MakeClient(cluster);
    Signal began;
    Signal go;
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        began.Set();
        go.Wait();
    });
    ASSERT_TRUE(made.ok());
    broker().Append(Message("s"));
    ASSERT_TRUE(began.Wait());
    const Status status = made->Close(milliseconds(20));
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("1 handlers"));
    go.Set();
    EXPECT_TRUE(made->Close(seconds(20)).ok());
    EXPECT_EQ(broker().acked_count(), 1U);
}

// What is acked on receipt is handled before the end: so the handler is left in peace for that
// long, and then it is asked.
TEST_P(LifetimeTest, AtMostOnceAHandlerIsAskedToStopWhenTheTimeOfCloseIsOver) {
    Client client = MakeClient(cluster);
    Signal began;
    Signal stopped;
    std::atomic<bool> early{false};
    SubscriptionOptions options = Consumer();
    options.at_most_once = true;
    auto made = client.Subscribe(options, [&](const Message&, DeliveryContext& context) {
        early = context.stop_token().stop_requested();
        const std::stop_callback on_stop(context.stop_token(), [&] { stopped.Set(); });
        began.Set();
        stopped.Wait();
    });
    ASSERT_TRUE(made.ok());
    broker().Append(Message("s"));
    ASSERT_TRUE(began.Wait());
    EXPECT_EQ(made->Close(milliseconds(20)).code(), StatusCode::kDeadlineExceeded);
    EXPECT_TRUE(stopped.Wait());
    EXPECT_FALSE(early);
    EXPECT_TRUE(made->Close(seconds(20)).ok());
}

TEST_P(LifetimeTest, TwoClientsInOneProcessAreIndependent) {
    testing::FakeCluster other_cluster(TransportThreads());
    testing::FakeBroker& other_broker = other_cluster.AddBroker("a");
    Client client = MakeClient(cluster);
    std::optional<Client> other(MakeClient(other_cluster));
    Producer producer = *client.MakeProducer();
    Producer other_producer = *other->MakeProducer();
    EXPECT_TRUE(other_producer.Send(Message("s")).Get().ok());
    other.reset();
    EXPECT_TRUE(producer.Send(Message("s")).Get().ok());
    EXPECT_EQ(broker().stored().size(), 1U);
    EXPECT_EQ(other_broker.stored().size(), 1U);
}

TEST_P(LifetimeTest, ACallbackOfOneClientMayShutDownAnother) {
    Client client = MakeClient(cluster, "client-1");
    Client other = MakeClient(cluster, "client-2");
    Producer producer = *client.MakeProducer();
    Signal done;
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) {
                              EXPECT_TRUE(other.Shutdown(seconds(20)).drained);
                              done.Set();
                          })
                    .ok());
    EXPECT_TRUE(done.Wait());
}

TEST_P(LifetimeTest, AHandlerThatBlocksForEverDoesNotHoldShutdown) {
    // Shared with the thread that does not return in time.
    const auto began = std::make_shared<Signal>();
    const auto never = std::make_shared<Signal>();
    std::optional<Client> client(MakeClient(cluster));
    auto made = client->Subscribe(Consumer(), [began, never](const Message&) {
        began->Set();
        never->Wait(std::chrono::hours(24));
    });
    ASSERT_TRUE(made.ok());
    Producer producer = *client->MakeProducer();
    broker().Append(Message("s"));
    ASSERT_TRUE(began->Wait());
    const auto start = steady_clock::now();
    const ShutdownReport report = client->Shutdown(milliseconds(100));
    EXPECT_LT(steady_clock::now() - start, seconds(5));
    EXPECT_GE(steady_clock::now() - start, milliseconds(100));
    EXPECT_EQ(report.handlers_running, 1U);
    EXPECT_FALSE(report.drained);
    client.reset();
    EXPECT_LT(steady_clock::now() - start, seconds(5));
    EXPECT_EQ(broker().subscriber_count(), 0U);
    never->Set();
}

TEST_P(LifetimeTest, ACallbackThatBlocksForEverDoesNotHoldShutdown) {
    const auto began = std::make_shared<Signal>();
    const auto never = std::make_shared<Signal>();
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    EXPECT_TRUE(producer
                    .Send(Message("s"),
                          [began, never](const SendReceipt&) {
                              began->Set();
                              never->Wait(std::chrono::hours(24));
                          })
                    .ok());
    ASSERT_TRUE(began->Wait());
    const auto start = steady_clock::now();
    (void)client.Shutdown(milliseconds(50));
    EXPECT_LT(steady_clock::now() - start, seconds(5));
    never->Set();
}

TEST_P(LifetimeTest, NothingIsCalledAfterShutdownHasReturned) {
    for (int round = 0; round < 20; ++round) {
        std::atomic<bool> over{false};
        std::atomic<int> late{0};
        Client client = MakeClient(cluster, "client-" + std::to_string(round));
        Producer producer = *client.MakeProducer();
        auto made = client.Subscribe(Consumer("g" + std::to_string(round)),
                                     [&](const Message&) { late += over ? 1 : 0; });
        ASSERT_TRUE(made.ok());
        for (int i = 0; i < 300; ++i) {
            EXPECT_TRUE(
                producer.Send(Message("s"), [&](const SendReceipt&) { late += over ? 1 : 0; })
                    .ok());
        }
        const ShutdownReport report = client.Shutdown(milliseconds(round % 2 == 0 ? 0 : 5));
        // A handler that was running then may still run; it began before.
        if (report.handlers_running == 0) {
            over = true;
        }
        (void)producer.Flush(milliseconds(0));
        EXPECT_EQ(late, 0);
    }
}

TEST_P(LifetimeTest, EverySendHasAnOutcomeAfterShutdown) {
    broker().SetHoldSends(true);
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    std::vector<SendFuture> futures;
    for (int i = 0; i < 1'000; ++i) {
        futures.push_back(producer.Send(Message("s")));
    }
    const ShutdownReport report = client.Shutdown(milliseconds(10));
    std::uint64_t unknown = 0;
    std::uint64_t refused = 0;
    for (const SendFuture& future : futures) {
        ASSERT_TRUE(future.ready());
        const SendOutcome outcome = future.Get().outcome;
        unknown += outcome == SendOutcome::kUnknown ? 1 : 0;
        refused += outcome == SendOutcome::kRefused ? 1 : 0;
    }
    EXPECT_EQ(unknown + refused, 1'000U);
    EXPECT_EQ(report.sends_unknown, unknown);
    EXPECT_EQ(report.sends_refused, refused);
}

TEST_P(LifetimeTest, FuturesMayBeWaitedForByManyThreads) {
    broker().SetHoldSends(true);
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    const SendFuture future = producer.Send(Message("s"));
    EXPECT_FALSE(future.WaitFor(milliseconds(1)).has_value());
    std::vector<std::thread> waiters;
    std::atomic<int> ok{0};
    for (int i = 0; i < 4; ++i) {
        waiters.emplace_back([&] { ok += future.Get().ok() ? 1 : 0; });
    }
    while (!broker().AnswerHeld()) {
        std::this_thread::yield();  // The frame is on its way from the work thread.
    }
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_EQ(ok, 4);
}

TEST_P(LifetimeTest, ASenderThatWaitsForRoomGoesOnWhenThereIsSome) {
    broker().SetHoldSends(true);
    Client client = MakeClient(cluster);
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    Producer producer = *client.MakeProducer(options);
    const SendFuture first = producer.Send(Message("s"));
    std::thread blocked([&] { EXPECT_TRUE(producer.Send(Message("s")).Get().ok()); });
    while (!broker().AnswerHeld()) {
        std::this_thread::yield();
    }
    EXPECT_TRUE(first.Get().ok());
    broker().SetHoldSends(false);
    while (broker().stored().size() < 2) {
        (void)broker().AnswerHeld();
        std::this_thread::yield();
    }
    blocked.join();
}

TEST_P(LifetimeTest, ASenderThatFindsNoRoomInTimeIsRefused) {
    broker().SetHoldSends(true);
    Client client = MakeClient(cluster);
    ProducerOptions options;
    options.max_pending_count = 1;
    options.when_full = WhenFull::kBlock;
    Producer producer = *client.MakeProducer(options);
    (void)producer.Send(Message("s"));
    const SendReceipt receipt = producer.Send(Message("s"), milliseconds(20)).Get();
    EXPECT_EQ(receipt.status.code(), StatusCode::kResourceExhausted);
}

TEST_P(LifetimeTest, ABlockingPullWaitsForItsMessage) {
    Client client = MakeClient(cluster);
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    PullConsumer consumer = *client.MakePullConsumer(options);
    std::thread later([&] { broker().Append(Message("s").SetBody("x")); });
    auto pulled = consumer.Pull({10, seconds(20)});
    later.join();
    ASSERT_TRUE(pulled.ok()) << pulled.status();
    ASSERT_EQ(pulled->size(), 1U);
    std::promise<Status> recorded;
    (*pulled)[0].Ack([&](const Status& status) { recorded.set_value(status); });
    EXPECT_TRUE(recorded.get_future().get().ok());
    EXPECT_TRUE(consumer.Close(seconds(20)).ok());
}

TEST_P(LifetimeTest, WaitReadyWaitsForTheWay) {
    broker().SetConnectError(Status::Unavailable("refused"));
    Client client = MakeClient(cluster);
    const Status status = client.WaitReady("s", milliseconds(30));
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("refused"));
    broker().SetConnectError(Status::Ok());
    EXPECT_TRUE(client.WaitReady("s", seconds(20)).ok());
}

TEST_P(LifetimeTest, HandlersOfDifferentSubscriptionsShareTheThreads) {
    auto options = OptionsFor(cluster);
    options.handler_threads = 1;  // There are two all the same: one for each.
    Client client = std::move(*Client::Create(std::move(options)));
    Counter first;
    Counter second;
    for (int i = 0; i < 5'000; ++i) {
        broker().Append(Message("s"));
    }
    auto a = client.Subscribe(Consumer("g1"), [&](const Message&) { first.Add(); });
    auto b = client.Subscribe(Consumer("g2"), [&](const Message&) { second.Add(); });
    EXPECT_TRUE(first.WaitFor(5'000));
    EXPECT_TRUE(second.WaitFor(5'000));
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
}

// All subscriptions shared four threads: 32 was silently cut to 4.
TEST_P(LifetimeTest, AsManyHandlersRunAtOnceAsParallelismSays) {
    Client client = MakeClient(cluster);
    SubscriptionOptions options = Consumer();
    options.parallelism = 32;
    Counter inside;
    for (int i = 0; i < 32; ++i) {
        broker().Append(Message("s"));
    }
    auto made = client.Subscribe(options, [&](const Message&) {
        inside.Add();
        (void)inside.WaitFor(32);  // Each waits for all others.
    });
    EXPECT_TRUE(inside.WaitFor(32));
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
}

// With default options four hung handlers of one subscription stopped every other one.
TEST_P(LifetimeTest, HungHandlersOfOneSubscriptionStopNoOther) {
    Client client = MakeClient(cluster);
    Signal go;
    Counter hung;
    Counter others;
    for (int i = 0; i < 20; ++i) {
        broker().Append(Message("s"));
    }
    auto hanging = client.Subscribe(Consumer("hanging"), [&](const Message&) {
        hung.Add();
        go.Wait(std::chrono::minutes(10));
    });
    EXPECT_TRUE(hung.WaitFor(4));
    auto going_on = client.Subscribe(Consumer("going-on"), [&](const Message&) { others.Add(); });
    ASSERT_TRUE(going_on.ok()) << going_on.status();
    EXPECT_TRUE(others.WaitFor(20));
    go.Set();
    EXPECT_TRUE(hung.WaitFor(20));
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
}

// As above, where there may be fewer threads than the subscriptions want together.
TEST_P(LifetimeTest, AThreadIsKeptForASubscriptionThatHasNone) {
    auto options = OptionsFor(cluster);
    options.handler_threads = 4;
    Client client = std::move(*Client::Create(std::move(options)));
    Signal go;
    Counter hung;
    Counter others;
    for (int i = 0; i < 20; ++i) {
        broker().Append(Message("s"));
    }
    auto going_on = client.Subscribe(Consumer("going-on"), [&](const Message&) { others.Add(); });
    ASSERT_TRUE(going_on.ok()) << going_on.status();
    EXPECT_TRUE(others.WaitFor(20));
    auto hanging = client.Subscribe(Consumer("hanging"), [&](const Message&) {
        hung.Add();
        go.Wait(std::chrono::minutes(10));
    });
    EXPECT_TRUE(hung.WaitFor(3));
    for (int i = 0; i < 5; ++i) {
        broker().Append(Message("s"));
    }
    EXPECT_TRUE(others.WaitFor(25));
    go.Set();
    EXPECT_TRUE(hung.WaitFor(25));
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
}

TEST_P(LifetimeTest, ASlowHandlerKeepsNobodyElsesMessagesWaiting) {
    Client client = MakeClient(cluster);
    SubscriptionOptions options = Consumer();
    options.parallelism = 2;
    Signal go;
    Counter quick;
    for (int i = 0; i < 200; ++i) {
        broker().Append(Message("s").SetBody(i == 0 ? "slow" : "quick"));
    }
    auto made = client.Subscribe(options, [&](const Message& message) {
        if (message.body() == "slow") {
            go.Wait();
        } else {
            quick.Add();
        }
    });
    EXPECT_TRUE(quick.WaitFor(199));
    go.Set();
    EXPECT_TRUE(client.Shutdown(seconds(20)).drained);
}

TEST_P(LifetimeTest, ShutdownFromTwoThreadsEndsBoth) {
    Client client = MakeClient(cluster);
    Producer producer = *client.MakeProducer();
    (void)producer.Send(Message("s"));
    std::thread other([&] { (void)client.Shutdown(seconds(20)); });
    (void)client.Shutdown(seconds(20));
    other.join();
}

TEST_P(LifetimeTest, AnAsynchronousShutdownEndsOnItsOwnThreads) {
    std::optional<Client> client(MakeClient(cluster));
    Producer producer = *client->MakeProducer();
    (void)producer.Send(Message("s"));
    std::promise<ShutdownReport> ended;
    client->ShutdownAsync(seconds(20),
                          [&](const ShutdownReport& report) { ended.set_value(report); });
    EXPECT_TRUE(ended.get_future().get().drained);
    client.reset();
}

TEST_P(LifetimeTest, HandlesOutliveTheirClient) {
    Producer producer;
    Subscription subscription;
    SendFuture future;
    broker().SetHoldSends(true);
    {
        Client client = MakeClient(cluster);
        producer = *client.MakeProducer();
        subscription = *client.Subscribe(Consumer(), [](const Message&) {});
        future = producer.Send(Message("s"));
    }
    EXPECT_NE(future.Get().outcome, SendOutcome::kPersisted);
    EXPECT_EQ(producer.Send(Message("s")).Get().status.code(), StatusCode::kCancelled);
    subscription.Pause();
    subscription.Resume();
    EXPECT_TRUE(subscription.Close(seconds(1)).ok());
    (void)subscription.stats();
}

// What happens at the end of a process is tested in one of its own.

testing::FakeCluster& StaticCluster() {
    static auto* cluster = [] {
        auto* made = new testing::FakeCluster;
        made->AddBroker("a");
        return made;
    }();
    return *cluster;
}

class ExitTest : public ::testing::Test {
protected:
    // The child starts anew: it must not inherit what threads of the parent held.
    ExitTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

/// Ends the process, after whatever was made static later, when a send has no answer or is stored.
struct AnswersAtTheEnd {
    std::vector<SendFuture> sent;
    ~AnswersAtTheEnd() {
        for (const SendFuture& future : sent) {
            if (!future.ready() || future.Get().ok()) {
                std::_Exit(8);
            }
        }
    }
};

TEST_F(ExitTest, LeavingMainWithMessagesInFlightIsSafe) {
    EXPECT_EXIT(
        {
            static AnswersAtTheEnd answers;
            static Client client = Make(OptionsFor(StaticCluster()));
            static Producer producer = *client.MakeProducer();
            StaticCluster().broker("a").SetHoldSends(true);
            for (int i = 0; i < 100; ++i) {
                EXPECT_TRUE(producer
                                .Send(Message("s"),
                                      [](const SendReceipt& receipt) {
                                          if (receipt.ok()) {
                                              std::abort();
                                          }
                                      })
                                .ok());
                answers.sent.push_back(producer.Send(Message("s")));
            }
            std::exit(7);
        },
        ::testing::ExitedWithCode(7),
        "");
}

TEST_F(ExitTest, AStaticClientWithAHandlerThatBlocksForEverLetsTheProcessEnd) {
    EXPECT_EXIT(
        {
            static Client client = Make(OptionsFor(StaticCluster()));
            auto* began = new Signal;
            auto* never = new Signal;
            (void)client.Subscribe(Consumer(), [began, never](const Message&) {
                began->Set();
                never->Wait(std::chrono::hours(24));
            });
            StaticCluster().broker("a").Append(Message("s"));
            began->Wait();
            std::exit(7);
        },
        ::testing::ExitedWithCode(7),
        "");
}

}  // namespace
}  // namespace qmq
