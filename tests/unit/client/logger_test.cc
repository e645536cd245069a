#include "sdk/client/src/base/logger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/manual_executor.h"

namespace qmq::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TimePoint Now() {
    return std::chrono::steady_clock::now();
}

class LoggerTest : public ::testing::Test {
protected:
    std::shared_ptr<Logger> Make(LogSink sink) {
        return std::make_shared<Logger>(std::move(sink), &time.executor);
    }
    LogSink Keep() {
        return [this](LogLevel, std::string_view line) { lines.emplace_back(line); };
    }

    testing::ManualTime time;
    std::vector<std::string> lines;
};

// "connected again" was logged under the lock of a link: a sink that sent waited for that lock, and
// the whole client for the sink.
TEST_F(LoggerTest, ALineMayComeFromUnderALockAndTheSinkIsNotCalledThere) {
    auto logger = Make(Keep());
    Mutex mutex;
    {
        MutexLock lock(mutex);
        logger->Info("under a lock");
        EXPECT_TRUE(lines.empty());
    }
    time.Settle();
    EXPECT_THAT(lines, ElementsAre("under a lock"));
}

TEST_F(LoggerTest, LinesComeInTheirOrderAlsoFromInsideTheSink) {
    std::shared_ptr<Logger> logger;
    logger = Make([&](LogLevel, std::string_view line) {
        lines.emplace_back(line);
        if (line == "1") {
            logger->Info("3");
        }
    });
    logger->Info("1");
    logger->Info("2");
    time.Settle();
    EXPECT_THAT(lines, ElementsAre("1", "2", "3"));
}

TEST_F(LoggerTest, ASinkThatThrowsLosesItsLineOnly) {
    auto logger = Make([&](LogLevel, std::string_view line) {
        if (line == "bad") {
            throw std::runtime_error("sink");
        }
        lines.emplace_back(line);
    });
    logger->Error("bad");
    logger->Error("good");
    time.Settle();
    EXPECT_THAT(lines, ElementsAre("good"));
}

// The sink was called after the client had gone: whoever captured a local logger was called on what
// was destroyed.
TEST_F(LoggerTest, AfterTheEndTheSinkIsCutOff) {
    auto logger = Make(Keep());
    logger->Info("before");
    EXPECT_TRUE(logger->Finish(Now()));
    EXPECT_THAT(lines, ElementsAre("before"));
    logger->Info("after");
    time.Settle();
    EXPECT_THAT(lines, ElementsAre("before"));
}

TEST_F(LoggerTest, WhatTheSinkCapturedGoesWithTheEnd) {
    auto captured = std::make_shared<int>(1);
    auto logger = Make([captured](LogLevel, std::string_view) {});
    EXPECT_TRUE(logger->Finish(Now()));
    EXPECT_EQ(captured.use_count(), 1);
}

TEST_F(LoggerTest, TheSinkMayEndItsOwnLog) {
    std::shared_ptr<Logger> logger;
    logger = Make([&](LogLevel, std::string_view line) {
        lines.emplace_back(line);
        EXPECT_TRUE(logger->Finish(Now() + std::chrono::hours(1)));
    });
    logger->Info("ends it");
    logger->Info("too late");
    time.Settle();
    EXPECT_THAT(lines, ElementsAre("ends it"));
}

TEST_F(LoggerTest, ASlowSinkBoundsTheMemoryAndIsToldWhatWasDropped) {
    EXPECT_EQ(Logger::kMaxWaiting, 1'024U);
    auto logger = Make(Keep());
    for (std::size_t i = 0; i < Logger::kMaxWaiting + 5; ++i) {
        logger->Info("line " + std::to_string(i));
    }
    time.Settle();
    ASSERT_THAT(lines, SizeIs(Logger::kMaxWaiting + 1));
    EXPECT_THAT(lines[0], ::testing::StartsWith("5 lines of the log were dropped"));
    EXPECT_EQ(lines[1], "line 0");
}

TEST_F(LoggerTest, ASinkThatBlocksHoldsUpNobodyAndTheEndOnlyUntilItsDeadline) {
    std::promise<void> go;
    std::promise<void> blocked;
    std::atomic<int> calls{0};
    auto logger = std::make_shared<Logger>(
        [&calls, &blocked, went = go.get_future().share()](LogLevel, std::string_view) {
            ++calls;
            blocked.set_value();
            went.wait();
        },
        nullptr);
    logger->Info("1");
    logger->Info("2");
    blocked.get_future().wait();
    EXPECT_FALSE(logger->Finish(Now() + std::chrono::milliseconds(1)));
    go.set_value();
    logger.reset();  // Waits for its thread.
    EXPECT_EQ(calls, 1);
}

TEST_F(LoggerTest, TheSinkRunsOnAThreadOfItsOwn) {
    std::promise<std::thread::id> ran_on;
    auto logger = std::make_shared<Logger>(
        [&](LogLevel, std::string_view) { ran_on.set_value(std::this_thread::get_id()); }, nullptr);
    logger->Info("1");
    EXPECT_NE(ran_on.get_future().get(), std::this_thread::get_id());
    EXPECT_TRUE(logger->Finish(TimePoint::max()));
}

TEST_F(LoggerTest, FromManyThreadsTheyComeOneAtATimeAndThoseOfOneThreadInTheirOrder) {
    constexpr int kThreads = 4;
    constexpr int kLines = 200;
    std::atomic<int> inside{0};
    bool together = false;
    std::vector<std::string> of_thread(kThreads);
    auto logger = std::make_shared<Logger>(
        [&](LogLevel, std::string_view line) {
            together = ++inside > 1 || together;
            of_thread[static_cast<std::size_t>(line[0] - '0')] += line.substr(1);
            --inside;
        },
        nullptr);
    std::string all_of_one;
    for (int i = 0; i < kLines; ++i) {
        all_of_one += " " + std::to_string(i);
    }
    std::vector<std::thread> threads;
    for (int number = 0; number < kThreads; ++number) {
        threads.emplace_back([&logger, number] {
            for (int i = 0; i < kLines; ++i) {
                logger->Info(std::to_string(number) + " " + std::to_string(i));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_TRUE(logger->Finish(TimePoint::max()));
    EXPECT_FALSE(together);
    EXPECT_THAT(of_thread, ::testing::Each(all_of_one));
}

// The text of an exception, which is somebody else's, may have any number of them.
// U+0080 to U+009F steer a terminal, too.
TEST_F(LoggerTest, NoControlCharacterOfAnotherGetsOut) {
    auto logger = Make(Keep());
    logger->Warning(
        "tags \xC2\x9B"
        "2J and \xC2\xA0 and \x1b[2J");
    time.Settle();
    ASSERT_THAT(lines, SizeIs(1));
    EXPECT_THAT(lines[0], ::testing::EndsWith("tags  2J and \xC2\xA0 and  [2J"));
}

TEST_F(LoggerTest, ATextOfSeveralLinesComesAsOne) {
    auto logger = Make(Keep());
    logger->Warning("the handler threw: no stock\nof 7\r\nin all");
    time.Settle();
    ASSERT_THAT(lines, SizeIs(1));
    EXPECT_EQ(lines[0].find_first_of("\r\n"), std::string::npos);
}

#ifdef QMQ_COUNT_LOCKS
TEST_F(LoggerTest, ASinkThatIsCalledUnderALockIsNoticed) {
    auto logger = Make(Keep());
    logger->Info("1");
    Mutex mutex;
    MutexLock lock(mutex);
    EXPECT_DEATH(time.Settle(), "the log sink is called under a lock of the SDK");
}
#endif

}  // namespace
}  // namespace qmq::internal
