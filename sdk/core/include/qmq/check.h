#pragma once

#include <string_view>

namespace qmq::internal {

/// Prints `expression`, `file`:`line` and `detail` to standard error and aborts.
[[noreturn]] void CheckFailed(const char* expression,
                              const char* file,
                              int line,
                              std::string_view detail);

}  // namespace qmq::internal

/// Ends the process, in release builds too, when an invariant of ours is broken, or when there is
/// nothing that could answer: a handle is used that is empty. Never for bytes that came from a peer
/// or a disk, nor for what a caller passed: those get a `Status`.
#define QMQ_CHECK(condition, detail)                                                \
    do {                                                                            \
        if (!(condition)) [[unlikely]]                                              \
            ::qmq::internal::CheckFailed(#condition, __FILE__, __LINE__, (detail)); \
    } while (false)
