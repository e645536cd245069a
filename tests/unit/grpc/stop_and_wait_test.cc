#include "plugins/grpc/server/stop_and_wait.h"

#include <gtest/gtest.h>

namespace qmq::rpc {
namespace {

TEST(StopAndWaitTest, IsExpectedOfAClientThatHasWaitedOftenEnough) {
    StopAndWait client;
    for (std::uint32_t i = 1; i < StopAndWait::kFrames; ++i) {
        client.OnFrame(0);
        EXPECT_FALSE(client.expected()) << i;
    }
    client.OnFrame(0);
    EXPECT_TRUE(client.expected());
}

TEST(StopAndWaitTest, IsNeverExpectedOfAClientWithTwoFramesUnderWay) {
    StopAndWait client;
    for (int i = 0; i < 1'000; ++i) {
        client.OnFrame(0);
        EXPECT_FALSE(client.expected());
        client.OnFrame(1);
        EXPECT_FALSE(client.expected());
    }
}

/// Serves a client that sends `together` frames at once and then waits for all of their answers.
/// How many frames it takes until two of them are read together.
std::uint32_t FramesUntilNoticed(StopAndWait client, std::uint32_t together) {
    for (std::uint32_t frames = 0; frames < 10'000; frames += together) {
        std::size_t unanswered_count = 0;
        for (std::uint32_t i = 0; i < together; ++i) {
            if (unanswered_count > 0 && client.expected()) {
                unanswered_count = 0;  // The answer came first, and with it the read.
            }
            client.OnFrame(unanswered_count);
            if (unanswered_count > 0) {
                return frames + i;
            }
            ++unanswered_count;
        }
    }
    return 10'000;
}

TEST(StopAndWaitTest, AClientThatNoLongerWaitsIsSoonNoticed) {
    StopAndWait client;
    for (int waited = 0; waited < 200; ++waited) {
        client.OnFrame(0);
        for (const std::uint32_t together : {2U, 3U, 4U, 8U, 16U, 64U}) {
            EXPECT_LE(FramesUntilNoticed(client, together), 2 * StopAndWait::kProbeFrames)
                << waited << " frames, then " << together << " at once";
        }
    }
}

}  // namespace
}  // namespace qmq::rpc
