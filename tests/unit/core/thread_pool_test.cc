#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "qmq/executor.h"

namespace qmq {
namespace {

using testing::ElementsAre;

TEST(ThreadPoolTest, RunsWhatIsPostedOnAThreadOfItsOwn) {
    ThreadPool pool({});
    std::promise<std::thread::id> ran_on;
    ASSERT_TRUE(pool.Post([&] { ran_on.set_value(std::this_thread::get_id()); }));
    EXPECT_NE(ran_on.get_future().get(), std::this_thread::get_id());
}

TEST(ThreadPoolTest, OneThreadRunsTasksInTheOrderInWhichTheyCame) {
    ThreadPool pool({});
    std::vector<int> order;
    std::promise<void> done;
    pool.Post([&] { order.push_back(1); });
    pool.Post([&] { order.push_back(2); });
    pool.Post([&] { done.set_value(); });
    done.get_future().wait();
    EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(ThreadPoolTest, RefusesWhenTheQueueIsFull) {
    std::promise<void> started;
    std::promise<void> go;
    ThreadPool pool({.max_queued_count = 1});  // Last: its thread ends before what it waits for.
    pool.Post([&] {
        started.set_value();
        go.get_future().wait();
    });
    started.get_future().wait();
    EXPECT_TRUE(pool.Post([] {}));
    auto witness = std::make_shared<int>();
    EXPECT_FALSE(pool.Post([witness] { FAIL(); }));
    EXPECT_EQ(witness.use_count(), 1);  // The refused task was destroyed.
    go.set_value();
}

TEST(ThreadPoolTest, TimersRunInTheOrderOfTheirTimes) {
    ThreadPool pool({});
    std::vector<int> order;
    std::promise<void> done;
    const TimePoint now = SystemClock().Now();
    pool.Post([&] {  // All are given while the only thread is busy, so that none can run too early.
        pool.PostAt(now - std::chrono::seconds(1), [&] { order.push_back(2); });
        pool.PostAt(now - std::chrono::seconds(2), [&] { order.push_back(1); });
        pool.PostAt(now, [&] { done.set_value(); });
    });
    done.get_future().wait();
    EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(ThreadPoolTest, AnEarlierTimerOvertakesTheOneThatIsWaitedFor) {
    ThreadPool pool({});
    pool.PostAt(SystemClock().Now() + std::chrono::hours(1), [] { FAIL(); });
    std::promise<void> done;
    pool.PostAt(SystemClock().Now() + std::chrono::milliseconds(1), [&] { done.set_value(); });
    done.get_future().wait();
}

TEST(ThreadPoolTest, CancelSaysWhetherTheTaskWillNeverRun) {
    ThreadPool pool({});
    auto witness = std::make_shared<int>();
    const TimerId timer =
        pool.PostAt(SystemClock().Now() + std::chrono::hours(1), [witness] { FAIL(); });
    EXPECT_TRUE(pool.Cancel(timer));
    EXPECT_EQ(witness.use_count(), 1);
    EXPECT_FALSE(pool.Cancel(timer));
    EXPECT_FALSE(pool.Cancel(12345));
}

TEST(ThreadPoolTest, EveryTimerIsCancelledOrRunsExactlyOnce) {
    ThreadPool pool({.threads = 2});
    std::atomic<int> ran = 0;
    int cancelled = 0;
    constexpr int kTimers = 2'000;
    for (int i = 0; i < kTimers; ++i) {
        const TimerId timer = pool.PostAt(SystemClock().Now(), [&] { ++ran; });
        cancelled += pool.Cancel(timer) ? 1 : 0;
    }
    while (ran + cancelled < kTimers) {
        std::this_thread::yield();
    }
    EXPECT_EQ(ran + cancelled, kTimers);
}

TEST(ThreadPoolTest, DestroyingItDropsWhatHasNotBegunAndWaitsForTheRest) {
    bool finished = false;
    auto witness = std::make_shared<int>();
    {
        std::promise<void> started;
        std::promise<void> queued;
        ThreadPool pool({});  // Last: its thread ends before what it waits for.
        pool.Post([&] {
            started.set_value();
            queued.get_future().wait();
            finished = true;
        });
        started.get_future().wait();
        pool.PostAt(SystemClock().Now() + std::chrono::hours(1), [witness] { FAIL(); });
        queued.set_value();
    }
    EXPECT_TRUE(finished);
    EXPECT_EQ(witness.use_count(), 1);
}

TEST(ThreadPoolTest, ItMayBeDestroyedByOneOfItsOwnTasks) {
    auto pool = std::make_unique<ThreadPool>(ThreadPoolOptions{.threads = 2});
    std::promise<void> destroyed;
    ThreadPool* raw = pool.get();
    raw->Post([&] {
        pool.reset();
        destroyed.set_value();
    });
    destroyed.get_future().wait();
}

}  // namespace
}  // namespace qmq
