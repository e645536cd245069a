#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/filter.h"
#include "qmq/producer.h"
#include "qmq/pull_consumer.h"
#include "qmq/status.h"
#include "qmq/subscription.h"
#include "qmq/transport.h"

namespace qmq {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };
/// Takes what the client has to say, from any thread, one line a call, without secrets.
using LogSink = std::function<void(LogLevel, std::string_view)>;

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
    std::string app_code;
    /// Unique among living clients. Made from host, process and chance when empty.
    std::string client_id;
    /// The transports that this program links, for instance `{qmq::GrpcTransport(),
    /// qmq::InprocTransport()}`.
    std::vector<std::shared_ptr<TransportFactory>> transports;
    /// Threads for handlers without an executor of their own. Range: [1, 1,024].
    std::size_t handler_threads = 4;
    /// Lets the callbacks of sends run on the transport's threads, where an answer has come over a
    /// wire, instead of on a thread of the client's own: an answer costs a wake-up less. A callback
    /// that blocks then holds up what else comes over that connection, and over others that share
    /// its threads (those of gRPC are the process's).
    bool inline_callbacks = false;
    /// Around every handler of this client, the first outermost.
    std::vector<std::shared_ptr<Filter>> filters;
    /// Standard error for warnings and errors when empty.
    LogSink log;
    /// First and longest pause before a lost connection is tried again, and before a route is asked
    /// for again. It never gives up.
    std::chrono::milliseconds initial_reconnect_backoff{50};
    std::chrono::milliseconds max_reconnect_backoff{5'000};
    /// How often a known route is asked for again. Range: [1 s, 1 h].
    std::chrono::milliseconds route_refresh{60'000};
    Runtime runtime;
};

/// Every problem with `options` at once, with field, value and range.
Status Validate(const ClientOptions& options);
Status Validate(const ProducerOptions& options);
Status Validate(const SubscriptionOptions& options);
Status Validate(const PullConsumerOptions& options);

/// What was left when a client shut down.
struct ShutdownReport {
    bool drained = true;                       ///< Everything below is zero.
    std::uint64_t sends_unknown = 0;           ///< Answered kUnknown because the deadline came.
    std::uint64_t sends_refused = 0;           ///< Never left; answered kRefused.
    std::uint64_t deliveries_handed_back = 0;  ///< Not begun; others get them now.
    std::uint64_t handlers_running =
        0;  ///< Still inside user code; their messages are delivered again.
    std::uint64_t acks_unconfirmed = 0;  ///< Sent or gathered, not confirmed.
};

namespace internal {
class ClientCore;
}

/// The way into a cluster: makes producers and consumers, and owns their connections and threads (a
/// small constant number).
///
/// Lifetime. Clients are independent of each other, even to different clusters; there is no state
/// shared by the process. A client is safe as a static. `Shutdown` always returns by its deadline,
/// may be called from a callback or handler (then it does not wait for that one), and after it has
/// returned nothing is called any more: no callback, handler or filter begins. The destructor is
/// `Shutdown(0)` when nobody called it; a handler that never returns keeps its one thread, and what
/// it touches, but nothing else. Leaving `main` with messages in flight is safe; they are answered
/// kUnknown or kRefused.
///
/// Movable. All calls are thread-safe, but for moving.
class Client {
public:
    /// Checks the options and starts. No network is touched in the call: a cluster that is away is
    /// found again and again in the background. kInvalidArgument (every problem at once), and for
    /// `inproc:///dir` what opening that directory says.
    static Result<Client> Create(ClientOptions options);

    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();

    /// kInvalidArgument with every problem; kCancelled after shutdown.
    Result<Producer> MakeProducer(ProducerOptions options = {});

    /// Starts a subscription. kAlreadyExists when this client has one for the subject and group.
    Result<Subscription> Subscribe(SubscriptionOptions options, Handler handler);
    Result<Subscription> SubscribeManual(SubscriptionOptions options, ManualHandler handler);
    Result<Subscription> SubscribeOutcome(SubscriptionOptions options, OutcomeHandler handler);

    Result<PullConsumer> MakePullConsumer(PullConsumerOptions options);

    /// Waits until a broker group serves `subject` and is connected, for programs that want to fail
    /// early. kDeadlineExceeded with the last reason.
    Status WaitReady(const std::string& subject, std::chrono::milliseconds timeout);

    /// Stops: takes nothing new, flushes producers, lets running handlers end and sends their acks,
    /// hands back the rest. Callbacks that are owed by then get up to 200 ms more, and threads that
    /// are about to end up to 1 s.
    ShutdownReport Shutdown(std::chrono::milliseconds timeout);

    /// As `Shutdown`, without blocking: `done` is called once, on the runtime's executor, after
    /// which nothing is called any more. For event loops and simulation, where the thread that
    /// would wait is the one that must go on.
    void ShutdownAsync(std::chrono::milliseconds timeout,
                       UniqueFunction<void(const ShutdownReport&)> done);

    const std::string& client_id() const;

private:
    explicit Client(std::shared_ptr<internal::ClientCore> core);
    std::shared_ptr<internal::ClientCore> core_;
};

}  // namespace qmq
