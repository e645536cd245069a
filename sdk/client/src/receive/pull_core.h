#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "qmq/pull_consumer.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/readiness.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/receive/consumer_stream.h"
#include "sdk/client/src/receive/stream_set.h"

namespace qmq::internal {

/// A pull consumer: a set of streams whose credit is what pulls ask for, and a queue of pulls. They
/// are served in the order in which they came. Thread-safe.
///
/// What arrives when the pull that asked for it has ended already waits for the next one, for at
/// most a third of the ack time-out; then it goes back.
class PullCore final : public StreamOwner, public std::enable_shared_from_this<PullCore> {
public:
    PullCore(std::shared_ptr<ClientRuntime> runtime,
             std::shared_ptr<Router> router,
             std::shared_ptr<LinkPool> links,
             PullConsumerOptions options,
             std::string group,
             UniqueFunction<void(const PullCore*)> on_gone);

    const ProcessMark& process() const { return runtime_->process(); }
    void Start();
    Status PullAsync(const PullOptions& options, PullConsumer::Callback callback);
    Result<std::vector<Delivery>> Pull(const PullOptions& options);
    Status WaitReady(std::chrono::milliseconds timeout);
    Status Close(std::chrono::milliseconds timeout);

    /// Ends waiting pulls and leaves when what is out has been ended. `closed` is called once.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t handed_back = 0;
        std::uint64_t acks_unconfirmed = 0;
        std::uint64_t undecided = 0;
    };
    Left Abort(const Status& why);

    void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) override;
    void OnRoom() override;
    void OnReadinessChanged() override { readiness_.Changed(); }

private:
    using Answer = UniqueFunction<void(Result<std::vector<Delivery>>)>;
    struct Request {
        std::uint64_t id = 0;
        std::uint32_t max_messages = 0;
        TimePoint until{};
        Answer answer;
        TimerId timer = 0;
    };
    struct Due {
        Answer answer;
        Result<std::vector<Delivery>> result;
    };
    struct Served {
        std::vector<Due> due;
        std::vector<std::shared_ptr<ConsumerStream>> lapsed;  ///< Their leases may be over.
        TimePoint now{};
    };

    /// Not ok: not taken, and `answer` is not called.
    Status Enqueue(const PullOptions& options, Answer answer);
    /// Serves the first request if something is there for it.
    void Serve(Served* served) QMQ_REQUIRES(mutex_);
    /// Arrived and not ended, here or in the application's hands.
    std::uint64_t HeldCount() const;
    std::uint64_t Room() const QMQ_REQUIRES(mutex_);
    std::vector<Delivery> Take(std::uint32_t max_messages, Served* served) QMQ_REQUIRES(mutex_);
    void Ask();
    void OnTimeout(std::uint64_t id);
    /// What arrived at `arrived` and waits goes back then.
    TimePoint StaleAt(TimePoint arrived) const { return arrived + options_.ack_timeout / 3; }
    void ArmStaleTimer() QMQ_REQUIRES(mutex_);
    void OnStale(TimerSlot::Shot shot);
    void ReleaseUnclaimed() QMQ_EXCLUDES(mutex_);
    void OnStreamsClosed();
    Status TimeoutStatus() const;
    Status ready() const;
    /// At the end of every entry, without the lock.
    static void Finish(Served served);

    const std::shared_ptr<ClientRuntime> runtime_;
    const PullConsumerOptions options_;
    const std::string group_;
    const std::shared_ptr<StreamSet> streams_;
    Readiness readiness_;

    mutable Mutex mutex_;
    CondVar changed_;
    UniqueFunction<void(const PullCore*)> on_gone_ QMQ_GUARDED_BY(mutex_);
    std::deque<std::shared_ptr<DeliveryRun>> ready_ QMQ_GUARDED_BY(mutex_);
    std::deque<Request> requests_ QMQ_GUARDED_BY(mutex_);
    std::uint64_t next_id_ QMQ_GUARDED_BY(mutex_) = 1;
    TimerSlot stale_timer_ QMQ_GUARDED_BY(mutex_);
    bool closing_ QMQ_GUARDED_BY(mutex_) = false;
    bool closed_ QMQ_GUARDED_BY(mutex_) = false;
    std::uint64_t handed_back_ QMQ_GUARDED_BY(mutex_) = 0;
    Status close_reason_ QMQ_GUARDED_BY(mutex_) = Status::Cancelled("the pull consumer was closed");
    std::vector<Task> on_closed_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal

namespace qmq {
struct PullConsumerAccess {
    static PullConsumer Make(std::shared_ptr<internal::PullCore> core) {
        return PullConsumer(std::move(core));
    }
};
}  // namespace qmq
