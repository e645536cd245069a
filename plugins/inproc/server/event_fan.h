#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/executor.h"

namespace qmq::inproc {

/// Hands the lines of a broker to the logs of all clients that use it, on a thread of each client:
/// a log is the application's code, which may block, or send. Thread-safe.
class EventFan final : public std::enable_shared_from_this<EventFan> {
public:
    using Warn = std::function<void(std::string_view line)>;

    /// Ends listening when it is destroyed: then `timers` may go.
    class Listening {
    public:
        ~Listening();
        Listening(const Listening&) = delete;
        Listening& operator=(const Listening&) = delete;

    private:
        friend class EventFan;
        Listening(std::shared_ptr<EventFan> fan, Executor& timers, Warn warn);

        const std::shared_ptr<EventFan> fan_;
        Executor& timers_;
        const std::shared_ptr<const Warn> warn_;
    };
    /// `warn` may be empty.
    std::unique_ptr<Listening> Listen(Executor& timers, Warn warn);

    void Say(std::string_view line);

private:
    std::mutex mutex_;
    std::vector<const Listening*> listeners_;  // guarded by mutex_
};

}  // namespace qmq::inproc
