// How a client ends, in virtual time where one thread is enough.

#include <gmock/gmock.h>

#include <functional>
#include <future>
#include <limits>
#include <optional>
#include <stdexcept>
#include <thread>

#include "qmq/deadline.h"

#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class ShutdownTest : public testing::ClientFixture {
protected:
    /// A subscription with one handler under way that does not return: its executor stands still.
    Subscription WithAHandlerUnderWay(Client& client) {
        SubscriptionOptions options = Consumer();
        options.executor = &stuck;
        auto made = client.Subscribe(options, [](const Message&) {});
        EXPECT_TRUE(made.ok()) << made.status();
        Append(1);
        Settle();
        return std::move(*made);
    }
    /// A handler is under way for as long as the shutdown may take.
    void ExpectProducersToCloseAfter(milliseconds after, milliseconds timeout) {
        Client client = MakeClient();
        Producer producer = MakeProducer(client);
        ASSERT_EQ(SendNow(producer), StatusCode::kOk);
        const Subscription subscription = WithAHandlerUnderWay(client);
        client.ShutdownAsync(timeout, Keep());
        Advance(after - milliseconds(1));
        EXPECT_EQ(SendNow(producer), StatusCode::kOk);
        Advance(milliseconds(1));
        EXPECT_EQ(SendNow(producer), StatusCode::kCancelled);
        EXPECT_EQ(reports, 0);
        Advance(timeout - after);
        EXPECT_EQ(reports, 1);
        EXPECT_EQ(broker().subscriber_count(), 0U);
    }
    std::function<void(const ShutdownReport&)> Keep() {
        return [this](const ShutdownReport& given) {
            ++reports;
            report = given;
        };
    }
    StatusCode SendNow(Producer& producer, const std::string& subject = "results") {
        const SendFuture sent = producer.Send(Message(subject));
        Settle();
        return sent.ready() ? sent.Get().status.code() : StatusCode::kUnavailable;
    }

    testing::ManualExecutor stuck{time.clock};
    ShutdownReport report;
    int reports = 0;
};

// Producers were closed together with consumers: the results of the handlers that a shutdown waited
// for were refused, their messages delivered again, and the report said "drained".
TEST_F(ShutdownTest, AHandlerThatEndsDuringShutdownMaySendItsResult) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    SendReceipt result;
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        client.ShutdownAsync(seconds(10), Keep());
        (void)producer.Send(Message("results"),
                            [&](const SendReceipt& receipt) { result = receipt; });
    });
    ASSERT_TRUE(made.ok());
    Append(1);
    Advance(seconds(1));
    EXPECT_TRUE(result.ok()) << result.status;
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(report.drained);
    EXPECT_EQ(SendNow(producer), StatusCode::kCancelled);
}

TEST_F(ShutdownTest, ConsumersTakeNothingNew) {
    Client client = MakeClient();
    int handled = 0;
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        if (++handled == 1) {
            client.ShutdownAsync(seconds(10), Keep());
            Append(5);
            Settle();
        }
    });
    Append(1);
    Advance(seconds(1));
    EXPECT_EQ(handled, 1);
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(report.drained);
}

TEST_F(ShutdownTest, ProducersCloseWhenAFifthOfTheTimeIsLeft) {
    ExpectProducersToCloseAfter(seconds(8), seconds(10));
}

TEST_F(ShutdownTest, ProducersHaveAtLeast100Milliseconds) {
    ExpectProducersToCloseAfter(milliseconds(200), milliseconds(300));
}

TEST_F(ShutdownTest, OfALittleTimeProducersHaveHalf) {
    ExpectProducersToCloseAfter(milliseconds(50), milliseconds(100));
}

TEST_F(ShutdownTest, ProducersCloseAndFlushAsSoonAsNoHandlerRuns) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    ASSERT_EQ(SendNow(producer), StatusCode::kOk);
    const Subscription subscription = WithAHandlerUnderWay(client);
    client.ShutdownAsync(seconds(10), Keep());
    broker().SetHoldSends(true);
    const SendFuture last = producer.Send(Message("results"));
    Settle();
    stuck.RunAll();
    Settle();
    EXPECT_EQ(SendNow(producer), StatusCode::kCancelled);
    EXPECT_EQ(reports, 0);
    EXPECT_TRUE(broker().AnswerHeld());
    Settle();
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(last.ready() && last.Get().ok());
}

