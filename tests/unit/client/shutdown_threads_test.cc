// How a client ends while threads of the application are inside of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <future>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::kLong;
using testing::kSoon;

class ShutdownThreadsTest : public testing::ThreadsFixture {
protected:
    static SubscriptionOptions AtMostOnce() {
        SubscriptionOptions options = Consumer();
        options.at_most_once = true;
        return options;
    }
};

// A callback and another thread shut down at once: the thread waited for the callback to end, the
// callback for the thread's shutdown, until the deadline.
TEST_F(ShutdownThreadsTest, AShutdownInACallbackAndOneBesideItDoNotWaitForEachOther) {
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    std::promise<void> inside;
    std::promise<void> beside;
    std::promise<steady_clock::time_point> ended_inside;
    const auto start = steady_clock::now();
    (void)producer.Send(Message("s"), [&](const SendReceipt&) {
        inside.set_value();
        beside.get_future().wait();
        (void)client.Shutdown(kLong);
        ended_inside.set_value(steady_clock::now());
    });
    inside.get_future().wait();
    std::thread other([&] {
        beside.set_value();
        (void)client.Shutdown(kLong);
    });
    other.join();
    EXPECT_LT(steady_clock::now() - start, kSoon);
    EXPECT_LT(ended_inside.get_future().get() - start, kSoon);
}

// Likewise two handlers, of one subscription and of two.
TEST_F(ShutdownThreadsTest, HandlersThatShutDownDoNotWaitForEachOther) {
    Client client = MakeClient();
    std::atomic<int> inside{0};
    std::atomic<int> ended{0};
    std::promise<void> all_inside;
    const auto all_ended = std::make_shared<std::promise<void>>();
    const auto went = all_inside.get_future().share();
    const auto handler = [&, all_ended, went](const Message&) {
        if (++inside == 4) {
            all_inside.set_value();
        }
        went.wait();
        (void)client.Shutdown(kLong);
        if (++ended == 4) {
            all_ended->set_value();
        }
    };
    SubscriptionOptions options = Consumer("g1");
    options.parallelism = 2;
    auto first = client.Subscribe(options, handler);
    options.group = "g2";
    auto second = client.Subscribe(options, handler);
    ASSERT_TRUE(first.ok() && second.ok());
    const auto start = steady_clock::now();
    broker().Append(Message("s"));
    broker().Append(Message("s"));
    all_ended->get_future().wait();
    EXPECT_LT(steady_clock::now() - start, kSoon);
    (void)client.Shutdown(kLong);
    EXPECT_LT(steady_clock::now() - start, kSoon);
}

// It waited until the deadline for the answer to an ack that nobody would give any more.
TEST_F(ShutdownThreadsTest, AHandlerThatShutsDownDoesNotWaitForAcksThatAResumptionDropped) {
    broker().SetHoldAcks(true);
    broker().SetKeepHeld(false);
    Client client = MakeClient();
    std::promise<void> acked;
    const auto ended = std::make_shared<std::promise<void>>();
    SubscriptionOptions options = Consumer();
    options.parallelism = 1;
    auto subscription = client.Subscribe(options, [&, ended](const Message& message) {
        if (message.body() == "first") {
            return;
        }
        while (broker().acks().empty()) {
            std::this_thread::yield();
        }
        acked.set_value();
        (void)client.Shutdown(kLong);
        ended->set_value();
    });
    ASSERT_TRUE(subscription.ok());
    broker().Append(Message("s").SetBody("first"));
    broker().Append(Message("s").SetBody("second"));
    acked.get_future().wait();
    while (subscription->stats().last_error.code() != StatusCode::kCancelled) {
        std::this_thread::yield();
    }
    const auto start = steady_clock::now();
    broker().Cut();
    ended->get_future().wait();
    EXPECT_LT(steady_clock::now() - start, kSoon);
    (void)client.Shutdown(kLong);
}

