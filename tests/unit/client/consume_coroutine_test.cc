// Coroutines that wait for a pull or for the record of a decision: always resumed or destroyed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <coroutine>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/owned_coroutine.h"
#include "tests/unit/client/client_fixture.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Owned;
using ::testing::SizeIs;

using Batch = std::vector<Delivery>;

class ConsumeCoroutineTest : public testing::ClientFixture {
protected:
    ConsumeCoroutineTest() : client(MakeClient()) {}

    PullConsumer Make(Client& of) {
        PullConsumerOptions options;
        options.subject = "s";
        options.group = "g";
        options.start = StartPosition::kEarliest;
        Result<PullConsumer> made = of.MakePullConsumer(std::move(options));
        EXPECT_TRUE(made.ok()) << made.status();
        Settle();
        return std::move(*made);
    }
    PullConsumer Make() { return Make(client); }
    Owned PullOne(PullConsumer consumer, PullOptions options = {1, seconds(60)}) {
        pulled.push_back(co_await consumer.PullAsync(options));
    }
    Owned PullOneOn(PullConsumer consumer, Executor* executor) {
        pulled.push_back(co_await consumer.PullAsync({1, seconds(60)}).On(*executor));
    }
    /// Pulls, and waits until its decision is recorded.
    template <typename Decide>
    Owned PullAndDecide(PullConsumer consumer, Decide decide) {
        Result<Batch> batch = co_await consumer.PullAsync({1, seconds(60)});
        recorded.push_back(co_await decide(batch->front()));
    }

    Client client;
    std::vector<Result<Batch>> pulled;
    std::vector<Status> recorded;
};

TEST_F(ConsumeCoroutineTest, APullIsAwaited) {
    PullConsumer consumer = Make();
    const Owned one = PullOne(consumer);
    Settle();
    EXPECT_FALSE(one.done());
    Append(1);
    Settle();
    EXPECT_TRUE(one.done());
    ASSERT_THAT(pulled, SizeIs(1));
    ASSERT_TRUE(pulled[0].ok());
    EXPECT_THAT(*pulled[0], SizeIs(1));
}

TEST_F(ConsumeCoroutineTest, APullThatIsNotTakenGoesOnAtOnce) {
    PullConsumer consumer = Make();
    const Owned one = PullOne(consumer, {0, seconds(60)});
    EXPECT_TRUE(one.done());
    ASSERT_THAT(pulled, SizeIs(1));
    EXPECT_EQ(pulled[0].status().code(), StatusCode::kInvalidArgument);
}

TEST_F(ConsumeCoroutineTest, EachDecisionIsAwaited) {
    PullConsumer consumer = Make();
    Append(5);
    std::vector<Owned> all;
    all.push_back(PullAndDecide(consumer, [](Delivery& one) { return one.AckAsync(); }));
    all.push_back(PullAndDecide(consumer, [](Delivery& one) { return one.NackAsync("bad"); }));
    all.push_back(
        PullAndDecide(consumer, [](Delivery& one) { return one.RetryInAsync(seconds(3600)); }));
    all.push_back(PullAndDecide(consumer, [](Delivery& one) { return one.RejectAsync("never"); }));
    all.push_back(PullAndDecide(
        consumer, [](Delivery& one) { return one.LaterAsync(milliseconds(0), "not now"); }));
    Settle();
    Advance(milliseconds(100));
    ASSERT_THAT(recorded, SizeIs(5));
    for (const Status& status : recorded) {
        EXPECT_TRUE(status.ok()) << status;
    }
}

TEST_F(ConsumeCoroutineTest, ASecondDecisionIsToldThatItIsOne) {
    PullConsumer consumer = Make();
    Append(1);
    const Owned one = PullAndDecide(consumer, [](Delivery& delivery) {
        delivery.Ack();
        return delivery.AckAsync();
    });
    Settle();
    Advance(milliseconds(100));
    ASSERT_THAT(recorded, SizeIs(1));
    EXPECT_EQ(recorded[0].code(), StatusCode::kNotFound);
}

// What comes for a coroutine that is gone is not kept.
TEST_F(ConsumeCoroutineTest, WhatADestroyedCoroutinePulledIsRetriedAtOnce) {
    PullConsumer consumer = Make();
    Owned one = PullOne(consumer);
    Settle();
    one.Destroy();
    Append(1);
    Settle();
    Advance(milliseconds(100));
    EXPECT_THAT(pulled, SizeIs(0));
    const auto acked = broker().acks();
    ASSERT_THAT(acked, SizeIs(1));
    EXPECT_EQ(acked[0].verdict, AckVerdict::kRetry);
}

