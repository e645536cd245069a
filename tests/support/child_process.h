#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "qmq/status.h"

namespace qmq::testing {

/// A program that the test started, with its standard output read by lines. Killed and reaped on
/// destruction.
class ChildProcess {
public:
    /// Starts `arguments[0]`. Its standard error is ours unless `error_file` is given.
    static Result<ChildProcess> Start(const std::vector<std::string>& arguments,
                                      const std::string& error_file = {});

    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&& other) noexcept;
    ~ChildProcess();

    pid_t pid() const { return pid_; }

    /// The next line that contains `text`. kDeadlineExceeded after `timeout`, kUnavailable when the
    /// output has ended; with what was printed.
    Result<std::string> WaitForLine(const std::string& text, std::chrono::milliseconds timeout);

    /// Everything printed until the output ends.
    std::string ReadAll();

    void Signal(int signal) const;
    /// Waits for the end: the exit code, or 128 + the signal that ended it.
    int Wait();
    /// kill -9, and waits.
    void Kill();

private:
    ChildProcess(pid_t pid, int output) : pid_(pid), output_(output) {}
    /// False at the end of the output or when nothing came in time.
    bool ReadMore(std::chrono::steady_clock::time_point deadline);

    pid_t pid_ = -1;
    int output_ = -1;
    std::string unread_;
    std::string printed_;
    bool ended_ = false;
};

}  // namespace qmq::testing
