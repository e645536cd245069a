#include "sdk/client/src/base/callback_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/manual_executor.h"

namespace qmq::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CallbackQueueTest : public ::testing::Test {
protected:
    CallbackQueueTest() {
        queue->SetOwner(owner, [this] { ++drained; });
    }

    TimePoint Now() { return std::chrono::steady_clock::now(); }
    Task Append(int number) {
        return [this, number] { ran.push_back(number); };
    }
    /// A task of several callbacks, as an answered batch is one.
    Task AppendMany(int first, int count) {
        return [this, first, count] {
            for (int i = first; i < first + count; ++i) {
                queue->RunUserCode([this, i] { ran.push_back(i); });
            }
        };
    }

    testing::ManualTime time;
    std::vector<std::string> lines;
    std::shared_ptr<Logger> logger = std::make_shared<Logger>(
        [this](LogLevel, std::string_view line) { lines.emplace_back(line); }, &time.executor);
    std::shared_ptr<int> owner = std::make_shared<int>(0);
    int client = 0;
    std::shared_ptr<CallbackQueue> queue = std::make_shared<CallbackQueue>(
        &client, time.executor, time.executor, time.clock, *logger, false);
    std::vector<int> ran;
    int drained = 0;
};

TEST_F(CallbackQueueTest, RunsThemInOrderAndCountsWhatItOwes) {
    queue->Post(Append(1));
    queue->PostMany(AppendMany(2, 3), 3);
    EXPECT_EQ(queue->owed(), 4U);
    time.Settle();
    EXPECT_THAT(ran, ElementsAre(1, 2, 3, 4));
    EXPECT_EQ(queue->owed(), 0U);
    EXPECT_EQ(drained, 1);
}

// Shutdown dropped 5 million callbacks, told of tasks, not of callbacks, and reported "drained".
TEST_F(CallbackQueueTest, TheEndTellsHowManyAreNeverCalled) {
    queue->Post(Append(1));
    queue->PostMany(AppendMany(2, 3), 3);
    // Nothing runs the executor, so the deadline comes first.
    const CallbackQueue::End end = queue->Finish(Now());
    EXPECT_EQ(end.dropped, 4U);
    EXPECT_FALSE(end.stuck);  // None has begun.
    time.Settle();
    EXPECT_TRUE(ran.empty());
    EXPECT_THAT(lines, ElementsAre(HasSubstr("4 callbacks were owed at the deadline")));
}

// A callback between two others of its batch: the first ran, this one is inside, the last is owed.
TEST_F(CallbackQueueTest, WhatABatchHasNotBegunIsDroppedAndCountedOneByOne) {
    CallbackQueue::End end;
    queue->PostMany(
        [&] {
            queue->RunUserCode([&] { ran.push_back(1); });
            queue->RunUserCode([&] {
                ran.push_back(2);
                end = queue->Finish(Now());
            });
            queue->RunUserCode([&] { ran.push_back(3); });
        },
        3);
    time.Settle();
    EXPECT_THAT(ran, ElementsAre(1, 2));
    EXPECT_EQ(end.dropped, 1U);
}

TEST_F(CallbackQueueTest, FinishInsideACallbackRunsTheRestItself) {
    CallbackQueue::End end;
    queue->Post([&] { end = queue->Finish(Now() + std::chrono::hours(1)); });
    queue->Post(Append(1));
    queue->Post(Append(2));
    time.Settle();
    EXPECT_THAT(ran, ElementsAre(1, 2));
    EXPECT_EQ(end.dropped, 0U);
}

// What stood behind it in its own batch was dropped, though there was time.
TEST_F(CallbackQueueTest, FinishInsideACallbackRunsWhatStandsBehindItInItsBatch) {
    CallbackQueue::End end;
    int next = 1;
    queue->PostMany(
        [&] {
            while (next <= 3) {
                queue->RunUserCode([&, number = next++] {
                    if (number == 1) {
                        end = queue->Finish(Now() + std::chrono::hours(1));
                    }
                    ran.push_back(number);
                });
            }
        },
        3);
    queue->Post(Append(4));
    time.Settle();
    EXPECT_THAT(ran, ElementsAre(2, 3, 4, 1));
    EXPECT_EQ(end.dropped, 0U);
}

// "Called from a callback" had no bound: whoever shut down in one ran all others, however many.
TEST_F(CallbackQueueTest, FinishInsideACallbackEndsAtItsDeadline) {
    CallbackQueue::End end;
    queue->Post([&] { end = queue->Finish(Now() - std::chrono::seconds(1)); });
    queue->Post(Append(1));
    time.Settle();
    EXPECT_TRUE(ran.empty());
    EXPECT_EQ(end.dropped, 1U);
}

TEST_F(CallbackQueueTest, NothingBeginsAfterTheEnd) {
    (void)queue->Finish(Now());
    queue->Post(Append(1));
    queue->RunUserCode([&] { ran.push_back(2); });
    time.Settle();
    EXPECT_TRUE(ran.empty());
}

// An answer on its way when the client ended was destroyed without a word.
TEST_F(CallbackQueueTest, WhatComesAfterTheEndIsCounted) {
    (void)queue->Finish(Now());
    queue->Post(Append(1));
    queue->PostMany(AppendMany(2, 3), 3);
    queue->PostResumption([] {});
    EXPECT_EQ(queue->late(), 4U);
    EXPECT_EQ(queue->owed(), 0U);
}

// A coroutine is resumed by whoever destroys its task, so nothing of it is dropped.
TEST_F(CallbackQueueTest, AResumptionIsNotCounted) {
    queue->PostResumption(Append(1));
    EXPECT_EQ(queue->owed(), 0U);
    time.Settle();
    queue->PostResumption(Append(2));
    EXPECT_EQ(queue->Finish(Now()).dropped, 0U);
    EXPECT_THAT(ran, ElementsAre(1));
}

TEST_F(CallbackQueueTest, ItIsToldWhetherACallbackBegan) {
    EXPECT_TRUE(queue->RunUserCode([] { throw 7; }));
    queue->Drop();
    EXPECT_FALSE(queue->RunUserCode([] {}));
}

TEST_F(CallbackQueueTest, WhatOneThrowsTouchesNoOther) {
    queue->Post([] { throw std::runtime_error("first"); });
    queue->Post([] { throw 7; });
    queue->Post(Append(3));
    time.Settle();
    EXPECT_THAT(ran, ElementsAre(3));
    EXPECT_THAT(lines,
                ElementsAre("a callback threw: first",
                            "a callback threw: something that is no std::exception"));
}

// The executor began as well: two callbacks ran at once, and one still ran after the end.
TEST_F(CallbackQueueTest, WhatTheEndRunsItselfTheExecutorDoesNotRunBesideIt) {
    const auto given = std::make_shared<CallbackQueue>(
        &client, time.executor, time.executor, time.clock, *logger, true);
    given->SetOwner(owner, [] {});
    given->Post([this] {
        std::thread([this] { time.Settle(); }).join();
        ran.push_back(1);
    });
    given->Post(Append(2));
    EXPECT_EQ(given->Finish(Now() + std::chrono::seconds(20)).dropped, 0U);
    EXPECT_THAT(ran, ElementsAre(1, 2));
}

#ifdef QMQ_COUNT_LOCKS
TEST_F(CallbackQueueTest, ACallbackUnderALockIsNoticed) {
    Mutex mutex;
    MutexLock lock(mutex);
    EXPECT_DEATH(queue->RunUserCode([] {}), "a callback is called under a lock of the SDK");
}
#endif

}  // namespace
}  // namespace qmq::internal
