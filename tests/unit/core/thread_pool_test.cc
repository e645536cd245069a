#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "qmq/deadline.h"
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

TEST(ThreadPoolTest, GrowsWhileTasksRun) {
    std::promise<void> go;
    const std::shared_future<void> gone(go.get_future());
    std::atomic<int> begun{0};
    std::promise<void> all;
    ThreadPool pool({});
    for (int i = 0; i < 3; ++i) {
        pool.Post([&, gone] {
            if (++begun == 3) {
                all.set_value();
            }
            gone.wait();
        });
    }
    EXPECT_EQ(pool.Grow(3), 3U);
    EXPECT_EQ(pool.Grow(2), 3U);  // None ends.
    all.get_future().wait();
    go.set_value();
    EXPECT_TRUE(pool.Stop(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
    EXPECT_EQ(pool.Grow(5), 3U);
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

// The thread that waited for the next timer took the task, and no other one waited in its place.
TEST(ThreadPoolTest, ATaskThatDoesNotReturnHoldsUpNoTimerWhileAThreadIsFree) {
    constexpr std::chrono::microseconds kFarthest{2'000};
    for (int i = 0; i < 100 && !HasFailure(); ++i) {
        std::promise<void> rang;
        std::promise<void> returned;
        ThreadPool pool({.threads = 2});  // Last: its threads end before what they wait for.
        const TimePoint start = SystemClock().Now();
        pool.PostAt(start + 2 * kFarthest, [&] { rang.set_value(); });
        // Perhaps both sleep by then, perhaps not yet: nobody can see that.
        while (SystemClock().Now() < start + kFarthest * (i % 10) / 10) {
            std::this_thread::yield();
        }
        pool.Post([&, has_rung = rang.get_future()] {
            EXPECT_EQ(has_rung.wait_for(std::chrono::seconds(20)), std::future_status::ready);
            returned.set_value();
        });
        returned.get_future().wait();
    }
}

// The thread that keeps the timers is called last, and called all the same.
TEST(ThreadPoolTest, TasksThatWaitForEachOtherHaveEveryThreadAlsoTheOneThatKeepsTimers) {
    constexpr std::ptrdiff_t kThreads = 3;
    for (int i = 0; i < 100; ++i) {
        std::latch all(kThreads);
        std::latch gone(kThreads);
        ThreadPool pool({.threads = kThreads});
        pool.PostAt(SystemClock().Now() + std::chrono::hours(1), [] {});
        for (std::ptrdiff_t task = 0; task < kThreads; ++task) {
            ASSERT_TRUE(pool.Post([&all, &gone] {
                all.arrive_and_wait();
                gone.count_down();
            }));
        }
        gone.wait();
    }
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

// Whoever posts notified a condition that its task had destroyed.
TEST(ThreadPoolTest, WhoPostsTouchesNothingOfAPoolThatItsTaskHasDestroyed) {
    for (int i = 0; i < 200; ++i) {
        auto pool = std::make_unique<ThreadPool>(ThreadPoolOptions{.threads = 2});
        ThreadPool* const raw = pool.get();
        std::promise<void> destroyed;
        ASSERT_TRUE(raw->Post([pool = std::move(pool), &destroyed]() mutable {
            pool.reset();
            destroyed.set_value();
        }));
        destroyed.get_future().wait();
    }
}

TEST(ThreadPoolTest, StopWaitsForWhatRunsUntilItsDeadline) {
    ThreadPool pool({});
    // Shared with the thread that is left to itself.
    const auto began = std::make_shared<std::promise<void>>();
    const auto go = std::make_shared<std::promise<void>>();
    pool.Post([began, went = go->get_future().share()] {
        began->set_value();
        went.wait();
    });
    began->get_future().wait();
    EXPECT_FALSE(pool.Stop(DeadlineAfter(SystemClock().Now(), std::chrono::milliseconds(-1))));
    EXPECT_FALSE(pool.Post([] {}));
    go->set_value();
}

// `milliseconds::max()` overflowed to a time that has passed.
TEST(ThreadPoolTest, StopForEverWaits) {
    ThreadPool pool({});
    std::atomic<bool> ended{false};
    pool.Post([&] { ended = true; });
    while (!ended) {
        std::this_thread::yield();
    }
    EXPECT_TRUE(pool.Stop(DeadlineAfter(SystemClock().Now(), std::chrono::milliseconds::max())));
}

TEST(ThreadPoolTest, ATimerForTheEndOfTimeDisturbsNobody) {
    ThreadPool pool({});
    const TimerId never = pool.PostAt(TimePoint::max(), [] { ADD_FAILURE(); });
    EXPECT_NE(never, 0U);
    std::promise<void> ran;
    pool.PostAt(SystemClock().Now(), [&] { ran.set_value(); });
    ran.get_future().wait();
    EXPECT_TRUE(pool.Cancel(never));
}

}  // namespace
}  // namespace qmq
