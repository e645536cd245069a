// The answer that a coroutine waits for, by itself: whoever gives it, drops it or waits no longer.

#include "qmq/awaitable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/manual_executor.h"
#include "tests/support/owned_coroutine.h"

namespace qmq {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Owned;

class AwaitableTest : public ::testing::Test {
protected:
    /// An operation that the test answers by `answer`.
    Awaitable<Status> Begin() {
        return Awaitable<Status>::Of([this](auto done) { answer = std::move(done); });
    }
    Owned Wait(Awaitable<Status> awaited) { Note(co_await std::move(awaited)); }
    Owned WaitOn(Awaitable<Status> awaited, Executor* executor) {
        Note(co_await std::move(awaited).On(*executor));
    }
    void Note(const Status& status) {
        seen.push_back(status.code());
        resumed_on = std::this_thread::get_id();
    }
    /// Calls `task` on another thread. Returns which one that was.
    template <typename Call>
    static std::thread::id Elsewhere(Call task) {
        std::thread thread(std::move(task));
        const std::thread::id id = thread.get_id();
        thread.join();
        return id;
    }

    testing::ManualClock clock;
    UniqueFunction<void(Status)> answer;
    std::vector<StatusCode> seen;
    std::thread::id resumed_on;
};

TEST_F(AwaitableTest, TheAnswerResumesWhoWaitsOnce) {
    const Owned one = Wait(Begin());
    EXPECT_FALSE(one.done());
    const std::thread::id answered_on = Elsewhere([this] { answer(Status::NotFound("gone")); });
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kNotFound));
    EXPECT_EQ(resumed_on, answered_on);
    answer = nullptr;
    EXPECT_THAT(seen, ElementsAre(StatusCode::kNotFound));
}

TEST_F(AwaitableTest, WithAnAnswerThatIsThereTheCoroutineGoesOn) {
    Awaitable<Status> awaited = Begin();
    answer(Status::NotFound("gone"));
    const Owned one = Wait(std::move(awaited));
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kNotFound));
}

TEST_F(AwaitableTest, WithAnAnswerThatIsThereItNeedsNoTurnOnItsExecutor) {
    testing::ManualExecutor mine(clock);
    Awaitable<Status> awaited = Begin();
    answer(Status::Ok());
    const Owned one = WaitOn(std::move(awaited), &mine);
    EXPECT_TRUE(one.done());
    EXPECT_EQ(mine.task_count(), 0U);
}

TEST_F(AwaitableTest, WhereNothingBeginsTheReasonIsTheAnswer) {
    const Owned one = Wait(Awaitable<Status>::Of([](auto done) {
        (void)done;  // Destroyed uncalled, which alone would say that the client has ended.
        return Status::InvalidArgument("no");
    }));
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kInvalidArgument));
}

TEST_F(AwaitableTest, WhereSomethingBeginsItsStatusIsNoAnswer) {
    const Owned one = Wait(Awaitable<Status>::Of([this](auto done) {
        answer = std::move(done);
        return Status::Ok();
    }));
    EXPECT_FALSE(one.done());
    answer(Status::NotFound("gone"));
    EXPECT_THAT(seen, ElementsAre(StatusCode::kNotFound));
}

TEST_F(AwaitableTest, AnAnswerThatIsDroppedSaysThatTheClientHasEnded) {
    const Owned one = Wait(Begin());
    const std::thread::id dropped_on = Elsewhere([this] { answer = nullptr; });
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kCancelled));
    EXPECT_EQ(resumed_on, dropped_on);
}

TEST_F(AwaitableTest, WhatNobodyAwaitsIsNotKept) {
    using Held = Result<std::shared_ptr<int>>;
    UniqueFunction<void(Held)> give;
    auto value = std::make_shared<int>(7);
    const std::weak_ptr<int> left = value;
    (void)Awaitable<Held>::Of([&give](auto done) { give = std::move(done); });
    give(std::move(value));
    EXPECT_TRUE(left.expired());
}

TEST_F(AwaitableTest, ACoroutineThatIsDestroyedIsNotResumed) {
    testing::ManualExecutor mine(clock);
    Owned one = Wait(Begin());
    one.Destroy();
    answer(Status::Ok());
    Owned other = WaitOn(Begin(), &mine);
    answer(Status::Ok());
    other.Destroy();  // Between the answer and its turn.
    mine.RunAll();
    EXPECT_THAT(seen, IsEmpty());
}

TEST_F(AwaitableTest, ItsExecutorResumesIt) {
    testing::ManualExecutor mine(clock);
    const Owned one = WaitOn(Begin(), &mine);
    (void)Elsewhere([this] { answer(Status::Ok()); });
    EXPECT_FALSE(one.done());
    const std::thread::id ran_on = Elsewhere([&mine] { mine.RunAll(); });
    EXPECT_TRUE(one.done());
    EXPECT_EQ(resumed_on, ran_on);
}

TEST_F(AwaitableTest, WhereItsExecutorRefusesWhoAnswersResumesIt) {
    class Refusing final : public Executor {
        bool Post(Task) override { return false; }
        TimerId PostAt(TimePoint, Task) override { return 0; }
        bool Cancel(TimerId) override { return false; }
    };
    Refusing refusing;
    const Owned one = WaitOn(Begin(), &refusing);
    const std::thread::id answered_on = Elsewhere([this] { answer(Status::Ok()); });
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kOk));
    EXPECT_EQ(resumed_on, answered_on);
}

TEST_F(AwaitableTest, WhereItsExecutorDropsTheTaskWhoDropsItResumesIt) {
    std::optional<testing::ManualExecutor> mine(std::in_place, clock);
    const Owned one = WaitOn(Begin(), &*mine);
    answer(Status::Ok());
    EXPECT_FALSE(one.done());
    const std::thread::id dropped_on = Elsewhere([&mine] { mine.reset(); });
    EXPECT_TRUE(one.done());
    EXPECT_THAT(seen, ElementsAre(StatusCode::kOk));
    EXPECT_EQ(resumed_on, dropped_on);
}

}  // namespace
}  // namespace qmq
