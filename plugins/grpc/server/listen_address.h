#pragma once

#include <string>

#include "qmq/status.h"

namespace qmq::rpc {

/// Tries to listen at `address` (`host:port`), so that what stands in the way is known by its name
/// rather than as gRPC's "could not bind". Port 0 always passes that test.
///
/// Errors: kInvalidArgument (not an address), kFailedPrecondition (taken, by whom when /proc tells;
/// not an address of this machine), kPermissionDenied.
Status CheckCanListen(const std::string& address);

/// "process 123 (nginx)" for whoever listens on `port`, or nothing when that cannot be seen.
std::string DescribeListener(int port);

}  // namespace qmq::rpc
