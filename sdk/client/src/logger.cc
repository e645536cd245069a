#include "sdk/client/src/logger.h"

#include <cstdio>
#include <string>

namespace qmq::internal {

void Logger::Log(LogLevel level, std::string_view line) const noexcept {
    try {
        if (sink_) {
            sink_(level, line);
            return;
        }
        if (level >= LogLevel::kWarning) {
            const std::string text =
                std::string(level == LogLevel::kError ? "qmq: error: " : "qmq: warning: ") +
                std::string(line) + "\n";
            std::fputs(text.c_str(), stderr);
        }
    } catch (...) {
        // A sink that throws loses its line; nothing else may suffer.
    }
}

}  // namespace qmq::internal