TEST_F(ShutdownThreadsTest, ALogSinkMayShutDown) {
    std::optional<Client> client;
    std::promise<void> made;
    std::promise<void> ended;
    ClientOptions options = Options();
    std::atomic<bool> once{false};
    broker().SetConnectError(Status::Unavailable("refused"));
    options.log = [&, is_made = made.get_future().share()](LogLevel, std::string_view) {
        is_made.wait();
        if (!once.exchange(true)) {
            (void)client->Shutdown(kLong);
            ended.set_value();
        }
    };
    client.emplace(std::move(*Client::Create(std::move(options))));
    const auto start = steady_clock::now();
    Producer producer = *client->MakeProducer();
    // Its connection fails, which is logged.
    producer.Send(Message("s"), milliseconds(100)).Detach();
    made.set_value();
    ended.get_future().wait();
    EXPECT_LT(steady_clock::now() - start, kSoon);
}

// A sink that blocks ran on the thread of the timers: nothing was renewed, and no connection made
// again, as long as it did.
TEST_F(ShutdownThreadsTest, ALogSinkThatBlocksHoldsUpNothingElse) {
    std::promise<void> go;
    std::promise<void> blocked;
    std::atomic<bool> once{false};
    ClientOptions options = Options();
    options.log = [&, went = go.get_future().share()](LogLevel, std::string_view) {
        if (!once.exchange(true)) {
            blocked.set_value();
        }
        went.wait();
    };
    broker().SetConnectError(Status::Unavailable("refused"));
    Client client = std::move(*Client::Create(std::move(options)));
    Producer producer = *client.MakeProducer();
    const SendFuture sent = producer.Send(Message("s"));
    blocked.get_future().wait();
    broker().SetConnectError(Status::Ok());
    EXPECT_TRUE(sent.Get().ok());
    const auto start = steady_clock::now();
    (void)client.Shutdown(milliseconds(10));
    EXPECT_LT(steady_clock::now() - start, kSoon);
    go.set_value();
}

// The transport's destructor waits for its threads, and one of these may be inside a callback of
// the application's (`inline_callbacks`) that does not return: Shutdown(500ms) never came back.
TEST_F(ShutdownThreadsTest, ShutdownReturnsAlthoughTheTransportDoesNotEnd) {
    std::promise<void> go;
    const auto went = go.get_future().share();
    auto called = std::make_shared<std::promise<void>>();
    ClientOptions options = Options();
    options.inline_callbacks = true;
    options.transports = {testing::MakeHookedFactory(cluster.factory(), [went] { went.wait(); })};
    {
        Client client = std::move(*Client::Create(std::move(options)));
        Producer producer = *client.MakeProducer();
        (void)producer.Send(Message("s"), [called, went](const SendReceipt&) {
            called->set_value();
            went.wait();
        });
        called->get_future().wait();
        const auto start = steady_clock::now();
        (void)client.Shutdown(milliseconds(50));
        EXPECT_LT(steady_clock::now() - start, seconds(5));
    }
    go.set_value();
}

// The call went on in a client that was gone.
TEST_F(ShutdownThreadsTest, TheAnswerOfAShutdownMayDestroyTheClient) {
    class Nothing final : public Filter {
        HandlerOutcome Handle(DeliveryContext&, Next& next) override { return next(); }
    };
    auto kept = std::make_shared<Nothing>();
    const std::weak_ptr<Nothing> by_the_client = kept;
    ClientOptions options = Options();
    options.filters = {std::move(kept)};
    std::optional<Client> client(std::move(*Client::Create(std::move(options))));
    (void)client->Shutdown(milliseconds(0));
    bool answered = false;
    client->ShutdownAsync(kLong, [&](const ShutdownReport&) {
        answered = true;
        client.reset();
        EXPECT_FALSE(by_the_client.expired()) << "the call it is made from is still in there";
    });
    EXPECT_TRUE(answered);
    EXPECT_TRUE(by_the_client.expired());
}

/// The system gives no thread while one of these is there.
class NoThreads {
public:
    NoThreads() {
        EXPECT_EQ(pthread_getattr_default_np(&before_), 0);
        pthread_attr_t no_stack_is_so_large = before_;
        EXPECT_EQ(pthread_attr_setstacksize(&no_stack_is_so_large, std::size_t{1} << 47), 0);
        EXPECT_EQ(pthread_setattr_default_np(&no_stack_is_so_large), 0);
    }
    ~NoThreads() { EXPECT_EQ(pthread_setattr_default_np(&before_), 0); }
    NoThreads(const NoThreads&) = delete;
    NoThreads& operator=(const NoThreads&) = delete;

private:
    pthread_attr_t before_;
};

