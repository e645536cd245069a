// Calls of a producer that wait, from the threads that a client has of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/manual_executor.h"
#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/send_threads_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::kPatience;

class SendThreadsTest : public testing::SendThreadsFixture {};

// In a handler it was refused, although other threads bring the answers: each refusal cost an
// attempt of the message that was handled.
TEST_F(SendThreadsTest, AHandlerWaitsForRoom) {
    Client client = MakeClient();
    Producer producer = Blocking(client, 2);
    constexpr int kMessages = 500;
    std::atomic<int> refused{0};
    std::atomic<int> left{kMessages};
    std::promise<void> done;
    for (int i = 0; i < kMessages; ++i) {
        cluster.broker("a").Append(Message("in"));
    }
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        const Status taken = producer.Send(Message("out"), [](const SendReceipt&) {});
        refused += taken.ok() ? 0 : 1;
        if (left.fetch_sub(1) == 1) {
            done.set_value();
        }
    });
    ASSERT_TRUE(made.ok());
    ASSERT_EQ(done.get_future().wait_for(kPatience), std::future_status::ready);
    EXPECT_EQ(refused.load(), 0);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

TEST_F(SendThreadsTest, ACallThatWaitsForRoomGoesOnWhenACoroutineHasItsTurn) {
    testing::ManualClock clock;
    testing::ManualExecutor mine(clock);
    Client client = MakeClient();
    Producer producer = Blocking(client, 1);
    const auto wait = [&mine](Producer to) -> testing::Owned {
        (void)co_await to.Send(Message("s")).On(mine);
    };
    cluster.broker("a").SetHoldSends(true);  // So that the answer is not there before it waits.
    const testing::Owned one = wait(producer);
    cluster.broker("a").SetHoldSends(false);
    ASSERT_TRUE(testing::Await([&] {
        cluster.broker("a").AnswerHeld();
        return mine.task_count() == 1;
    }));
    std::thread sender(
        [producer]() mutable { EXPECT_TRUE(producer.Send(Message("s")).Get().ok()); });
    ASSERT_TRUE(testing::Await([&] { return producer.stats().blocked_calls == 1; }));
    mine.RunAll();
    sender.join();
    EXPECT_TRUE(one.done());
}

