#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "qmq/status.h"
#include "qmq/transport.h"

namespace qmq {

/// How a client proves who it is, and whom it believes. Files are read again for every connection,
/// so that a certificate or token that is renewed is used without a restart.
struct GrpcClientOptions {
    /// Who may have signed the server's certificate, for `grpcs`: a file of PEM certificates, or
    /// the PEM text itself. The system's list when both are empty.
    std::string ca_file{};
    std::string ca_pem{};
    /// This client's certificate and key, when the server asks for one (mutual TLS): PEM files.
    /// Both or none.
    std::string certificate_file{};
    std::string key_file{};
    /// The name that the server's certificate must carry, when it is not the host of the URI.
    std::string server_name{};

    /// Sent with every call as `authorization: Bearer …`. At most one of the two.
    std::string token{};
    std::string token_file{};
    /// A token over `grpc` can be read by everybody on the way, so it is refused unless this is
    /// set.
    bool allow_token_without_tls = false;

    /// Largest frame either way; a batch must fit. The server may take less. Range: [64 KiB, 256
    /// MiB].
    std::size_t max_message_bytes = 16U << 20;
    /// How long a connection may take until it is ready. Range: [10 ms, 10 min].
    std::chrono::milliseconds connect_timeout{5'000};
    /// For calls of the metadata that have no deadline of their own. Range: [10 ms, 1 h].
    std::chrono::milliseconds call_timeout{30'000};
    /// A connection is asked for a sign of life when nothing came for this long, and given up when
    /// none comes in time. Ranges: [1 s, 2 h], [100 ms, 10 min].
    std::chrono::milliseconds keepalive_interval{10'000};
    std::chrono::milliseconds keepalive_timeout{5'000};
};

/// Every problem with `options` at once, with field, value and range. Reads no file.
Status Validate(const GrpcClientOptions& options);

/// The transport over gRPC, for `grpc://host:port` and, with TLS, `grpcs://host:port`.
///
/// Its `Make` says kInvalidArgument for options that `Validate` refuses, for a URI that is not of
/// that form, for a token over `grpc`, and for files that cannot be read. The same factory may
/// serve any number of clients. Callbacks come on gRPC's own threads, a small number for the whole
/// process.
///
/// Errors of connections and calls: kUnavailable (refused, cut, no answer in time; retryable),
/// kPermissionDenied (token or client certificate not accepted), kFailedPrecondition (the server's
/// certificate is not accepted here, TLS against a server without it, files that cannot be read any
/// more), kInvalidArgument (a batch larger than a frame may be).
std::shared_ptr<TransportFactory> GrpcTransport(GrpcClientOptions options = {});

}  // namespace qmq
