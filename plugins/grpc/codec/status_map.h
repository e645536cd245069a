#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "qmq/status.h"

#include "plugins/grpc/codec/proto_wire.h"

/// The one place where our status meets gRPC's, and where it meets the `Status` message of
/// broker.proto. Every code of ours comes back as itself.
namespace qmq::rpc {

grpc::StatusCode ToGrpcCode(StatusCode code);
/// Codes that we do not send ourselves become the one of ours that asks the caller to do the same.
StatusCode FromGrpcCode(grpc::StatusCode code);

grpc::Status ToGrpc(const Status& status);
Status FromGrpc(const grpc::Status& status);

/// The `Status` message. `StatusBytes` of ok is 0: then it is not written at all.
std::size_t StatusMessageBytes(const Status& status);
void PutStatusMessage(std::string* out, const Status& status);
/// Never ok: a message that says OK (or a code we do not know) is itself an error.
Status ReadStatusMessage(std::string_view bytes);

}  // namespace qmq::rpc
