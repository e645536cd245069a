#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "qmq/client.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/roster.h"

namespace qmq::internal {

/// How a client ends, once, however many ask for it:
///
/// 1. Consumers take nothing new; handlers that run end, and may send meanwhile.
/// 2. Producers take nothing new and flush: when the consumers have drained, or when so little time
///    is left that what is under way needs it.
/// 3. What is left is answered, groups are left, callbacks that are owed run, threads end.
///
/// Each step begins in one place, whoever comes first: the last consumer that has drained, a timer,
/// or a thread that waits. Thread-safe.
class ClientEnd final : public std::enable_shared_from_this<ClientEnd> {
public:
    ClientEnd(std::shared_ptr<ClientRuntime> runtime,
              std::shared_ptr<Roster> roster,
              std::shared_ptr<Router> router,
              std::shared_ptr<LinkPool> links,
              std::shared_ptr<Transport> transport);

    /// Blocks until it has ended, with `timeout` for the first two steps. Called from inside a
    /// handler, callback or the log sink it does not wait for that one, nor for others that are in
    /// here themselves.
    ShutdownReport Run(std::chrono::milliseconds timeout);
    /// As `Run`, without blocking: `done` is called once, on the work executor.
    void RunAsync(std::chrono::milliseconds timeout,
                  UniqueFunction<void(const ShutdownReport&)> done);

private:
    enum class Stage : std::uint8_t {
        kRunning,
        kConsumers,  ///< Step 1.
        kProducers,  ///< Step 2.
        kEnding,     ///< Step 3.
        kReported,   ///< In step 3: what is left is known, but for callbacks.
        kEnded
    };
    struct AsyncCall;
    class Inside;

    /// Step 1, once.
    void Begin() QMQ_EXCLUDES(mutex_);
    /// Step 2, once, after step 1.
    void CloseProducers() QMQ_EXCLUDES(mutex_);
    /// Step 3: true for the one who has to do it.
    bool TakeEnd() QMQ_EXCLUDES(mutex_);
    ShutdownReport EndAll(TimePoint until) QMQ_EXCLUDES(mutex_);
    void EndAsync() QMQ_EXCLUDES(mutex_);
    /// A call has less time than the one that ends the client: what that one waits for has no more.
    void Hurry(TimePoint until) QMQ_EXCLUDES(mutex_);

    void ConsumerDrained(const void* consumer) QMQ_EXCLUDES(mutex_);
    void ProducerDrained() QMQ_EXCLUDES(mutex_);
    /// Begins what the last change calls for. At the end of each entry.
    void Settle() QMQ_EXCLUDES(mutex_);
    /// None is left but those whose handlers wait in here.
    bool ConsumersDrained() const QMQ_REQUIRES(mutex_);
    /// And no producer.
    bool Drained() const QMQ_REQUIRES(mutex_);
    void WaitForDrain(TimePoint producers_by, TimePoint until) QMQ_EXCLUDES(mutex_);
    ShutdownReport AwaitOther(TimePoint until) QMQ_EXCLUDES(mutex_);
    ShutdownReport EndMembers() QMQ_EXCLUDES(mutex_);
    void EndThreads(ShutdownReport* report) QMQ_EXCLUDES(mutex_);
    /// False when it still waits for its threads: it is left behind.
    bool EndTransport(bool may_hang) QMQ_EXCLUDES(mutex_);
    void AnswerCalls(const ShutdownReport& report) QMQ_EXCLUDES(mutex_);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Roster> roster_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;

    mutable Mutex mutex_;
    CondVar changed_;
    Stage stage_ QMQ_GUARDED_BY(mutex_) = Stage::kRunning;
    std::shared_ptr<Transport> transport_ QMQ_GUARDED_BY(mutex_);  // Until step 3.
    Roster::Members members_ QMQ_GUARDED_BY(mutex_);               // Set once, by step 1.
    // Consumers by their address: those that have not drained, and those whose handlers are here,
    // however many handlers of one that are.
    std::set<const void*> consumers_left_ QMQ_GUARDED_BY(mutex_);
    std::set<const void*> inside_ QMQ_GUARDED_BY(mutex_);
    std::size_t producers_left_ QMQ_GUARDED_BY(mutex_) = 0;
    std::vector<std::shared_ptr<AsyncCall>> calls_ QMQ_GUARDED_BY(mutex_);
    ShutdownReport report_ QMQ_GUARDED_BY(mutex_);
    TimePoint end_by_ QMQ_GUARDED_BY(mutex_) = TimePoint::max();  // Of all calls, in step 3.
    bool transport_ended_ QMQ_GUARDED_BY(mutex_) = false;
};

}  // namespace qmq::internal
