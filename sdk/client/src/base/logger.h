#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "qmq/executor.h"
#include "qmq/log.h"

#include "sdk/client/src/base/mutex.h"

namespace qmq::internal {

/// The client's log: takes lines from any thread, also under a lock, and hands them to the
/// application's sink one after another. The sink runs where nothing else waits for it, so it may
/// send, wait, block or throw: on a thread that begins with the first line, or on the caller's
/// executor. Thread-safe.
class Logger final : public std::enable_shared_from_this<Logger> {
public:
    /// With an empty `sink` warnings and errors go to standard error. `executor` is the caller's;
    /// null: a thread of its own.
    Logger(LogSink sink, Executor* executor);
    ~Logger();
    Logger(const Logger&) = delete;
    Logger& operator=(const Logger&) = delete;

    /// Takes a line; of a text of several lines it makes one. When the sink is so slow that
    /// `kMaxWaiting` lines wait, the line is dropped and counted; the sink is told how many, before
    /// the next line that it gets.
    void Log(LogLevel level, std::string_view line) noexcept;
    void Info(std::string_view line) noexcept { Log(LogLevel::kInfo, line); }
    void Warning(std::string_view line) noexcept { Log(LogLevel::kWarning, line); }
    void Error(std::string_view line) noexcept { Log(LogLevel::kError, line); }

    /// Hands over what waits, until `deadline`; afterwards the sink is never called again, and the
    /// thread has ended, or ends when the sink returns. Called from inside the sink it does not
    /// wait. False when the sink has not returned.
    bool Finish(TimePoint deadline);

    static constexpr std::size_t kMaxWaiting = 1'024;

private:
    struct Line {
        LogLevel level;
        std::string text;
    };

    void Schedule() QMQ_REQUIRES(mutex_);
    /// The oldest line that waits, or first how many were dropped.
    Line NextLine() QMQ_REQUIRES(mutex_);
    void Drain() QMQ_EXCLUDES(mutex_);
    void HandOver(const Line& line) noexcept QMQ_EXCLUDES(mutex_);

    const bool to_stderr_;
    Executor* const executor_;
    LogSink sink_;  // Of whoever drains; let go by the one who ends it.

    Mutex mutex_;
    CondVar changed_;
    std::unique_ptr<ThreadPool> own_ QMQ_GUARDED_BY(mutex_);
    std::deque<Line> lines_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t dropped_ QMQ_GUARDED_BY(mutex_) = 0;
    bool scheduled_ QMQ_GUARDED_BY(mutex_) = false;
    bool draining_ QMQ_GUARDED_BY(mutex_) = false;
    bool finished_ QMQ_GUARDED_BY(mutex_) = false;
};

}  // namespace qmq::internal
