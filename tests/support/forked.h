#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "qmq/status.h"

// The allocator of AddressSanitizer (g++ 12, clang 14) knows nothing of fork(): what another thread
// had locked at that moment stays locked in the child, which may then hang at its first allocation.
#if defined(__SANITIZE_ADDRESS__)
#define QMQ_CHILD_MAY_NOT_ALLOCATE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QMQ_CHILD_MAY_NOT_ALLOCATE 1
#endif
#endif

/// First in each test whose child does more than exec() or _exit().
#if defined(QMQ_CHILD_MAY_NOT_ALLOCATE)
#define QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE() \
    GTEST_SKIP() << "a child by fork() may hang in this sanitizer's allocator"
#else
#define QMQ_SKIP_UNLESS_CHILD_MAY_ALLOCATE() static_cast<void>(0)
#endif

/// First in each test whose child starts threads: ThreadSanitizer ends such a child.
#if defined(__SANITIZE_THREAD__)
#define QMQ_SKIP_UNLESS_CHILD_MAY_START_THREADS() \
    GTEST_SKIP() << "ThreadSanitizer ends a child that starts threads"
#else
#define QMQ_SKIP_UNLESS_CHILD_MAY_START_THREADS() static_cast<void>(0)
#endif

namespace qmq::testing {

/// Ends a child after the destructors of what became static in the test, and before a sanitizer
/// looks for leaks: what threads of the parent held is none of the child's.
struct ChildExit {
    int code = -1;
    ~ChildExit() {
        if (code >= 0) {
            _exit(code);
        }
    }
};
inline ChildExit child_exit;

/// Runs `in_child` in a child by fork(), which leaves by exit() with what it returns. A child that
/// hangs is ended by a signal: then -1.
template <typename F>
int InChild(F&& in_child) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(30);
        child_exit.code = in_child();
        std::exit(child_exit.code);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Whether a call said that it was made in a child by fork(), and what to do.
inline bool IsForkRefusal(const Status& status) {
    return status.code() == StatusCode::kFailedPrecondition &&
           status.message().find("a child by fork()") != std::string_view::npos;
}

}  // namespace qmq::testing
