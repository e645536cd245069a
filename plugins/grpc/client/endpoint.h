#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "qmq/grpc.h"
#include "qmq/status.h"

namespace qmq::rpc {

/// Where a URI leads.
struct Endpoint {
    bool tls = false;
    std::string address;  ///< host:port, an IPv6 host in brackets.
};

/// kInvalidArgument: the URI, with what is wrong in it and what it should look like.
Result<Endpoint> ParseUri(const std::string& uri);
/// `host:port` or `[v6]:port`. The message does not name what the address is of.
Status CheckAddress(const std::string& address);

/// A channel, and what its calls carry.
struct Wire {
    std::shared_ptr<grpc::Channel> channel;
    std::string authorization;  ///< "Bearer …", or empty.
};

/// A channel of its own to `endpoint`: no socket is shared with another one. Reads the files of
/// `options`; kInvalidArgument names the one that cannot be read.
Result<Wire> MakeWire(const GrpcClientOptions& options, const Endpoint& endpoint);

/// What `status` of a call to `endpoint` means, in words that say what to do.
Status ExplainCallError(const grpc::Status& status, const Endpoint& endpoint);

}  // namespace qmq::rpc
