#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace qmq {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

/// Takes what the client has to say, one line a call, in order, without secrets.
///
/// It is called on a thread of the log's own, one call at a time, and under no lock: it may send,
/// wait, block or throw (then its line is lost). While it blocks 1,024 lines wait; what comes then
/// is dropped, and it is told how many. It is not called any more once the client's shutdown has
/// returned.
using LogSink = std::function<void(LogLevel, std::string_view)>;

}  // namespace qmq