TEST_F(ShutdownTest, WhatGathersIsSentWhenProducersClose) {
    Client client = MakeClient();
    ProducerOptions options;
    options.linger = seconds(1);
    Producer producer = MakeProducer(client, options);
    ASSERT_EQ(SendNow(producer), StatusCode::kOk);
    broker().SetHoldSends(true);
    for (int i = 0; i < 4; ++i) {
        producer.Send(Message("results")).Detach();
    }
    Settle();
    ASSERT_EQ(broker().held_frame_count(), 2U);  // The connection is busy now: the others gather.
    client.ShutdownAsync(seconds(10), Keep());
    Settle();
    EXPECT_EQ(broker().held_frame_count(), 3U);
    while (broker().AnswerHeld()) {
    }
    Settle();
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(report.drained);
}

TEST_F(ShutdownTest, AcksThatGatherAreSentAtTheDeadline) {
    Client client = MakeClient();
    SubscriptionOptions options = Consumer();
    options.ack_linger = seconds(1);
    std::vector<Delivery> kept;
    const Subscription subscription = MakeSubscription(
        client, options, [&](Delivery delivery) { kept.push_back(std::move(delivery)); });
    Append(2);
    Settle();
    ASSERT_EQ(kept.size(), 2U);
    client.ShutdownAsync(seconds(10), Keep());
    Advance(milliseconds(9'900));
    kept[0].Ack();
    EXPECT_EQ(broker().acked_count(), 0U);
    Advance(milliseconds(100));
    EXPECT_EQ(reports, 1);
    EXPECT_EQ(report.deliveries_undecided, 1U);
    EXPECT_EQ(broker().acked_count(), 1U);
    EXPECT_EQ(broker().subscriber_count(), 0U);
    kept.clear();
}

TEST_F(ShutdownTest, AnAsynchronousShutdownForEverWaitsForItsHandlers) {
    Client client = MakeClient();
    Producer producer = MakeProducer(client);
    ASSERT_EQ(SendNow(producer), StatusCode::kOk);
    const Subscription subscription = WithAHandlerUnderWay(client);
    client.ShutdownAsync(milliseconds::max(), Keep());
    Advance(hours(24));
    EXPECT_EQ(reports, 0);
    EXPECT_EQ(SendNow(producer), StatusCode::kOk);
    stuck.RunAll();
    Settle();
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(report.status.ok());
}

// The second call ended everything at once, however long the first one would have waited.
TEST_F(ShutdownTest, EachAsynchronousShutdownIsAnsweredOnceAndTheSoonestDeadlineCounts) {
    Client client = MakeClient();
    const Subscription subscription = WithAHandlerUnderWay(client);
    std::vector<int> order;
    client.ShutdownAsync(seconds(60), [&](const ShutdownReport&) { order.push_back(1); });
    client.ShutdownAsync(seconds(10), [&](const ShutdownReport&) { order.push_back(2); });
    Advance(seconds(9));
    EXPECT_TRUE(order.empty());
    Advance(seconds(1));
    EXPECT_THAT(order, ::testing::ElementsAre(1, 2));
    client.ShutdownAsync(seconds(10), [&](const ShutdownReport&) { order.push_back(3); });
    Advance(hours(1));
    EXPECT_THAT(order, ::testing::ElementsAre(1, 2, 3));
}

/// Whose other thread is so quick that what is due at once has run before `PostAt` returns.
class QuickExecutor final : public Executor {
public:
    QuickExecutor(Executor& to, const Clock& clock) : to_(to), clock_(clock) {}
    bool Post(Task task) override { return to_.Post(std::move(task)); }
    TimerId PostAt(TimePoint when, Task task) override {
        if (!quick || when > clock_.Now()) {
            return to_.PostAt(when, std::move(task));
        }
        std::thread(std::move(task)).join();
        return std::numeric_limits<TimerId>::max();
    }
    bool Cancel(TimerId timer) override { return to_.Cancel(timer); }

    bool quick = false;

private:
    Executor& to_;
    const Clock& clock_;
};

// The timer came before the members were written down: nobody answered them any more.
TEST_F(ShutdownTest, AnAsynchronousShutdownWithoutTimeAnswersAllTheSame) {
    QuickExecutor quick(time.executor, time.clock);
    ClientOptions options = Options();
    options.runtime.executor = &quick;
    Client client = MakeClient(options);
    Producer producer = MakeProducer(client);
    ASSERT_EQ(SendNow(producer), StatusCode::kOk);
    broker().SetHoldSends(true);
    const SendFuture sent = producer.Send(Message("results"));
    Settle();
    quick.quick = true;
    client.ShutdownAsync(milliseconds(0), Keep());
    Settle();
    EXPECT_EQ(reports, 1);
    EXPECT_EQ(report.sends_unknown, 1U);
    EXPECT_TRUE(sent.ready());
}

TEST_F(ShutdownTest, AnAsynchronousShutdownIsAnsweredByTheExecutor) {
    Client client = MakeClient();
    client.ShutdownAsync(seconds(10), Keep());
    EXPECT_EQ(reports, 0);
    Settle();
    EXPECT_EQ(reports, 1);
    EXPECT_TRUE(report.drained);
}

TEST_F(ShutdownTest, WhoeverEndsTheClientFirstAnswersAnAsynchronousShutdown) {
    Client client = MakeClient();
    const Subscription subscription = WithAHandlerUnderWay(client);
    client.ShutdownAsync(seconds(10), Keep());
    Settle();
    EXPECT_EQ(reports, 0);
    (void)client.Shutdown(milliseconds(0));
    EXPECT_EQ(reports, 1);
    Advance(seconds(20));
    EXPECT_EQ(reports, 1);
}

TEST_F(ShutdownTest, TheAnswerMayThrow) {
    Client client = MakeClient();
    client.ShutdownAsync(seconds(1), [](const ShutdownReport&) { throw 7; });
    client.ShutdownAsync(seconds(1), Keep());
    Settle();
    EXPECT_EQ(reports, 1);
}

TEST_F(ShutdownTest, AnEmptyAnswerIsNoMistake) {
    Client client = MakeClient();
    client.ShutdownAsync(seconds(1), nullptr);
    client.ShutdownAsync(seconds(1), std::function<void(const ShutdownReport&)>());
    Settle();
    EXPECT_EQ(client.MakeProducer().status().code(), StatusCode::kCancelled);
}

TEST_F(ShutdownTest, AfterShutdownTheLogSinkIsNotCalled) {
    Client client = MakeClient();
    auto told = client.Subscribe(Consumer("told"),
                                 [](const Message&) { throw std::runtime_error("no stock"); });
    Append(1, "told");
    Settle();
    EXPECT_TRUE(Logged("no stock"));
    int handled = 0;
    auto too_late = client.Subscribe(Consumer("late"), [&](const Message&) {
        ++handled;
        client.Shutdown(milliseconds(0));
        log.clear();
        throw std::runtime_error("no stock");
    });
    Append(1, "late");
    Advance(seconds(60));
    EXPECT_EQ(handled, 1);
    EXPECT_THAT(log, ::testing::IsEmpty());
}

// The sink was called under the lock of a link: "connected again" is told there. A sink that sent
// to a new subject waited for that lock, and everybody else for the sink, for ever.
TEST_F(ShutdownTest, ALogSinkMaySendWhenALinkIsUpAgain) {
    std::optional<Producer> producer;
    SendOutcome outcome = SendOutcome::kUnknown;
    ClientOptions options = Options();
    options.log = [&](LogLevel, std::string_view line) {
        if (line.find("connected again") != std::string_view::npos) {
            (void)producer->Send(Message("lines"),
                                 [&](const SendReceipt& receipt) { outcome = receipt.outcome; });
        }
    };
    Client client = MakeClient(std::move(options));
    producer = MakeProducer(client);
    ASSERT_EQ(SendNow(*producer), StatusCode::kOk);
    broker().Cut();
    Advance(seconds(10));
    EXPECT_EQ(outcome, SendOutcome::kPersisted);
}

TEST_F(ShutdownTest, OnTheCallersExecutorWhatIsOwedRunsInsideShutdown) {
    testing::ManualExecutor never{time.clock};
    ClientOptions options = Options();
    options.runtime.callbacks = &never;
    Client client = MakeClient(std::move(options));
    Producer producer = MakeProducer(client);
    int called = 0;
    for (int i = 0; i < 10; ++i) {
        (void)producer.Send(Message("s"), [&](const SendReceipt&) {
            if (++called == 4) {
                throw 7;
            }
        });
    }
    Settle();
    EXPECT_EQ(called, 0);
    const ShutdownReport ended = client.Shutdown(milliseconds(0));
    EXPECT_EQ(called, 10);
    EXPECT_EQ(ended.callbacks_dropped, 0U);
    EXPECT_TRUE(ended.drained);
}

}  // namespace
}  // namespace qmq
