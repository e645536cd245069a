#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qmq/client.h"

namespace qmq::bench {

/// Sends messages of 128 bytes with a property and a tag to `subjects` in turn, as fast as the
/// broker takes them, from a thread of its own. Failures are exceptions (std::runtime_error).
class Load {
public:
    Load(const std::string& uri, std::vector<std::string> subjects);
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    /// As `Abandon`.
    ~Load();

    /// Waits until `count` messages in all are persisted. Throws when one was not, or when nothing
    /// comes for a minute.
    void WaitPersisted(std::uint64_t count);
    std::uint64_t persisted() const { return persisted_.load(); }

    /// Stops sending and waits for what is under way. How many are persisted. Throws when one is
    /// not.
    std::uint64_t Finish();
    /// Stops without waiting: the server may be gone.
    void Abandon();

private:
    void Send();
    void OnReceipt(const SendReceipt& receipt);

    const std::vector<std::string> subjects_;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> persisted_{0};
    std::atomic<std::uint64_t> wanted_{UINT64_MAX};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string failure_;  // guarded by mutex_
    Client client_;
    Producer producer_;
    std::thread thread_;
};

}  // namespace qmq::bench