// The thread on which the transport goes could not begin: Shutdown threw, and whoever else waited
// for the end had no answer.
TEST_F(ShutdownThreadsTest, AClientEndsAlsoWhenTheSystemGivesNoThread) {
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    const NoThreads none;
    ASSERT_THROW(std::thread([] {}), std::system_error);
    const auto ended = std::make_shared<std::promise<bool>>();
    client.ShutdownAsync(
        kLong, [ended](const ShutdownReport& report) { ended->set_value(report.drained); });
    EXPECT_TRUE(client.Shutdown(kLong).drained);
    EXPECT_TRUE(ended->get_future().get());
}

// Millions of callbacks were owed, thrown away, and the report said "drained".
TEST_F(ShutdownThreadsTest, TheReportCountsCallbacksThatNeverCome) {
    std::promise<void> go;
    auto called = std::make_shared<std::promise<void>>();
    auto count = std::make_shared<std::atomic<int>>(0);
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    (void)producer.Send(Message("s"), [called, went = go.get_future().share()](const SendReceipt&) {
        called->set_value();
        went.wait();
    });
    called->get_future().wait();
    for (int i = 0; i < 9; ++i) {
        (void)producer.Send(Message("s"), [count](const SendReceipt&) { ++*count; });
    }
    const ShutdownReport report = client.Shutdown(milliseconds(10));
    EXPECT_EQ(report.callbacks_dropped, 9U);
    EXPECT_FALSE(report.drained);
    go.set_value();
    EXPECT_EQ(*count, 0);
}

// The rest of the batch that the callback belonged to was dropped.
TEST_F(ShutdownThreadsTest, AShutdownInACallbackRunsWhatStandsBehindItInItsBatch) {
    constexpr int kCount = 5;
    auto count = std::make_shared<std::atomic<int>>(0);
    auto answered = std::make_shared<std::promise<ShutdownReport>>();
    Client client = MakeClient();
    ProducerOptions options;
    options.max_in_flight_frames = 1;
    Producer producer = *client.MakeProducer(options);
    broker().SetHoldSends(true);
    producer.Send(Message("s")).Detach();
    while (broker().held_frame_count() == 0) {
        std::this_thread::yield();
    }
    for (int i = 0; i < kCount; ++i) {  // Into one batch, since a frame is on its way.
        const Status sent = producer.Send(Message("s"), [&, count, answered](const SendReceipt&) {
            if (++*count == 1) {
                answered->set_value(client.Shutdown(milliseconds(0)));
            }
        });
        ASSERT_TRUE(sent.ok()) << sent.ToString();
    }
    broker().SetHoldSends(false);
    broker().AnswerHeld();
    const ShutdownReport report = answered->get_future().get();
    EXPECT_EQ(report.callbacks_dropped, 0U);
    EXPECT_EQ(*count, kCount);
}

