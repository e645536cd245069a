#pragma once

#include <string_view>

#include "qmq/client.h"

namespace qmq::internal {

/// Hands lines to the application's sink, and survives what that throws. Thread-safe as the sink.
class Logger {
public:
    explicit Logger(LogSink sink) : sink_(std::move(sink)) {}

    void Log(LogLevel level, std::string_view line) const noexcept;
    void Info(std::string_view line) const noexcept { Log(LogLevel::kInfo, line); }
    void Warning(std::string_view line) const noexcept { Log(LogLevel::kWarning, line); }
    void Error(std::string_view line) const noexcept { Log(LogLevel::kError, line); }

private:
    LogSink sink_;
};

}  // namespace qmq::internal
