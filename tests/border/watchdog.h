#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace qmq::border {

/// Ends a process that hangs, with the stacks of all of its threads.
class Watchdog {
public:
    /// `last_words` says what the process has found so far.
    explicit Watchdog(std::function<void(const std::string& hang)> last_words);
    ~Watchdog();

    /// What goes on now, and how long it may take.
    void Expect(std::string what, std::chrono::seconds at_most);

private:
    void Watch();

    const std::function<void(const std::string&)> last_words_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::string what_;                             // guarded by mutex_
    std::chrono::steady_clock::time_point until_;  // guarded by mutex_
    bool stopped_ = false;                         // guarded by mutex_
    std::thread thread_;
};

/// Writes the stacks of all threads to standard error: by gdb where there is one.
void DumpStacks();

}  // namespace qmq::border
