#pragma once

#include <chrono>
#include <cstdint>

#include "qmq/protocol.h"

namespace qmq::internal {

/// How much a consumer may ask of one broker group. What was granted and has not arrived, plus what
/// has arrived and has not ended, stays within the window (by one delivery's bytes more, since the
/// broker cannot know sizes in advance). Credit is given back in lumps of half the window, so that
/// it costs no frame a message. Not thread-safe.
///
/// Where its limits leave it a choice, the window in messages follows the time for which messages
/// wait for a handler: it grows while they hardly wait and all that was granted has been used, and
/// shrinks when they wait for long. So quick handlers have a thousand messages at hand, and slow
/// ones leave to other members what those could have done by now.
class CreditWindow {
public:
    struct Limits {
        std::uint64_t least_messages = 0;
        std::uint64_t most_messages = 0;
        std::uint64_t bytes = 0;
    };
    explicit CreditWindow(const Limits& limits)
        : limits_(limits), max_messages_(limits.least_messages), max_bytes_(limits.bytes) {}

    void SetLimits(const Limits& limits);
    /// The longest time for which a message has waited for a handler since the last call; negative
    /// when none was claimed.
    void OnWaited(std::chrono::nanoseconds longest);
    std::uint64_t window() const { return max_messages_; }
    /// The stream is new: what was granted on the old one is void.
    void OnNewStream() { granted_messages_ = granted_bytes_ = 0; }
    void OnDelivered(std::uint64_t messages, std::uint64_t bytes);
    void OnEnded(std::uint64_t messages, std::uint64_t bytes);
    /// For credit on demand, which `Take` does not give.
    void Grant(std::uint64_t messages, std::uint64_t bytes) {
        granted_messages_ += static_cast<std::int64_t>(messages);
        granted_bytes_ += static_cast<std::int64_t>(bytes);
    }
    /// What is worth granting now; nothing (zero messages and bytes) when little has changed.
    Credit Take();

    std::int64_t held_messages() const { return held_messages_; }
    std::int64_t granted_messages() const { return granted_messages_; }

private:
    Limits limits_;
    std::uint64_t max_messages_;
    std::uint64_t max_bytes_;
    bool widened_ = false;  // Since the last `Take`: what that allows is worth giving at once.
    // As the broker counts: a delivery may overdraw the bytes, which the next grant then makes
    // good.
    std::int64_t granted_messages_ = 0;
    std::int64_t granted_bytes_ = 0;
    std::int64_t held_messages_ = 0;
    std::int64_t held_bytes_ = 0;
};

}  // namespace qmq::internal
