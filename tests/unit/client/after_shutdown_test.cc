// Once a client has been shut down nothing of the application's is called any more, whatever was on
// its way by then.

#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/client_fixture.h"
#include "tests/unit/client/threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

using Note = std::function<void()>;

class NotingFilter final : public Filter {
public:
    NotingFilter(Note handles, Note settled)
        : handles_(std::move(handles)), settled_(std::move(settled)) {}
    HandlerOutcome Handle(DeliveryContext&, Next& next) override {
        handles_();
        return next();
    }
    void OnSettled(DeliveryContext&, const HandlerOutcome&) override { settled_(); }

private:
    const Note handles_;
    const Note settled_;
};

class NotingExecutor final : public Executor {
public:
    explicit NotingExecutor(Note posted) : posted_(std::move(posted)) {}
    bool Post(Task) override {
        posted_();
        return false;
    }
    TimerId PostAt(TimePoint, Task) override { return 0; }
    bool Cancel(TimerId) override { return false; }

private:
    const Note posted_;
};

/// One kind of call at a time, which is on its way when the client ends.
class AfterShutdownTest : public testing::ClientFixture,
                          public ::testing::WithParamInterface<std::size_t> {
public:
    struct Call {
        const char* name;
        std::function<void(AfterShutdownTest&)> begin;
        std::function<void(AfterShutdownTest&)> go_on;
    };
    static const std::vector<Call>& Calls();

protected:
    void Begin() {
        Calls()[GetParam()].begin(*this);
        calls = 0;
    }
    void GoOn() { Calls()[GetParam()].go_on(*this); }
    /// Whatever else might come.
    void WaitForLong() {
        while (broker().AnswerHeld()) {
        }
        late.RunAll();
        Append(3);
        broker().Cut();
        Advance(hours(2));
        late.RunAll();
        Advance(hours(2));
    }

    void MakeClient(ClientOptions options) {
        client.emplace(ClientFixture::MakeClient(std::move(options)));
    }
    void MakeProducer() {
        MakeClient(Options());
        producer = ClientFixture::MakeProducer(*client);
        producer.Send(Message("s")).Detach();
        Settle();
    }
    void MakePuller() {
        MakeClient(Options());
        PullConsumerOptions options;
        options.subject = "s";
        options.group = "g";
        puller = client->MakePullConsumer(options).value();
        Settle();
    }
    void Subscribe(SubscriptionOptions options, Handler handler) {
        if (!client.has_value()) {
            MakeClient(Options());
        }
        subscription = MakeSubscription(*client, std::move(options), std::move(handler));
    }
    /// A message whose runner is on its way through `late`.
    void AwaitItsTurn(SubscriptionOptions options, Handler handler) {
        options.executor = &late;
        Subscribe(std::move(options), std::move(handler));
        Append(1);
        Settle();
    }
    /// A delivery in the application's hands.
    void KeepOne(SubscriptionOptions options = Consumer()) {
        Subscribe(std::move(options),
                  [this](Delivery delivery) { kept.push_back(std::move(delivery)); });
        Append(1);
        Settle();
    }
    /// The next send has an answer that is on its way.
    void AnswerOnItsWay(const std::function<void()>& send) {
        broker().SetHoldSends(true);
        send();
        Settle();
        broker().AnswerHeld();
    }
    std::shared_ptr<Filter> FilterThatNotes(bool handles) {
        const Note note = [this] { ++calls; };
        const Note nothing = [] {};
        return std::make_shared<NotingFilter>(handles ? note : nothing, handles ? nothing : note);
    }
    testing::Owned SendOne() {
        (void)co_await producer.Send(Message("s"));
        ++calls;
    }
    testing::Owned PullOne() {
        (void)co_await puller.PullAsync({.max_messages = 1, .max_wait = minutes(1)});
        ++calls;
    }
    testing::Owned AckOne() {
        (void)co_await kept.at(0).AckAsync();
        ++calls;
    }

    int calls = 0;
    testing::ManualExecutor late{time.clock};
    NotingExecutor refuses{[this] { ++calls; }};
    std::optional<Client> client;
    Producer producer;
    PullConsumer puller;
    Subscription subscription;
    std::vector<Delivery> kept;
    std::vector<testing::Owned> coroutines;
};

