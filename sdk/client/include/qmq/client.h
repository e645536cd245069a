#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "qmq/client_options.h"
#include "qmq/function.h"
#include "qmq/handler.h"
#include "qmq/producer.h"
#include "qmq/pull_consumer.h"
#include "qmq/status.h"
#include "qmq/subscription.h"

namespace qmq {

/// What was left when a client shut down.
struct ShutdownReport {
    /// Every count below is zero, and `status` is ok. Told inside of a callback, when another call
    /// ends the client: that no callback is owed either, for these are counted when it has ended.
    bool drained = true;
    std::uint64_t sends_unknown = 0;           ///< Answered kUnknown because the deadline came.
    std::uint64_t sends_refused = 0;           ///< Never left; answered kRefused.
    std::uint64_t deliveries_handed_back = 0;  ///< Not begun; others get them now.
    /// Of `at_most_once`: acked on receipt and not begun, so lost, because the deadline came or the
    /// only handlers that could were in `Shutdown`.
    std::uint64_t deliveries_dropped = 0;
    /// Still inside user code; their messages are delivered again (not those of `at_most_once`).
    std::uint64_t handlers_running = 0;
    std::uint64_t acks_unconfirmed = 0;  ///< Sent or gathered, not confirmed.
    /// Given to manual handlers or by `Pull`, and not decided: delivered again.
    std::uint64_t deliveries_undecided = 0;
    /// Callbacks (of sends, acks and pulls) that were owed and are never called, because there was
    /// no time left for them or one before them did not return.
    std::uint64_t callbacks_dropped = 0;
    /// kFailedPrecondition in a child by `fork()` of the client's process, where nothing was done.
    Status status;
};

namespace internal {
class ClientCore;
}

/// The way into a cluster: makes producers and consumers, and owns a connection to each broker
/// group, a few threads, and those of its handlers (`ClientOptions::handler_threads`).
///
/// Lifetime. Clients are independent of each other, even to different clusters; there is no state
/// shared by the process. A client is safe as a static. `Shutdown` always returns by its deadline
/// (but for the small times that it names), may be called from a callback, a handler or the log
/// sink (then it does not wait for that one; what a handler registered for its stop does), and
/// after it has returned nothing is called any more: no callback, handler, filter or log sink
/// begins. The destructor is `Shutdown(0)` when nobody called it; a handler, callback or log sink
/// that never returns keeps its one thread, and what it touches, but nothing else. Leaving `main`
/// with messages in flight is safe; they are answered kUnknown or kRefused.
///
/// The application's code (handlers, filters, callbacks, the log sink) is called under no lock of
/// the client's: it may call anything, block, and throw.
///
/// fork(). In a child of its process a client is left alone: every call, to it and to what it has
/// made, returns at once with kFailedPrecondition and what to do (`Shutdown` in
/// `ShutdownReport::status`, which `ShutdownAsync` tells inside of the call; any other call without
/// a result does nothing, and no callback comes), and all handles may be destroyed. The parent
/// notices nothing. A child makes a client of its own; over gRPC only if no client over gRPC was
/// made before the fork.
///
/// Movable. All calls are thread-safe, but for moving.
class Client {
public:
    /// Checks the options and starts. No network is touched in the call: a cluster that is away is
    /// found again and again in the background. kInvalidArgument (every problem of the options at
    /// once; then a URI that none of the transports knows), and for `inproc:///dir` what opening
    /// that directory says.
    static Result<Client> Create(ClientOptions options);

    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();

    /// kInvalidArgument with every problem; kCancelled after shutdown.
    Result<Producer> MakeProducer(ProducerOptions options = {});

    /// Starts a subscription. `handler` is anything callable of one of the three forms that
    /// `Handler` names; its signature chooses the form:
    ///
    ///     client.Subscribe(options, [](const qmq::Message& message) { Work(message); });
    ///
    /// Does not block: it waits for no network.
    ///
    /// Errors: kInvalidArgument (every problem of `options` at once; an empty handler; a manual
    /// handler together with `idempotency`), kAlreadyExists (this client has a consumer of the
    /// subject in the group), kCancelled (after shutdown).
    Result<Subscription> Subscribe(SubscriptionOptions options, Handler handler);

    /// Joins the group, and takes messages when it is asked to; waits for no network.
    ///
    /// Errors: kInvalidArgument (every problem of `options` at once), kAlreadyExists (this client
    /// has a consumer of the subject in the group), kCancelled (after shutdown).
    Result<PullConsumer> MakePullConsumer(PullConsumerOptions options);

    /// Waits until a broker group serves `subject` and is connected, for programs that want to fail
    /// early. Zero or less does not wait; `milliseconds::max()` is no limit. kDeadlineExceeded with
    /// the last reason; kInvalidArgument (the subject); kCancelled when the client shuts down. What
    /// is refused for good ends the wait at once, with its own code: kPermissionDenied,
    /// kFailedPrecondition, kUnimplemented, kInvalidArgument.
    Status WaitReady(const std::string& subject, std::chrono::milliseconds timeout);

    /// Stops, in three steps. Consumers take nothing new; handlers that run may end, and may still
    /// send. Producers take nothing new and flush: when no handler runs any more, or when a fifth
    /// of `timeout` is left (at least 100 ms, but no more than half). At the deadline, or as soon
    /// as all of that is done: acks are sent, what is left is answered or handed back, and groups
    /// are left.
    ///
    /// Zero or less means now; `milliseconds::max()` is no limit. Callbacks that are owed at the
    /// deadline get up to 200 ms more, lines of the log 200 ms, and threads that are about to end
    /// up to 1 s. Calls from several threads end together; a call from a callback or handler gets
    /// its report without waiting for the others.
    ShutdownReport Shutdown(std::chrono::milliseconds timeout);

    /// As `Shutdown`, without blocking: `done` (may be empty) is called once, on the runtime's
    /// executor or by whoever ends the client first, and inside of this call when the client has
    /// ended before; after it nothing is called any more, and what it throws is ignored. Callbacks
    /// that are owed when all else is done get the 200 ms only. For event loops and simulation,
    /// where the thread that would wait is the one that must go on.
    void ShutdownAsync(std::chrono::milliseconds timeout,
                       UniqueFunction<void(const ShutdownReport&)> done);

    const std::string& client_id() const;

private:
    explicit Client(std::shared_ptr<internal::ClientCore> core);
    std::shared_ptr<internal::ClientCore> core_;
};

}  // namespace qmq
