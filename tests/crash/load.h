#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "qmq/client.h"

#include "tests/crash/filler.h"
#include "tests/support/audit.h"

namespace qmq::testing {

/// Sends at a steady rate from a thread of its own until it is told to stop.
class LoadProducer {
public:
    LoadProducer(const std::string& uri, int number, std::chrono::microseconds pause, Audit& audit);
    void Stop();

private:
    void Run();

    Audit& audit_;
    const std::string name_;
    const std::chrono::microseconds pause_;
    std::atomic<bool> stop_{false};
    Client client_;
    Producer producer_;
    std::thread thread_;
};

/// Sends large messages while the disk is full, and gives up soon: those that were refused for want
/// of room show that the server has met the full disk while it had work.
class Probe {
public:
    Probe(const std::string& uri, const Filler& filler, Audit& audit);
    void Stop();

    std::uint64_t refused_count() const { return refused_; }
    /// How many times full it was refused in.
    std::uint64_t episode_count() const;

private:
    void Run();
    void OnReceipt(std::uint64_t episode, const SendReceipt& receipt);

    const Filler& filler_;
    Audit& audit_;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> refused_{0};
    mutable std::mutex mutex_;
    std::set<std::uint64_t> episodes_;  // guarded by mutex_
    Client client_;
    Producer producer_;
    std::thread thread_;
};

}  // namespace qmq::testing
