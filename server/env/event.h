#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// What the engine has to tell people, in one place: losses, damage, jumps of the clock, limits, a
/// shard that has stopped. Nothing in the engine hangs on whether anybody listens.
namespace qmq::env {

enum class EventKind : std::uint8_t {
    kLoss,          ///< Messages that a group still needed are gone; `count` of them.
    kDamage,        ///< Stored bytes are damaged or missing; `bytes` of them.
    kClockJump,     ///< Wall clock and steady clock disagree; `count` milliseconds.
    kLimit,         ///< A bound was reached, and something waits or is refused because of it.
    kDisagreement,  ///< Members of one group ask for different things.
    kStopped        ///< A shard has stopped writing, and takes nothing any more.
};
std::string_view ToString(EventKind kind);

struct Event {
    EventKind kind = EventKind::kLoss;
    /// Where: "shard 2", "shard 0, subject orders, group billing".
    std::string place;
    /// What happened and what to do, in one line; without the place.
    std::string text;
    std::uint64_t count = 0;
    std::uint64_t bytes = 0;
};

/// Threads: `OnEvent` may come from several at once. It must not block, and must not call the
/// engine.
class EventListener {
public:
    virtual ~EventListener() = default;
    virtual void OnEvent(const Event& event) = 0;
};

/// Listens to nothing. Lives as long as the process.
EventListener& NoEvents();

}  // namespace qmq::env