const std::vector<AfterShutdownTest::Call>& AfterShutdownTest::Calls() {
    using Test = AfterShutdownTest;
    static const auto settle = [](Test& t) { t.Settle(); };
    static const auto run_late = [](Test& t) { t.late.RunAll(); };
    static const auto nothing = [](const Message&) {};
    static const std::vector<Call> kCalls = {
        {"Handler",
         [](Test& t) {
             t.Subscribe(Consumer(), [&t](const Message&) { ++t.calls; });
             t.Append(1);
         },
         settle},
        {"HandlerOnItsExecutor",
         [](Test& t) { t.AwaitItsTurn(Consumer(), [&t](const Message&) { ++t.calls; }); },
         run_late},
        {"ExecutorThatRefused",
         [](Test& t) {
             SubscriptionOptions options = Consumer();
             options.executor = &t.refuses;
             t.Subscribe(options, nothing);
             t.Append(1);
             t.Settle();
         },
         [](Test& t) { t.Advance(seconds(5)); }},
        {"FilterOfTheClient",
         [](Test& t) {
             ClientOptions options = t.Options();
             options.filters = {t.FilterThatNotes(true)};
             t.MakeClient(std::move(options));
             t.AwaitItsTurn(Consumer(), nothing);
         },
         run_late},
        {"FilterOfTheSubscription",
         [](Test& t) {
             SubscriptionOptions options = Consumer();
             options.filters = {t.FilterThatNotes(true)};
             t.AwaitItsTurn(options, nothing);
         },
         run_late},
        {"FilterThatHearsOfTheEnd",
         [](Test& t) {
             SubscriptionOptions options = Consumer();
             options.filters = {t.FilterThatNotes(false)};
             t.KeepOne(options);
         },
         [](Test& t) {
             t.kept.at(0).Ack();
             t.Settle();
         }},
        {"IdempotencyKey",
         [](Test& t) {
             SubscriptionOptions options = Consumer();
             options.idempotency = MakeMemoryIdempotencyStore();
             options.idempotency_key = [&t](const Message&) {
                 ++t.calls;
                 return std::string("key");
             };
             t.AwaitItsTurn(options, nothing);
         },
         run_late},
        {"SendCallback",
         [](Test& t) {
             t.MakeProducer();
             t.AnswerOnItsWay([&t] {
                 (void)t.producer.Send(Message("s"), [&t](const SendReceipt&) { ++t.calls; });
             });
         },
         settle},
        {"SendCallbackAtItsDeadline",
         [](Test& t) {
             t.MakeProducer();
             t.cluster.SetDiscoverError(Status::Unavailable("no route"));
             (void)t.producer.Send(
                 Message("t"), seconds(1), [&t](const SendReceipt&) { ++t.calls; });
             t.Settle();
         },
         [](Test& t) { t.Advance(seconds(2)); }},
        {"SendCoroutine",
         [](Test& t) {
             t.MakeProducer();
             t.AnswerOnItsWay([&t] { t.coroutines.push_back(t.SendOne()); });
         },
         settle},
        {"AckCallback",
         [](Test& t) {
             t.KeepOne();
             t.broker().SetHoldAcks(true);
             t.kept.at(0).Ack([&t](const Status&) { ++t.calls; });
             t.Advance(milliseconds(1));
         },
         [](Test& t) {
             t.broker().SetHoldAcks(false);
             t.broker().Cut();
             t.Advance(seconds(5));
         }},
        {"AckCallbackOfALateDecision",
         [](Test& t) { t.KeepOne(); },
         [](Test& t) {
             t.kept.at(0).Ack([&t](const Status&) { ++t.calls; });
             t.Advance(seconds(1));
         }},
        {"AckCoroutine",
         [](Test& t) {
             t.KeepOne();
             t.coroutines.push_back(t.AckOne());
         },
         [](Test& t) { t.Advance(seconds(1)); }},
        {"PullCallback",
         [](Test& t) {
             t.MakePuller();
             (void)t.puller.PullAsync({.max_messages = 1, .max_wait = minutes(1)},
                                      [&t](const Result<std::vector<Delivery>>&) { ++t.calls; });
             t.Settle();
             t.Append(1);
         },
         settle},
        {"PullCallbackAtItsDeadline",
         [](Test& t) {
             t.MakePuller();
             (void)t.puller.PullAsync({.max_messages = 1, .max_wait = seconds(1)},
                                      [&t](const Result<std::vector<Delivery>>&) { ++t.calls; });
             t.Settle();
         },
         [](Test& t) { t.Advance(seconds(2)); }},
        {"PullCoroutine",
         [](Test& t) {
             t.MakePuller();
             t.coroutines.push_back(t.PullOne());
             t.Settle();
             t.Append(1);
         },
         settle},
        {"LogSink",
         [](Test& t) {
             ClientOptions options = t.Options();
             options.log = [&t](LogLevel, std::string_view) { ++t.calls; };
             t.MakeClient(std::move(options));
             t.Subscribe(Consumer(), nothing);
         },
         [](Test& t) {
             t.broker().Cut();
             t.Advance(minutes(1));
         }},
    };
    return kCalls;
}

