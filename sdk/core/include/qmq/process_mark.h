#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "qmq/status.h"

namespace qmq {

/// Remembers the process in which it was made.
///
/// After `fork()` the child has a copy of the memory, but only the thread that called. A lock that
/// another thread held stays held, and what another thread was to do is never done. So whoever owns
/// threads or locks remembers where it was made, and touches nothing of its own in another process.
class ProcessMark {
public:
    /// Marks this process.
    ProcessMark();

    /// Whether this process is a child of the marked one, made by `fork()`. Costs one load, so it
    /// may be asked with every call. (Children that were made without the C library's `fork`, by a
    /// bare system call, are not noticed.)
    bool foreign() const { return generation_ != forks_.load(std::memory_order_relaxed); }
    /// What a call in a foreign process answers: kFailedPrecondition, with what to do. `what` is
    /// what was made: "the client".
    Status Refusal(std::string_view what) const;

private:
    static void OnForkedChild() { forks_.fetch_add(1, std::memory_order_relaxed); }

    /// How often this process is the child's child.
    static std::atomic<std::uint32_t> forks_;

    std::uint32_t generation_;
    int process_;
};

/// Never destroys `object`: for what came along through a `fork()` and must not be touched.
void KeepForEver(std::shared_ptr<const void> object);

}  // namespace qmq
