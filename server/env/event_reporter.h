#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "qmq/clock.h"
#include "qmq/executor.h"

#include "server/env/event.h"

namespace qmq::env {

/// Makes lines for people of events: "loss: shard 0, subject orders: 12 messages …". A flood of one
/// kind drowns neither the disk nor the other kinds: of each kind the first `kMostLines` within
/// `kPeriod` are lines, and at the end of the period one more says how many were left out, and what
/// they count together.
///
/// Thread-safe. Nothing waits but for the sink, which takes one line at a time: events are told on
/// the shards' strands, so a sink that may block stops the shards (`LineWriter` is for that).
class EventReporter final : public EventListener {
public:
    /// Takes a line, without a line break; must not call the engine, nor this.
    using Sink = std::function<void(std::string_view line)>;
    static constexpr std::uint32_t kMostLines = 10;
    static constexpr std::chrono::minutes kPeriod{1};

    /// `timers` may end before this does; it then runs none of its tasks any more.
    EventReporter(const Clock& clock, Executor& timers, Sink sink);
    /// Says what was left out so far.
    ~EventReporter() override;

    void OnEvent(const Event& event) override;

private:
    /// Of one kind; begins with its first event.
    struct Period {
        TimePoint end;
        std::uint32_t line_count = 0;
        std::uint64_t left_out_count = 0;
        // Sums of what the events left out say.
        std::uint64_t count = 0;
        std::uint64_t bytes = 0;
    };

    void SayEnded(TimePoint now);
    void SayLeftOut(EventKind kind, const Period& period);
    void Say(const std::string& line);

    const Clock& clock_;
    Executor& timers_;
    const Sink sink_;
    std::mutex mutex_;
    std::map<EventKind, Period> periods_;  // guarded by mutex_
};

}  // namespace qmq::env
