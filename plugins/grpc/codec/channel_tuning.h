#pragma once

#include <grpc/impl/codegen/grpc_types.h>

#include <cstddef>

namespace qmq::rpc {

/// Arguments of gRPC that both halves set alike: how bytes are cut on their way. Measured over
/// loopback; docs/design/grpc.md has the figures.
struct TuningArgument {
    const char* name;
    int value;
};

inline constexpr TuningArgument kChannelTuning[] = {
    // HTTP/2 frames of 16 KiB cost a header and a walk through the parser each.
    {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20},
    // A window of its own size from the start, instead of gRPC's measuring of the line, whose pings
    // and window updates take a fifth of all processor time here.
    {GRPC_ARG_HTTP2_BDP_PROBE, 0},
    {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 2 << 20},
};

/// A frame grows no further than this unless a single piece of it is larger: large frames hold up
/// what follows, and gain nothing.
inline constexpr std::size_t kFrameTargetBytes = 1U << 20;
/// The most that is around the batches of a frame, and that a batch grows by when it fails.
inline constexpr std::size_t kFrameOverheadBytes = 8U << 10;
/// The least that a server may take in a frame: clients count on it.
inline constexpr std::size_t kLeastMaxMessageBytes = 64U << 10;

/// In the initial metadata of both streams: the largest frame that the server takes.
inline constexpr char kMaxMessageBytesKey[] = "qmq-max-message-bytes";
inline constexpr char kAuthorizationKey[] = "authorization";

}  // namespace qmq::rpc
