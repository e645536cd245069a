#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "qmq/clock.h"

namespace qmq::testing {

/// Does what the server has to wait for, on the same disk and the same machine: it appends a little
/// and syncs it, again and again. While that takes long something is broken, and it is not the
/// server.
class Witness {
public:
    static constexpr std::chrono::milliseconds kStall{250};

    /// `on_stall` is told, on a thread of its own, from when until when each stall lasted.
    Witness(const std::string& path, std::function<void(TimePoint, TimePoint)> on_stall);
    ~Witness();
    Witness(const Witness&) = delete;
    Witness& operator=(const Witness&) = delete;

    std::uint64_t stall_count() const { return stalls_; }
    std::chrono::milliseconds longest() const { return std::chrono::milliseconds(longest_ms_); }

private:
    void Run();

    const std::function<void(TimePoint, TimePoint)> on_stall_;
    const int file_;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> stalls_{0};
    std::atomic<std::int64_t> longest_ms_{0};
    std::thread thread_;
};

}  // namespace qmq::testing
