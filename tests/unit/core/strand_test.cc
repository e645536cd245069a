#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "qmq/executor.h"

namespace qmq {
namespace {

using testing::ElementsAre;

TEST(StrandTest, AnIdleInlineStrandRunsTheTaskInsideTheCall) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::thread::id ran_on;
    strand.Post([&] { ran_on = std::this_thread::get_id(); });
    EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(StrandTest, WhatATaskPostsRunsAfterItAndNotInside) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::vector<int> order;
    strand.Post([&] {
        strand.Post([&] { order.push_back(2); });
        order.push_back(1);
    });
    EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(StrandTest, TheEndOfARoundComesAfterAllThatHadGathered) {
    ThreadPool pool({});
    std::vector<int> order;
    Strand* self = nullptr;
    Strand strand(pool, Strand::Mode::kInline, [&] { order.push_back(0); });
    self = &strand;
    strand.Post([&] {
        order.push_back(1);
        self->Post([&] { order.push_back(2); });
        self->Post([&] { order.push_back(3); });
    });
    EXPECT_THAT(order, ElementsAre(1, 0, 2, 3, 0));
}

TEST(StrandTest, TasksOfManyThreadsNeverOverlapAndNoneIsLost) {
    ThreadPool pool({.threads = 2});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    constexpr int kThreads = 4;
    constexpr int kTasks = 5'000;
    int inside = 0;  // Only the strand guards it: a race here is a bug of the strand.
    int ran = 0;
    std::promise<void> all;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back([&] {
            for (int task = 0; task < kTasks; ++task) {
                strand.Post([&] {
                    EXPECT_EQ(++inside, 1);
                    --inside;
                    if (++ran == kThreads * kTasks) {
                        all.set_value();
                    }
                });
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    all.get_future().wait();
    EXPECT_EQ(ran, kThreads * kTasks);
}

TEST(StrandTest, ALongRunIsHandedToTheExecutor) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::promise<std::thread::id> last;
    int left = 1'000;
    std::function<void()> again = [&] {
        if (--left == 0) {
            last.set_value(std::this_thread::get_id());
        } else {
            strand.Post([&] { again(); });
        }
    };
    strand.Post([&] { again(); });
    EXPECT_NE(last.get_future().get(), std::this_thread::get_id());
}

TEST(StrandTest, PostLaterDoesNotRunInsideTheCall) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::promise<std::thread::id> ran_on;
    strand.PostLater([&] { ran_on.set_value(std::this_thread::get_id()); });
    EXPECT_NE(ran_on.get_future().get(), std::this_thread::get_id());
}

TEST(StrandTest, ATimerRunsOnTheStrand) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::promise<void> ran;
    EXPECT_NE(strand.PostAt(SystemClock().Now(), [&] { ran.set_value(); }), 0U);
    ran.get_future().wait();
}

TEST(StrandTest, ACancelledTimerNeverRuns) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    const TimerId timer =
        strand.PostAt(SystemClock().Now() + std::chrono::hours(1), [] { FAIL(); });
    EXPECT_TRUE(strand.Cancel(timer));
    EXPECT_FALSE(strand.Cancel(timer));
}

TEST(StrandTest, ATimerThatIsDueButWaitsBehindATaskCanStillBeCancelled) {
    ThreadPool pool({});
    Strand strand(pool, Strand::Mode::kInline, nullptr);
    std::promise<void> due;
    std::promise<bool> cancelled;
    strand.Post([&] {
        const TimerId timer = strand.PostAt(SystemClock().Now(), [] { FAIL(); });
        // The pool has one thread and runs timers in order: once this ran, the one before is in the
        // strand's queue.
        pool.PostAt(SystemClock().Now(), [&] { due.set_value(); });
        due.get_future().wait();
        cancelled.set_value(strand.Cancel(timer));
    });
    EXPECT_TRUE(cancelled.get_future().get());
}

// The owner of what a round works on destroyed it while another thread was in that round.
TEST(StrandTest, ItsEndWaitsForTheRoundOfAnotherThread) {
    ThreadPool pool({});
    std::promise<void> began;
    std::promise<void> go;
    std::atomic<bool> ended{false};
    auto strand = std::make_unique<Strand>(pool, Strand::Mode::kInline, [&ended] { ended = true; });
    std::thread runner([&] {
        strand->Post([&] {
            began.set_value();
            go.get_future().wait();
        });
    });
    began.get_future().wait();
    std::future<bool> gone = std::async(std::launch::async, [&] {
        strand.reset();
        return ended.load();
    });
    EXPECT_EQ(gone.wait_for(std::chrono::milliseconds(30)), std::future_status::timeout);
    go.set_value();
    EXPECT_TRUE(gone.get());
    runner.join();
}

TEST(StrandTest, ATaskThatDestroysItIsTheLastThatRuns) {
    ThreadPool pool({});
    int rounds = 0;
    int tasks = 0;
    auto strand = std::make_unique<Strand>(pool, Strand::Mode::kInline, [&rounds] { ++rounds; });
    Strand& raw = *strand;
    raw.Post([&] {
        raw.Post([&tasks] { ++tasks; });
        strand.reset();
    });
    EXPECT_EQ(rounds, 0);
    EXPECT_EQ(tasks, 0);
}

}  // namespace
}  // namespace qmq
