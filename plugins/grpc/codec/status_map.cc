#include "plugins/grpc/codec/status_map.h"

#include <array>

namespace qmq::rpc {
namespace {

/// By our number. The entries differ, so that the way back is the same table.
constexpr std::array<grpc::StatusCode, 13> kToGrpc = {
    grpc::StatusCode::OK,
    grpc::StatusCode::INVALID_ARGUMENT,
    grpc::StatusCode::NOT_FOUND,
    grpc::StatusCode::RESOURCE_EXHAUSTED,
    grpc::StatusCode::UNAVAILABLE,
    grpc::StatusCode::DEADLINE_EXCEEDED,
    grpc::StatusCode::DATA_LOSS,
    grpc::StatusCode::CANCELLED,
    grpc::StatusCode::ALREADY_EXISTS,
    grpc::StatusCode::FAILED_PRECONDITION,
    grpc::StatusCode::PERMISSION_DENIED,
    grpc::StatusCode::UNIMPLEMENTED,
    grpc::StatusCode::INTERNAL,
};

/// Trailers have little room: gRPC's default takes 8 KiB of metadata altogether.
constexpr std::size_t kMaxTrailerTextBytes = 2'048;

}  // namespace

grpc::StatusCode ToGrpcCode(StatusCode code) {
    const auto index = static_cast<std::size_t>(code);
    return index < kToGrpc.size() ? kToGrpc[index] : grpc::StatusCode::INTERNAL;
}

StatusCode FromGrpcCode(grpc::StatusCode code) {
    for (std::size_t i = 0; i < kToGrpc.size(); ++i) {
        if (kToGrpc[i] == code) {
            return static_cast<StatusCode>(i);
        }
    }
    switch (code) {
        case grpc::StatusCode::UNAUTHENTICATED:
            return StatusCode::kPermissionDenied;
        case grpc::StatusCode::OUT_OF_RANGE:
            return StatusCode::kInvalidArgument;
        case grpc::StatusCode::ABORTED:
            return StatusCode::kUnavailable;
        default:
            return StatusCode::kInternal;
    }
}

grpc::Status ToGrpc(const Status& status) {
    if (status.ok()) {
        return grpc::Status::OK;
    }
    return {ToGrpcCode(status.code()), CleanText(status.message(), kMaxTrailerTextBytes)};
}

Status FromGrpc(const grpc::Status& status) {
    return status.ok() ? Status()
                       : Status(FromGrpcCode(status.error_code()), status.error_message());
}

namespace {

std::string StatusText(const Status& status) {
    return CleanText(status.message(), kMaxErrorTextBytes);
}

}  // namespace

std::size_t StatusMessageBytes(const Status& status) {
    return status.ok() ? 0
                       : VarintFieldBytes(static_cast<std::uint64_t>(status.code())) +
                             BytesFieldBytes(StatusText(status).size());
}

void PutStatusMessage(std::string* out, const Status& status) {
    PutVarintField(out, 1, static_cast<std::uint64_t>(status.code()));
    PutBytesField(out, 2, StatusText(status));
}

Status ReadStatusMessage(std::string_view bytes) {
    FieldReader reader(bytes, "Status");
    std::uint64_t code = 0;
    std::string_view text;
    while (reader.Next()) {
        if (reader.field() == 1) {
            code = reader.Varint();
        } else if (reader.field() == 2) {
            text = reader.Bytes();
        }
    }
    if (!reader.status().ok()) {
        return reader.status();
    }
    if (code == 0 || code >= kToGrpc.size()) {
        return Status::Internal("the peer answered with status code " + std::to_string(code) +
                                ", which this build does not know: " + std::string(text));
    }
    return {static_cast<StatusCode>(code), std::string(text)};
}

}  // namespace qmq::rpc
