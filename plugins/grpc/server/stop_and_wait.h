#pragma once

#include <cstddef>
#include <cstdint>

namespace qmq::rpc {

/// Whether a client sends its next frame only once the one before is answered. Then a read is
/// better begun together with the answer: one that begins earlier makes gRPC 1.51 tell the client
/// at once, in a packet of its own, that there is room again, which is a system call here and a
/// wake-up there for each message. Not thread-safe.
class StopAndWait {
public:
    /// A frame has come while so many were unanswered.
    void OnFrame(std::size_t unanswered_count) {
        waited_count_ = unanswered_count == 0 ? waited_count_ + 1 : 0;
    }
    /// Nothing more is expected before the answer.
    bool expected() const { return waited_count_ >= kFrames && waited_count_ % kProbeFrames != 0; }

    /// So many frames in a row that were waited for are believed.
    static constexpr std::uint32_t kFrames = 8;
    /// Of so many, one is read on after at once, to notice a client that no longer waits. A prime,
    /// so that it is not for ever the last of several frames that a client sends together.
    static constexpr std::uint32_t kProbeFrames = 61;

private:
    std::uint32_t waited_count_ = 0;
};

}  // namespace qmq::rpc
