#pragma once

#include <cstdint>

#include "qmq/protocol.h"

namespace qmq::internal {

/// How much a consumer may ask of one broker group. What was granted and has not arrived, plus what
/// has arrived and has not ended, stays within the limits (by one delivery's bytes more, since the
/// broker cannot know sizes in advance). Credit is given back in lumps of half the window, so that
/// it costs no frame a message. Not thread-safe.
class CreditWindow {
public:
    CreditWindow(std::uint64_t max_messages, std::uint64_t max_bytes)
        : max_messages_(max_messages), max_bytes_(max_bytes) {}

    void SetLimits(std::uint64_t max_messages, std::uint64_t max_bytes) {
        max_messages_ = max_messages;
        max_bytes_ = max_bytes;
    }
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
    std::uint64_t max_messages_;
    std::uint64_t max_bytes_;
    // As the broker counts: a delivery may overdraw the bytes, which the next grant then makes
    // good.
    std::int64_t granted_messages_ = 0;
    std::int64_t granted_bytes_ = 0;
    std::int64_t held_messages_ = 0;
    std::int64_t held_bytes_ = 0;
};

}  // namespace qmq::internal
