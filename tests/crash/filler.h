#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/child_process.h"

namespace qmq::testing {

/// The life of the process that fills the disk of `directory` and frees it again, at random, until
/// it is killed. It says "full" and "free" on standard output. Its exit code.
int RunFillerProcess(const std::string& directory, std::uint64_t seed);

/// Such a process, and what it says.
class Filler {
public:
    Filler(std::string program, std::string directory, std::uint64_t seed);
    ~Filler();
    Filler(const Filler&) = delete;
    Filler& operator=(const Filler&) = delete;

    void Start();
    /// Kills it and frees what it took.
    void Stop();

    /// Odd while the disk is full; another number each time.
    std::uint64_t episode() const { return episode_; }
    static bool IsFull(std::uint64_t episode) { return episode % 2 == 1; }

private:
    void Listen();

    const std::string program_;
    const std::string directory_;
    std::uint64_t seed_;
    std::atomic<std::uint64_t> episode_{0};
    std::optional<ChildProcess> child_;
    std::thread thread_;
};

}  // namespace qmq::testing
