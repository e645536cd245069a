#pragma once

#include <grpc/impl/codegen/grpc_types.h>

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

/// In the initial metadata of both streams: the largest frame that the server takes.
inline constexpr char kMaxMessageBytesKey[] = "qmq-max-message-bytes";
inline constexpr char kAuthorizationKey[] = "authorization";

}  // namespace qmq::rpc
