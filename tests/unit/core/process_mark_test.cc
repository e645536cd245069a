#include "qmq/process_mark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace qmq {
namespace {

/// What `in_child` returns in a child by fork().
template <typename F>
int InChild(F&& in_child) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(in_child());
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST(ProcessMarkTest, AChildByForkIsForeignAndItsOwnMarksAreNot) {
    const ProcessMark mark;
    EXPECT_FALSE(mark.foreign());
    const int seen = InChild([&] {
        const ProcessMark own;
        const int in_child = (mark.foreign() ? 1 : 0) + (own.foreign() ? 0 : 2);
        const int in_grandchild = InChild([&] { return own.foreign() && mark.foreign() ? 1 : 0; });
        return in_child + 4 * in_grandchild;
    });
    EXPECT_EQ(seen, 7);
    EXPECT_FALSE(mark.foreign());
}

TEST(ProcessMarkTest, TheRefusalSaysWhatToDo) {
    const ProcessMark mark;
    const Status refusal = mark.Refusal("the client");
    EXPECT_EQ(refusal.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refusal.message()),
                ::testing::AllOf(::testing::HasSubstr("the client was made in process " +
                                                      std::to_string(getpid())),
                                 ::testing::HasSubstr("in the child, after fork()")));
}

TEST(ProcessMarkTest, WhatIsKeptIsNeverDestroyed) {
    const auto destroyed = std::make_shared<bool>(false);
    struct Kept {
        std::shared_ptr<bool> destroyed;
        ~Kept() { *destroyed = true; }
    };
    auto kept = std::make_shared<Kept>(Kept{destroyed});
    *destroyed = false;
    const std::weak_ptr<Kept> weak = kept;
    KeepForEver(std::move(kept));
    EXPECT_FALSE(weak.expired());
    EXPECT_FALSE(*destroyed);
}

}  // namespace
}  // namespace qmq