INSTANTIATE_TEST_SUITE_P(Calls,
                         AfterShutdownTest,
                         ::testing::Range<std::size_t>(0, AfterShutdownTest::Calls().size()),
                         [](const auto& param) {
                             return std::string(AfterShutdownTest::Calls()[param.param].name);
                         });

// What the others show is nothing unless this call would have come.
TEST_P(AfterShutdownTest, WithoutAShutdownItIsCalled) {
    Begin();
    GoOn();
    EXPECT_GT(calls, 0);
    (void)client->Shutdown(milliseconds(0));
}

TEST_P(AfterShutdownTest, OnceShutdownHasReturnedItIsNotCalled) {
    Begin();
    (void)client->Shutdown(milliseconds(0));
    calls = 0;
    GoOn();
    WaitForLong();
    EXPECT_EQ(calls, 0);
}

TEST_P(AfterShutdownTest, OnceTheAsynchronousAnswerHasComeItIsNotCalled) {
    Begin();
    int answers = 0;
    client->ShutdownAsync(milliseconds(0), [&](const ShutdownReport&) {
        ++answers;
        calls = 0;
    });
    Settle();
    ASSERT_EQ(answers, 1);
    GoOn();
    WaitForLong();
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(answers, 1);
}

TEST_P(AfterShutdownTest, OnceTheClientIsDestroyedItIsNotCalled) {
    Begin();
    client.reset();
    calls = 0;
    GoOn();
    WaitForLong();
    EXPECT_EQ(calls, 0);
}

class AfterShutdownThreadsTest : public testing::ThreadsFixture {};

TEST_F(AfterShutdownThreadsTest, WhateverIsUnderWayNothingBeginsOnceShutdownHasReturned) {
    for (int round = 0; round < 10; ++round) {
        const auto over = std::make_shared<std::atomic<bool>>(false);
        const auto late = std::make_shared<std::atomic<int>>(0);
        const Note note = [over, late] { *late += *over ? 1 : 0; };
        const std::string group = "g" + std::to_string(round);
        ClientOptions options = Options();
        options.log = [note](LogLevel, std::string_view) { note(); };
        options.filters = {std::make_shared<NotingFilter>(note, note)};
        Client client = MakeClient(std::move(options));
        Producer producer = *client.MakeProducer();
        const auto handled = client.Subscribe(Consumer(group), [note](const Message&) { note(); });
        const auto decided = client.Subscribe(Consumer(group + "-manual"), [note](Delivery one) {
            note();
            one.Ack([note](const Status&) { note(); });
        });
        PullConsumerOptions pull;
        pull.subject = "s";
        pull.group = group + "-pull";
        PullConsumer puller = *client.MakePullConsumer(pull);
        ASSERT_TRUE(handled.ok() && decided.ok());
        for (int i = 0; i < 300; ++i) {
            (void)puller.PullAsync({.max_messages = 1, .max_wait = testing::kLong},
                                   [note](const Result<std::vector<Delivery>>&) { note(); });
            (void)producer.Send(Message("s"), [note](const SendReceipt&) { note(); });
        }
        const ShutdownReport report = client.Shutdown(milliseconds(round));
        *over = report.handlers_running == 0;  // One that began before may go on.
        broker().Append(Message("s"));
        broker().Cut();
        AwaitTransport();
        AwaitTransport();  // And what the first answers brought about.
        EXPECT_EQ(*late, 0) << "round " << round;
    }
}

}  // namespace
}  // namespace qmq
