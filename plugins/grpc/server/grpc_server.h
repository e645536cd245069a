#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/status.h"

#include "server/broker/broker.h"

namespace qmq::rpc {

struct GrpcServerOptions {
    /// Where to listen: `host:port`, an IPv6 host in brackets, `0.0.0.0` or `[::]` for every
    /// address. Port 0 means a free one. At least one; all have the same TLS and token.
    std::vector<std::string> listen{"127.0.0.1:0"};

    /// The server's certificate chain and key, as PEM text: with them every port speaks TLS. Both
    /// or none.
    std::string tls_certificate_pem;
    std::string tls_key_pem;
    /// Clients must show a certificate signed by one of these (mutual TLS). Needs the two above.
    std::string tls_client_ca_pem;
    /// Clients must send this as `authorization: Bearer …`. Only with TLS, unless
    /// `allow_token_without_tls`.
    std::string bearer_token;
    bool allow_token_without_tls = false;

    /// What `Discover` answers: the name of this broker group, and where clients reach it. An empty
    /// address means the one that the client asked.
    std::string group_name = "default";
    std::string advertised_address;

    /// Largest frame that is taken. Range: [64 KiB, 256 MiB].
    std::size_t max_message_bytes = 16U << 20;
    /// Streams and calls at once on one connection. Range: [2, 100,000].
    std::size_t max_streams_per_connection = 1'000;
    /// A Publish stream is not read while this many of its requests, or their bytes, are
    /// unanswered; a Consume stream while this many of its acks are. Ranges: [1, 65,536], [64 KiB,
    /// 4 GiB].
    std::size_t max_unanswered_per_stream = 1'024;
    std::size_t max_unanswered_bytes_per_stream = 64U << 20;
    /// Range: [1, 65,536].
    std::size_t max_subscriptions_per_stream = 4'096;
    /// Limits of the batches that the broker takes: for the messages of the plain `Send`.
    BatchLimits batch_limits;

    /// A connection is asked for a sign of life when nothing came for this long, and closed when
    /// none comes in time. Ranges: [1 s, 2 h], [100 ms, 10 min].
    std::chrono::milliseconds keepalive_interval{10'000};
    std::chrono::milliseconds keepalive_timeout{5'000};

    const Clock* clock = nullptr;  ///< The system's when null.
};

/// Every problem with `options` at once, with field, value and range; no secret is repeated.
Status Validate(const GrpcServerOptions& options);

/// Feeds a broker from gRPC: translates, and decides nothing. Calls to the broker are made on
/// gRPC's threads, and its answers are written from whichever thread brings them. Thread-safe.
class GrpcServer {
public:
    /// Listens and serves. `broker` outlives the server.
    ///
    /// Errors: kInvalidArgument (options; an address that is none), kFailedPrecondition (a port
    /// that is taken, named with its owner when the system tells; an address that is not of this
    /// machine), kPermissionDenied (a port that this user may not open).
    static Result<std::unique_ptr<GrpcServer>> Start(GrpcServerOptions options,
                                                     broker::Broker& broker);
    /// `Shutdown` with a deadline that has passed, when nobody called it.
    virtual ~GrpcServer() = default;

    /// The port of `listen[0]`, and of each.
    virtual int port() const = 0;
    virtual const std::vector<int>& ports() const = 0;

    /// Takes nothing new, answers what it has, ends all streams with kUnavailable, and waits for
    /// the end until `deadline`; then it cancels what is left. Returns when no call of it touches
    /// the broker any more; answers that the broker still owes are dropped. Idempotent.
    virtual void Shutdown(TimePoint deadline) = 0;
};

}  // namespace qmq::rpc