TEST_F(ConsumeCoroutineTest, WhatComesForAPullThatNobodyAwaitsIsRetriedAtOnce) {
    PullConsumer consumer = Make();
    (void)consumer.PullAsync({1, seconds(60)});
    Settle();
    Append(1);
    Advance(milliseconds(100));
    const auto acked = broker().acks();
    ASSERT_THAT(acked, SizeIs(1));
    EXPECT_EQ(acked[0].verdict, AckVerdict::kRetry);
    EXPECT_EQ(acked[0].delay, milliseconds(0));
}

TEST_F(ConsumeCoroutineTest, ACoroutineResumesOnTheExecutorItNames) {
    testing::ManualExecutor mine(time.clock);
    PullConsumer consumer = Make();
    const Owned one = PullOneOn(consumer, &mine);
    Owned other = PullOneOn(consumer, &mine);
    Append(2);
    Settle();
    EXPECT_FALSE(one.done());
    other.Destroy();
    mine.RunAll();
    EXPECT_TRUE(one.done());
    EXPECT_THAT(pulled, SizeIs(1));
}

TEST_F(ConsumeCoroutineTest, AnExecutorThatDropsWhatItTookLeavesNobodyWaiting) {
    std::optional<testing::ManualExecutor> mine(std::in_place, time.clock);
    PullConsumer consumer = Make();
    const Owned one = PullOneOn(consumer, &*mine);
    Append(1);
    Settle();
    EXPECT_FALSE(one.done());
    mine.reset();
    EXPECT_TRUE(one.done());
}

TEST_F(ConsumeCoroutineTest, AShutdownResumesEveryCoroutine) {
    PullConsumer consumer = Make();
    std::vector<Owned> all;
    for (int i = 0; i < 10; ++i) {
        all.push_back(PullOne(consumer));
    }
    Settle();
    (void)client.Shutdown(milliseconds(0));
    Settle();
    ASSERT_THAT(pulled, SizeIs(10));
    for (const Result<Batch>& one : pulled) {
        EXPECT_EQ(one.status().code(), StatusCode::kCancelled);
    }
}

TEST_F(ConsumeCoroutineTest, AClientThatIsDroppedResumesEveryCoroutine) {
    testing::ManualExecutor callbacks(time.clock);
    ClientOptions options = Options();
    options.runtime.callbacks = &callbacks;  // Never runs.
    std::optional<Client> other(MakeClient(std::move(options)));
    PullConsumer consumer = Make(*other);
    std::vector<Owned> all;
    for (int i = 0; i < 10; ++i) {
        all.push_back(PullOne(consumer));
    }
    Append(10);
    Settle();
    EXPECT_THAT(pulled, SizeIs(0));
    other.reset();
    consumer = PullConsumer();
    EXPECT_THAT(pulled, SizeIs(10));
}

/// A coroutine whose exceptions go to whoever resumes it.
class Thrown {
public:
    struct promise_type {
        Thrown get_return_object() {
            return Thrown(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { throw; }
    };
    Thrown(Thrown&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Thrown& operator=(Thrown&&) = delete;
    ~Thrown() {
        if (handle_ != nullptr) {
            handle_.destroy();
        }
    }

private:
    explicit Thrown(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

// It was resumed in a destructor, so what it threw ended the process.
TEST(ConsumeCoroutineEndTest, WhatACoroutineThrowsThatIsResumedAtTheEndIsIgnored) {
    UniqueFunction<void(Status)> answer;
    Status seen;
    const auto await = [&](Awaitable<Status> awaited) -> Thrown {
        seen = co_await std::move(awaited);
        throw std::runtime_error("not recorded");
    };
    const Thrown waits = await(Awaitable<Status>::Of([&](auto done) { answer = std::move(done); }));
    answer = nullptr;
    EXPECT_EQ(seen.code(), StatusCode::kCancelled);
}

// Its executor is where a coroutine may be destroyed at any time. When that met the answer, which
// was on its way there from another thread, the coroutine was resumed after its end.
TEST(ConsumeCoroutineEndTest, ACoroutineMayBeDestroyedOnItsExecutorWhileItsAnswerComes) {
    ThreadPool mine({.threads = 1});
    const auto await = [](Awaitable<Status> awaited, Executor* executor) -> Owned {
        (void)co_await std::move(awaited).On(*executor);
    };
    for (int round = 0; round < 500; ++round) {
        UniqueFunction<void(Status)> answer;
        Owned waits =
            await(Awaitable<Status>::Of([&](auto done) { answer = std::move(done); }), &mine);
        std::atomic<int> stage{0};
        ASSERT_TRUE(mine.Post([&] {
            stage = 1;
            while (stage != 2) {
                std::this_thread::yield();
            }
            waits.Destroy();
            stage = 3;
        }));
        while (stage != 1) {
            std::this_thread::yield();
        }
        stage = 2;
        answer(Status::Ok());
        while (stage != 3) {
            std::this_thread::yield();
        }
    }
}

}  // namespace
}  // namespace qmq
