#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/inproc.h"

namespace qmq {
namespace {

using testing::HasSubstr;

TEST(InprocOptionsTest, EveryProblemIsNamedAtOnce) {
    const Status status = Validate(InprocOptions{
        .shards = 0, .durability = Durability::kReplicated, .memory_bytes = 1ULL << 50});
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("shards is 0, range [1, 64]"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("durability must be"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("memory_bytes is"));
    EXPECT_TRUE(Validate(InprocOptions{}).ok());
}

TEST(InprocOptionsTest, MemoryMustBeEnoughForEachShard) {
    EXPECT_FALSE(Validate(InprocOptions{.shards = 4, .memory_bytes = 63U << 20}).ok());
    EXPECT_TRUE(Validate(InprocOptions{.shards = 4, .memory_bytes = 64U << 20}).ok());
}

TEST(InprocUriTest, WhatIsNeitherMemoryNorADirectoryIsRefused) {
    ThreadPool timers{{}};
    for (const char* uri : {"inproc",
                            "inproc:/dir",
                            "inproc://dir",
                            "inproc://",
                            "inproc:///",
                            "inproc:dir",
                            "other:"}) {
        auto made = InprocTransport()->Make(uri, {SystemClock(), timers, "client"});
        EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument) << uri;
        EXPECT_THAT(std::string(made.status().message()), HasSubstr(uri));
    }
}

}  // namespace
}  // namespace qmq
