#pragma once

#include <grpcpp/server_context.h>

#include <string>

#include "qmq/status.h"

namespace qmq::rpc {

/// Who may call: everybody, or whoever carries the token.
class Authenticator {
public:
    /// An empty token lets everybody in.
    explicit Authenticator(std::string token) : token_(std::move(token)) {}

    /// UNAUTHENTICATED, without a word about what was expected. Takes as long for a token that is
    /// nearly right as for any other of its length.
    grpc::Status Check(const grpc::CallbackServerContext& context) const;

private:
    const std::string token_;
};

}  // namespace qmq::rpc