// What is given back when no messages come any more was told to nobody: the call waited on beside
// the room that it needed.
TEST_F(SendThreadsTest, ACallThatWaitsForRoomGoesOnWhenWhatIsSpareIsGivenBack) {
    testing::ManualClock clock;
    testing::ManualExecutor mine(clock);
    Client client = MakeClient();
    ProducerOptions options;
    options.max_pending_bytes = 128U << 10;
    options.when_full = WhenFull::kBlock;
    Producer producer = *client.MakeProducer(options);
    ASSERT_TRUE(producer.Send(Message("s")).Get().ok());
    cluster.broker("a").SetHoldSends(true);
    const auto wait = [&mine](Producer to) -> testing::Owned {
        (void)co_await to.Send(Message("s")).On(mine);
    };
    const testing::Owned one = wait(producer);
    for (int i = 0; i < 30; ++i) {
        producer.Send(Message("s" + std::to_string(i))).Detach();
    }
    cluster.broker("a").SetHoldSends(false);
    ASSERT_TRUE(testing::Await([&] {
        while (cluster.broker("a").AnswerHeld()) {
        }
        return producer.stats().pending_count == 1;
    }));
    ASSERT_GT(producer.stats().pending_bytes, 64U << 10) << "the piece of the stage";
    Message large("s");
    large.SetBody(std::string(80'000, 'x'));
    EXPECT_TRUE(producer.Send(std::move(large), kPatience).Get().ok());
    mine.RunAll();
    EXPECT_TRUE(one.done());
}

// A subject was looked at without the lock, and may be forgotten at any time: when its message's
// time is over before its route is asked for, or while the frame that has it is being sent.
TEST_F(SendThreadsTest, SubjectsComeAndGoWhileTheirMessagesTimeIsOver) {
    cluster.SetEverySubject(true);
    Client client = MakeClient();
    ProducerOptions options;
    options.max_pending_bytes = 256U << 10;
    Producer producer = *client.MakeProducer(options);
    std::atomic<int> owed{0};
    constexpr int kThreads = 3;
    constexpr int kMessages = 20'000;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            for (int i = 0; i < kMessages; ++i) {
                ++owed;
                Message message("subject-" + std::to_string((i * (thread + 7)) % 6'000));
                const Status taken = producer.Send(
                    std::move(message), milliseconds(1 + i % 3), [&](const auto&) { --owed; });
                if (!taken.ok()) {
                    --owed;
                    std::this_thread::yield();
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_TRUE(producer.Flush(kPatience).ok());
    EXPECT_TRUE(testing::Await([&] { return owed == 0; }));
    EXPECT_LE(producer.stats().pending_bytes, 64U << 10) << "a piece of the stage";
    EXPECT_LE(producer.stats().subjects, 1'400U);
}

// Flush returned when the answer was known and nobody had been told of it: a future was not ready,
// and a shutdown that came then dropped the callbacks, though there was time.
TEST_F(SendThreadsTest, WhatAFlushWaitedForIsToldAndNotDropped) {
    constexpr int kRounds = 300;
    int not_ready = 0;
    int not_drained = 0;
    std::atomic<int> called{0};
    for (int i = 0; i < kRounds; ++i) {
        Client client = MakeClient();
        Producer producer = Blocking(client, 100);
        const Status taken = producer.Send(Message("s"), [&](const SendReceipt&) { ++called; });
        EXPECT_TRUE(taken.ok()) << taken;
        const SendFuture future = producer.Send(Message("s"));
        EXPECT_TRUE(producer.Flush(kPatience).ok());
        not_ready += future.ready() ? 0 : 1;
        not_drained += client.Shutdown(kPatience).drained ? 0 : 1;
    }
    EXPECT_EQ(not_ready, 0);
    EXPECT_EQ(not_drained, 0);
    EXPECT_EQ(called, kRounds);
}

// As above, where another sender's entry brings word that the flush is over.
TEST_F(SendThreadsTest, WhatAFlushOfManySendersWaitedForIsTold) {
    constexpr int kRounds = 400;
    constexpr int kSenders = 4;
    Client client = MakeClient();
    Producer producer = Blocking(client, 100);
    std::atomic<int> not_ready{0};
    std::vector<std::thread> senders;
    for (int sender = 0; sender < kSenders; ++sender) {
        senders.emplace_back([&producer, &not_ready, sender] {
            for (int i = 0; i < kRounds; ++i) {
                const SendFuture future = producer.Send(Message("s" + std::to_string(sender)));
                EXPECT_TRUE(producer.Flush(kPatience).ok());
                not_ready += future.ready() ? 0 : 1;
            }
        });
    }
    for (std::thread& sender : senders) {
        sender.join();
    }
    EXPECT_EQ(not_ready, 0);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

TEST_F(SendThreadsTest, AHandlerMayWaitForReceiptsAndFlush) {
    Client client = MakeClient();
    Producer producer = Blocking(client, 100);
    std::promise<std::pair<SendReceipt, Status>> done;
    cluster.broker("a").Append(Message("in"));
    auto made = client.Subscribe(Consumer(), [&](const Message&) {
        const SendReceipt receipt = producer.Send(Message("out")).Get();
        producer.Send(Message("out")).Detach();
        done.set_value({receipt, producer.Flush(kPatience)});
    });
    ASSERT_TRUE(made.ok());
    const auto [receipt, flushed] = done.get_future().get();
    EXPECT_TRUE(receipt.ok()) << receipt;
    EXPECT_TRUE(flushed.ok()) << flushed;
}

TEST_F(SendThreadsTest, ACallbackMayWaitForReceiptsAndFlush) {
    Client client = MakeClient();
    Producer producer = Blocking(client, 100);
    std::promise<std::pair<SendReceipt, Status>> done;
    ASSERT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) {
                              const SendReceipt receipt = producer.Send(Message("s")).Get();
                              producer.Send(Message("s")).Detach();
                              done.set_value({receipt, producer.Flush(kPatience)});
                          })
                    .ok());
    const auto [receipt, flushed] = done.get_future().get();
    EXPECT_TRUE(receipt.ok()) << receipt;
    EXPECT_TRUE(flushed.ok()) << flushed;
}

// A callback that ran gives its room to a thread that waits for it, and no answer is needed.
TEST_F(SendThreadsTest, TheEndOfACallbackWakesWhoWaitsForRoom) {
    Client client = MakeClient();
    Producer producer = Blocking(client, 1);
    std::promise<void> release;
    std::promise<void> began;
    ASSERT_TRUE(producer
                    .Send(Message("s"),
                          [&](const SendReceipt&) {
                              began.set_value();
                              release.get_future().wait();
                          })
                    .ok());
    began.get_future().wait();
    std::promise<Status> taken;
    std::thread sender(
        [&] { taken.set_value(producer.Send(Message("s"), [](const SendReceipt&) {})); });
    while (producer.stats().blocked_calls == 0) {
        std::this_thread::yield();
    }
    release.set_value();
    EXPECT_TRUE(taken.get_future().get().ok());
    sender.join();
}

TEST_F(SendThreadsTest, AShutdownWakesWhoWaitsForRoom) {
    Client client = MakeClient();
    cluster.broker("a").SetConnectable(false);
    Producer producer = Blocking(client, 1);
    producer.Send(Message("s")).Detach();
    std::promise<Status> taken;
    std::thread sender(
        [&] { taken.set_value(producer.Send(Message("s"), [](const SendReceipt&) {})); });
    while (producer.stats().blocked_calls == 0) {
        std::this_thread::yield();
    }
    (void)client.Shutdown(milliseconds(0));
    EXPECT_EQ(taken.get_future().get().code(), StatusCode::kCancelled);
    sender.join();
}

TEST_F(SendThreadsTest, OnATransportsThreadWaitingIsRefused) {
    Client client = MakeClient(true);
    Producer producer = Blocking(client, 100);
    // An answer that overtakes the end of its call goes to the callback thread, which may wait.
    std::promise<std::thread::id> transport;
    transport_threads.Post([&] { transport.set_value(std::this_thread::get_id()); });
    const std::thread::id transport_thread = transport.get_future().get();
    std::optional<Status> flushed;
    for (int i = 0; i < 10'000 && !flushed.has_value(); ++i) {
        std::promise<std::optional<Status>> done;
        ASSERT_TRUE(producer
                        .Send(Message("s"),
                              [&](const SendReceipt&) {
                                  std::optional<Status> status;
                                  if (std::this_thread::get_id() == transport_thread) {
                                      status = producer.Flush(kPatience);
                                  }
                                  done.set_value(std::move(status));
                              })
                        .ok());
        flushed = done.get_future().get();
    }
    ASSERT_TRUE(flushed.has_value());
    EXPECT_EQ(flushed->code(), StatusCode::kFailedPrecondition);
}

/// Refuses the first task, so that the next offer comes from the client's timers; there it waits
/// for answers.
class WaitingExecutor final : public Executor {
public:
    explicit WaitingExecutor(Producer& producer) : producer_(producer) {}
    bool Post(Task task) override {
        const int offer = offers_++;
        if (offer == 1) {
            waited.set_value(producer_.Flush(kPatience));
        }
        return offer > 0 && threads_.Post(std::move(task));
    }
    TimerId PostAt(TimePoint when, Task task) override {
        return threads_.PostAt(when, std::move(task));
    }
    bool Cancel(TimerId timer) override { return threads_.Cancel(timer); }

    std::promise<Status> waited;

private:
    ThreadPool threads_{{}};
    Producer& producer_;
    std::atomic<int> offers_{0};
};

// An executor of the application's, or a destructor of what a handler had captured, waited on the
// thread that keeps the timers: nothing went on, for ever.
TEST_F(SendThreadsTest, OnTheThreadOfTheTimersWaitingIsRefused) {
    std::optional<WaitingExecutor> executor;
    Client client = MakeClient();
    Producer producer = Blocking(client, 100);
    executor.emplace(producer);
    SubscriptionOptions options = Consumer();
    options.executor = &*executor;
    cluster.broker("a").Append(Message("in"));
    std::promise<void> handled;
    auto made = client.Subscribe(options, [&handled](const Message&) { handled.set_value(); });
    ASSERT_TRUE(made.ok());
    auto came = executor->waited.get_future();
    ASSERT_EQ(came.wait_for(kPatience / 2), std::future_status::ready);
    EXPECT_EQ(came.get().code(), StatusCode::kFailedPrecondition);
    // Else the message may go back to the broker, and the report counts it.
    ASSERT_EQ(handled.get_future().wait_for(kPatience / 2), std::future_status::ready);
    EXPECT_TRUE(client.Shutdown(kPatience).drained);
}

}  // namespace
}  // namespace qmq
