#pragma once

#include "qmq/status.h"

#include "server/broker/broker.h"

namespace qmq::broker {

/// kInvalidArgument names the option, its value and its range.
Status ValidateOptions(const BrokerOptions& options);

/// Compares what is fixed for life with `<directory>/broker.options`, which is made when there is
/// none. kFailedPrecondition says what is stored and what was asked for.
Status CheckOptionsFile(env::FileSystem& files, const BrokerOptions& options);

/// In which shard a subject lies, by its real name: the same for its retries and dead letters.
std::uint32_t ShardOf(std::string_view subject, std::uint32_t shards);

}  // namespace qmq::broker
