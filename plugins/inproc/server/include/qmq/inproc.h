#pragma once

#include <cstdint>
#include <memory>

#include "qmq/protocol.h"
#include "qmq/status.h"
#include "qmq/transport.h"

namespace qmq {

/// The broker inside the process.
struct InprocOptions {
    /// Executors of the broker that work at once; subjects are spread over them by name. Fixed for
    /// the life of a directory. Range: [1, 64].
    std::uint32_t shards = 1;
    /// What subjects promise when the broker keeps its data in a directory: kMemory, kPageCache or
    /// kFsync. In memory it is always kMemory.
    Durability durability = Durability::kFsync;
    /// Memory for messages, for `inproc:`: beyond it sends are refused with kResourceExhausted
    /// until consumers have acked. Range: [16 MiB for each shard, 1 TiB].
    std::uint64_t memory_bytes = std::uint64_t{1} << 30;
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const InprocOptions& options);

/// The whole server inside this process, without a port:
///
/// - `inproc:` keeps messages in memory, until every group of their subject has acked them, and
///   forgets them all with the last client;
/// - `inproc:///dir` keeps them in that directory, which one process at a time may hold.
///
/// All clients that are made with the same factory and the same URI share one broker: the first one
/// opens it, the last one closes it, and waits for that. Clients of another factory have another
/// broker, so tests do not meet.
///
/// Callbacks come on the threads of the broker, or on the calling thread before the call returns.
///
/// Its `Make` says kInvalidArgument (options, or a URI that is not of these forms), and what
/// opening the directory says: kFailedPrecondition (another process holds it, or it was made with
/// other shards), kPermissionDenied, kResourceExhausted, kDataLoss.
std::shared_ptr<TransportFactory> InprocTransport(InprocOptions options = {});

}  // namespace qmq
