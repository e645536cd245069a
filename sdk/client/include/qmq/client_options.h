#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/filter.h"
#include "qmq/log.h"
#include "qmq/status.h"
#include "qmq/transport.h"

namespace qmq {

/// Runs the client on somebody else's threads, clock and chance: simulation and tests. Null members
/// mean the client's own.
struct Runtime {
    const Clock* clock = nullptr;
    Executor* executor = nullptr;   ///< Timers and the client's own work.
    Executor* callbacks = nullptr;  ///< Send callbacks.
    Executor* handlers = nullptr;   ///< Handlers without an executor of their own.
    std::uint64_t seed = 0;         ///< Zero: from the system.
};

struct ClientOptions {
    /// Which cluster, and how: "inproc:", "inproc:///var/lib/app", "grpc://host:port",
    /// "grpcs://host:port".
    std::string uri = "inproc:";
    /// Name of the application, as operators know it. Required.
    std::string app_code{};
    /// Unique among living clients. Made from host, process and chance when empty (from
    /// `Runtime::seed` alone where there is one).
    std::string client_id{};
    /// The transports that this program links, for instance `{qmq::GrpcTransport(),
    /// qmq::InprocTransport()}`.
    std::vector<std::shared_ptr<TransportFactory>> transports{};
    /// Most threads for handlers without an executor of their own. They are started when they are
    /// needed: the first four with the first subscription, more when handlers wait for a thread for
    /// some milliseconds, up to the sum of all `SubscriptionOptions::parallelism`. One is kept for
    /// each subscription that uses none at the moment, so however many handlers of one hang, the
    /// others go on; with more subscriptions than `handler_threads` there may be as many threads as
    /// subscriptions. Range: [1, 1,024].
    std::size_t handler_threads = 1'024;
    /// Lets the callbacks of sends run on the transport's threads, where an answer has come over a
    /// wire, instead of on a thread of the client's own: an answer costs a wake-up less. A callback
    /// that blocks then holds up what else comes over that connection, and over others that share
    /// its threads (those of gRPC are the process's).
    bool inline_callbacks = false;
    /// Around every handler of this client, the first outermost.
    std::vector<std::shared_ptr<Filter>> filters{};
    /// Standard error for warnings and errors when empty.
    LogSink log{};
    /// First and longest pause before a lost connection is tried again, and before a route is asked
    /// for again. It never gives up.
    std::chrono::milliseconds initial_reconnect_backoff{50};
    std::chrono::milliseconds max_reconnect_backoff{5'000};
    /// How often a known route is asked for again. Range: [1 s, 1 h].
    std::chrono::milliseconds route_refresh{60'000};
    Runtime runtime{};
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const ClientOptions& options);

}  // namespace qmq