/// In the place of a callback that is never called: does something when it is destroyed.
class AtItsEnd {
public:
    explicit AtItsEnd(Task task) : task_(std::move(task)) {}
    AtItsEnd(AtItsEnd&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
    AtItsEnd& operator=(AtItsEnd&&) = delete;
    ~AtItsEnd() {
        if (task_) {
            task_();
        }
    }
    void operator()(const SendReceipt&) {}

private:
    Task task_;
};

// The first one waits for a callback: the second one returned meanwhile.
TEST_F(ShutdownThreadsTest, ASecondShutdownEndsWithTheFirst) {
    std::promise<void> go;
    auto called = std::make_shared<std::promise<void>>();
    auto done = std::make_shared<std::atomic<bool>>(false);
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    const Status sent = producer.Send(
        Message("s"), [called, done, went = go.get_future().share()](const SendReceipt&) {
            called->set_value();
            went.wait();
            *done = true;
        });
    ASSERT_TRUE(sent.ok()) << sent;
    called->get_future().wait();
    const auto shut_down = [&client, done] {
        const ShutdownReport report = client.Shutdown(kLong);
        return report.drained && *done;
    };
    std::future<bool> first = std::async(std::launch::async, shut_down);
    std::future<bool> second = std::async(std::launch::async, shut_down);
    EXPECT_EQ(first.wait_for(milliseconds(50)), std::future_status::timeout);
    EXPECT_EQ(second.wait_for(milliseconds(50)), std::future_status::timeout);
    go.set_value();
    EXPECT_TRUE(first.get());
    EXPECT_TRUE(second.get());
}

// A manual handler that has decided and goes on: nobody waited for it.
TEST_F(ShutdownThreadsTest, AtMostOnceCloseWaitsForAHandlerThatHasDecided) {
    std::promise<void> go;
    auto began = std::make_shared<std::promise<void>>();
    auto done = std::make_shared<std::atomic<bool>>(false);
    Client client = MakeClient();
    broker().Append(Message("s"));
    Subscription subscription = *client.Subscribe(
        AtMostOnce(), [began, done, went = go.get_future().share()](Delivery delivery) {
            delivery.Ack();
            began->set_value();
            went.wait();
            *done = true;
        });
    began->get_future().wait();
    std::future<bool> closed = std::async(std::launch::async, [&subscription, done] {
        return subscription.Close(kLong).ok() && *done;
    });
    EXPECT_EQ(closed.wait_for(milliseconds(50)), std::future_status::timeout);
    go.set_value();
    EXPECT_TRUE(closed.get());
    EXPECT_TRUE(client.Shutdown(kLong).drained);
}

// A runner that met the end took what waited with it, and the report said drained.
TEST_F(ShutdownThreadsTest, AtMostOnceEachMessageIsHandledOrCountedAsDropped) {
    constexpr std::uint64_t kCount = 200;
    for (int round = 0; round < 10; ++round) {
        auto handled = std::make_shared<std::atomic<std::uint64_t>>(0);
        auto began = std::make_shared<std::promise<void>>();
        Client client = MakeClient();
        SubscriptionOptions options = AtMostOnce();
        options.group = "g" + std::to_string(round);
        options.prefetch_count = kCount;
        options.parallelism = 3;
        const std::uint64_t acked = broker().acked_count();
        for (std::uint64_t i = 0; i < kCount && round == 0; ++i) {
            broker().Append(Message("s"));
        }
        Subscription subscription = *client.Subscribe(options, [handled, began](const Message&) {
            if (handled->fetch_add(1) == 0) {
                began->set_value();
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        });
        began->get_future().wait();
        const ShutdownReport report = client.Shutdown(milliseconds(round));
        const std::uint64_t left = report.deliveries_dropped + report.deliveries_handed_back;
        const std::uint64_t lost = broker().acked_count() - acked - *handled - left;
        EXPECT_LE(lost, report.handlers_running) << "round " << round;
        EXPECT_EQ(report.drained, left == 0 && report.handlers_running == 0);
    }
}

// The end asks handlers to stop, and so calls what they have registered: that waited for the end.
TEST_F(ShutdownThreadsTest, WhatAHandlerRegisteredForItsStopMayShutDown) {
    auto begun = std::make_shared<std::promise<void>>();
    auto report = std::make_shared<std::promise<ShutdownReport>>();
    Client client = MakeClient();
    SubscriptionOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    broker().Append(Message("s"));
    Subscription subscription =
        client
            .Subscribe(options,
                       [&client, begun, report](const Message&, DeliveryContext& context) {
                           std::promise<void> stopped;
                           const std::stop_callback on_stop(context.stop_token(), [&] {
                               report->set_value(client.Shutdown(milliseconds::max()));
                               stopped.set_value();
                           });
                           begun->set_value();
                           stopped.get_future().wait();
                       })
            .value();
    begun->get_future().wait();
    EXPECT_TRUE(client.Shutdown(kLong).drained);
    EXPECT_FALSE(report->get_future().get().drained);
}

// The thread that ends a client waited for itself, up to its deadline.
TEST_F(ShutdownThreadsTest, ADestructorMayShutDownTheClientThatEnds) {
    std::promise<void> go;
    auto called = std::make_shared<std::promise<void>>();
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    (void)producer.Send(Message("s"), [called, went = go.get_future().share()](const SendReceipt&) {
        called->set_value();
        went.wait();
    });
    called->get_future().wait();
    std::atomic<bool> came{false};
    (void)producer.Send(Message("s"), AtItsEnd([&] {
                            EXPECT_FALSE(client.Shutdown(kLong).drained);
                            came = true;
                        }));
    const auto start = steady_clock::now();
    EXPECT_EQ(client.Shutdown(milliseconds(10)).callbacks_dropped, 1U);
    EXPECT_LT(steady_clock::now() - start, kSoon);
    EXPECT_TRUE(came);
    go.set_value();
}

// The queue of callbacks has ended when the destructor of one that was dropped makes another due:
// that one was destroyed without a word.
TEST_F(ShutdownThreadsTest, TheReportCountsCallbacksThatComeDueWhileItEnds) {
    std::promise<void> go;
    auto called = std::make_shared<std::promise<void>>();
    Client client = MakeClient();
    Producer producer = *client.MakeProducer();
    PullConsumerOptions options;
    options.subject = "s";
    options.group = "g";
    options.start = StartPosition::kEarliest;
    PullConsumer puller = *client.MakePullConsumer(options);
    broker().Append(Message("s"));
    std::vector<Delivery> pulled = *puller.Pull({.max_messages = 1, .max_wait = kLong});
    ASSERT_EQ(pulled.size(), 1U);
    (void)producer.Send(Message("t"), [called, went = go.get_future().share()](const SendReceipt&) {
        called->set_value();
        went.wait();
    });
    called->get_future().wait();
    (void)producer.Send(Message("t"), AtItsEnd([delivery = std::move(pulled[0])]() mutable {
                            delivery.Ack([](const Status&) {});
                        }));
    const ShutdownReport report = client.Shutdown(milliseconds(10));
    EXPECT_EQ(report.callbacks_dropped, 2U);
    EXPECT_FALSE(report.drained);
    go.set_value();
}

// What ends a wait for a route when the client goes: it went on to its own deadline.
TEST_F(ShutdownThreadsTest, ShutdownEndsWaitReady) {
    broker().SetConnectError(Status::Unavailable("refused"));
    Client client = MakeClient();
    const auto start = steady_clock::now();
    std::promise<Status> waited;
    std::thread waiter([&] { waited.set_value(client.WaitReady("s", milliseconds::max())); });
    (void)client.Shutdown(milliseconds(0));
    EXPECT_EQ(waited.get_future().get().code(), StatusCode::kCancelled);
    EXPECT_LT(steady_clock::now() - start, kSoon);
    waiter.join();
}

// The call went on with what was destroyed.
TEST_F(ShutdownThreadsTest, ACallbackMayDestroyTheClientThatAnotherThreadWaitsIn) {
    std::optional<Client> client = MakeClient();
    Producer producer = *client->MakeProducer();
    std::promise<void> began;
    std::promise<void> destroyed;
    (void)producer.Send(Message("s"), [&](const SendReceipt&) {
        began.set_value();
        while (cluster.last_discover().subject != "awaited") {
            std::this_thread::yield();
        }
        client.reset();
        destroyed.set_value();
    });
    began.get_future().wait();
    cluster.SetDiscoverError(Status::Unavailable("away"));
    EXPECT_EQ(client->WaitReady("awaited", kLong).code(), StatusCode::kCancelled);
    destroyed.get_future().wait();
}

TEST_F(ShutdownThreadsTest, OfAClientThatHasEndedTheAnswerComesInsideTheCall) {
    Client client = MakeClient();
    (void)client.Shutdown(kLong);
    std::thread::id answered;
    client.ShutdownAsync(milliseconds(0), [&answered](const ShutdownReport&) {
        answered = std::this_thread::get_id();
    });
    EXPECT_EQ(answered, std::this_thread::get_id());
}

}  // namespace
}  // namespace qmq
