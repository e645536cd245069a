#pragma once

#include <string>

#include "qmq/status.h"

#include "plugins/grpc/server/grpc_server.h"

namespace qmq::rpc {

/// What a server keeps to itself.
struct Secrets {
    std::string certificate;
    std::string key;
    std::string client_ca;
    std::string token;
};

/// Reads the files that `options` name. kInvalidArgument names the option and the file, never what
/// is in it.
Result<Secrets> ReadSecrets(const GrpcServerOptions& options);

}  // namespace qmq::rpc
