#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "qmq/client.h"

#include "tests/border/away_case.h"

namespace qmq::border {

/// Who sends as fast as it can, and counts what it is told.
class Application {
public:
    Application(const CaseOptions& options, Producer producer);
    ~Application();

    /// Two threads send until `StopSending`, with the producer's own timeout.
    void StartSending();
    void StopSending();
    /// Sends so many at most, on this thread, until the producer is full.
    void SendSome(std::uint64_t count, std::chrono::milliseconds timeout);

    struct Counts {
        std::uint64_t taken = 0;
        std::uint64_t refused = 0;
        std::uint64_t persisted = 0;
        std::uint64_t failed = 0;
        std::uint64_t unknown = 0;
        std::uint64_t dropped = 0;  ///< Callbacks that were destroyed, coroutines as well.
        std::uint64_t answered() const { return persisted + failed + unknown; }
    };
    Counts counts() const;
    /// What the application holds by itself.
    std::uint64_t own_bytes() const;

private:
    struct Books;
    class Called;
    class Coroutine;

    void Run(std::uint32_t seed);
    /// False: the producer was full.
    bool SendOne(Message&& message, std::chrono::milliseconds timeout);
    Coroutine Await(std::shared_ptr<Books> books, SendFuture future);
    void ReadFutures();
    Message Make(std::uint64_t number) const;

    const CaseOptions options_;
    Producer producer_;
    const std::shared_ptr<Books> books_;
    std::vector<std::string> subjects_;
    std::atomic<bool> stop_{false};
    std::vector<std::thread> senders_;

    std::mutex mutex_;
    std::deque<SendFuture> futures_;  // guarded by mutex_
    std::atomic<bool> reader_ends_{false};
    std::thread reader_;
};

}  // namespace qmq::border
