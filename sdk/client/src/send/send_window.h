#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "qmq/clock.h"

namespace qmq::internal {

/// How much of a lane may be on its way without an answer.
class SendWindow {
public:
    explicit SendWindow(std::uint32_t max_frames) : max_frames_(max_frames) {}

    bool HasRoom() const { return frames_ < max_frames_ && batches_ < kMaxInFlightBatches; }
    /// One frame on its way and one behind it keep a broker busy: below that a lane sends whatever
    /// is there, and nobody waits for company that does not come.
    bool IsNearlyEmpty() const { return frames_ < kEagerFrames; }
    void OnSent(std::size_t batches) {
        ++frames_;
        batches_ += batches;
    }
    void OnAnswered(std::size_t batches) {
        --frames_;
        batches_ -= batches;
    }
    std::size_t batches() const { return batches_; }

private:
    static constexpr std::uint32_t kEagerFrames = 2;
    /// With so many batches unanswered a lane waits: what it would send next gathers meanwhile. So
    /// a flood over thousands of subjects, too fast for batches of one message each, makes larger
    /// ones.
    static constexpr std::size_t kMaxInFlightBatches = 128;

    std::uint32_t max_frames_;
    std::uint32_t frames_ = 0;
    std::size_t batches_ = 0;
};

/// Whether messages come in quick succession, as in a loop: then the others gather, for the linger
/// at most, or until somebody waits for one of them. Without this a transport that answers inside
/// the call would never see a batch of two.
class Pace {
public:
    bool is_burst() const { return count_ >= kBurstMessages; }
    /// A message is sent. True when a burst has ended before it.
    bool OnSend(TimePoint now) {
        // A clock that stands still says nothing about the rate.
        const auto gap = now - std::exchange(last_, now);
        const bool follows = gap.count() > 0 && gap <= kBurstGap;
        const bool was_burst = is_burst();
        count_ = follows ? count_ + 1 : 0;
        return was_burst && !is_burst();
    }
    /// Time that sending took is no pause of the sender's: where every answer comes inside the call
    /// it would end each burst that it begins.
    void Skip(TimePoint now) { last_ = now; }
    /// Somebody waits, or no more will come. True when a burst has ended.
    bool End() { return std::exchange(count_, 0) >= kBurstMessages; }

private:
    static constexpr std::uint32_t kBurstMessages = 8;
    /// Messages that follow each other this closely come from a loop, and there will be more.
    static constexpr std::chrono::microseconds kBurstGap{20};

    TimePoint last_{};
    std::uint32_t count_ = 0;  // In quick succession, the last one included.
};

}  // namespace qmq::internal
