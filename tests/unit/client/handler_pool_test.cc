#include "sdk/client/src/base/handler_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/manual_executor.h"

namespace qmq::internal {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// Threads that run as many tasks as the test lets them.
class HandlerPoolTest : public ::testing::Test {
protected:
    std::shared_ptr<HandlerPool> Make(std::size_t most_threads) {
        return std::make_shared<HandlerPool>(
            threads_,
            [this](std::size_t count) {
                grown_.push_back(count);
                return count;
            },
            most_threads,
            time_.executor,
            time_.clock);
    }
    /// Tasks of one member, whose handlers hang: they have begun and do not end.
    void Hang(Executor& place, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_TRUE(place.Post([this] {
                ++hung_;
                threads_.RunAll();  // Whatever else the threads are given, on "another thread".
            }));
        }
    }
    Task Note(std::string name) {
        return [this, name = std::move(name)] { ran_.push_back(name); };
    }

    testing::ManualTime time_;
    testing::ManualExecutor threads_{time_.clock};
    std::vector<std::size_t> grown_;
    std::vector<std::string> ran_;
    std::size_t hung_ = 0;
};

TEST_F(HandlerPoolTest, RunsTasksInTheirOrder) {
    auto pool = Make(4);
    auto place = pool->Join(4);
    for (const char* name : {"1", "2", "3"}) {
        EXPECT_TRUE(place->Post(Note(name)));
    }
    threads_.RunAll();
    EXPECT_THAT(ran_, ElementsAre("1", "2", "3"));
}

TEST_F(HandlerPoolTest, BeginsWithFourThreadsAndNoMoreThanThereAreHandlers) {
    auto pool = Make(100);
    auto one = pool->Join(1);
    EXPECT_THAT(grown_, ElementsAre(1U));
    auto many = pool->Join(32);
    EXPECT_THAT(grown_, ElementsAre(1U, 4U));
}

// `parallelism` 32 was cut to the four threads that there were.
TEST_F(HandlerPoolTest, ThreadsAreStartedForWhatWaitsWhileNoneBegins) {
    auto pool = Make(100);
    auto place = pool->Join(32);
    for (int i = 0; i < 32; ++i) {
        EXPECT_TRUE(place->Post(Note("x")));
    }
    for (int i = 0; i < 4; ++i) {
        threads_.RunOne();  // Four have begun; pretend that they hang.
    }
    ran_.clear();
    time_.Advance(milliseconds(6));  // Some have begun since the post.
    time_.Advance(milliseconds(6));
    ASSERT_FALSE(grown_.empty());
    EXPECT_GE(grown_.back(), 28U);
    EXPECT_LE(grown_.back(), 32U);
}

TEST_F(HandlerPoolTest, NoThreadIsStartedWhileTasksAreBegunSoon) {
    auto pool = Make(100);
    auto place = pool->Join(32);
    grown_.clear();
    for (int i = 0; i < 1'000; ++i) {
        EXPECT_TRUE(place->Post(Note("x")));
        EXPECT_TRUE(place->Post(Note("x")));
        threads_.RunOne();
        threads_.RunOne();
        time_.Advance(milliseconds(1));
    }
    EXPECT_THAT(grown_, IsEmpty());
}

TEST_F(HandlerPoolTest, ThereAreNeverMoreThreadsThanAllowed) {
    auto pool = Make(6);
    auto place = pool->Join(32);
    for (int i = 0; i < 32; ++i) {
        EXPECT_TRUE(place->Post(Note("x")));
    }
    time_.Advance(milliseconds(100));
    EXPECT_EQ(grown_.back(), 6U);
    EXPECT_EQ(threads_.task_count(), 6U);
    threads_.RunAll();
    EXPECT_THAT(ran_, SizeIs(32));
}

// Four hung handlers of one subscription stopped every other one.
TEST_F(HandlerPoolTest, AThreadIsKeptForEachMemberThatUsesNone) {
    auto pool = Make(4);
    auto hanging = pool->Join(4);
    auto second = pool->Join(4);
    auto third = pool->Join(4);
    Hang(*hanging, 4);
    EXPECT_EQ(threads_.task_count(), 2U);
    std::vector<std::size_t> hung;
    for (int i = 0; i < 2; ++i) {
        EXPECT_TRUE(second->Post([this, &hung] {
            ran_.emplace_back("second");
            hung.push_back(hung_);
        }));
    }
    EXPECT_TRUE(third->Post(Note("third")));
    EXPECT_EQ(threads_.task_count(), 4U);  // Of the second only one.
    threads_.RunOne();
    EXPECT_THAT(ran_, ElementsAre("second", "third", "second"));
    EXPECT_THAT(hung, ElementsAre(2U, 2U));
}

TEST_F(HandlerPoolTest, ThereAreAsManyThreadsAsMembersWhateverIsAllowed) {
    auto pool = Make(2);
    std::vector<std::shared_ptr<Executor>> places;
    for (int i = 0; i < 5; ++i) {
        places.push_back(pool->Join(1));
    }
    for (const auto& place : places) {
        EXPECT_TRUE(place->Post(Note("x")));
    }
    EXPECT_EQ(threads_.task_count(), 5U);
    time_.Advance(milliseconds(100));
    EXPECT_EQ(grown_.back(), 5U);
}

TEST_F(HandlerPoolTest, AMemberThatLeavesGivesItsThreadToTheOthers) {
    auto pool = Make(2);
    auto first = pool->Join(2);
    auto second = pool->Join(2);
    EXPECT_TRUE(first->Post(Note("1")));
    EXPECT_TRUE(first->Post(Note("2")));
    EXPECT_EQ(threads_.task_count(), 1U);
    second.reset();
    EXPECT_EQ(threads_.task_count(), 2U);
    threads_.RunAll();
    EXPECT_THAT(ran_, ElementsAre("1", "2"));
}

TEST_F(HandlerPoolTest, AfterStopItRefusesAndRunsNothing) {
    auto pool = Make(1);
    auto place = pool->Join(1);
    auto held = std::make_shared<int>(7);
    EXPECT_TRUE(place->Post([held] {}));
    EXPECT_TRUE(place->Post([held] {}));
    pool->Stop();
    EXPECT_EQ(held.use_count(), 1);
    EXPECT_FALSE(place->Post(Note("x")));
    threads_.RunAll();
    EXPECT_THAT(ran_, IsEmpty());
}

}  // namespace
}  // namespace qmq::internal
