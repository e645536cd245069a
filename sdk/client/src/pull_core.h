#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "qmq/pull_consumer.h"

#include "sdk/client/src/consumer_stream.h"
#include "sdk/client/src/router.h"
#include "sdk/client/src/runtime.h"

namespace qmq::internal {

/// A pull consumer: a stream to each broker group whose credit is what pulls ask for. Pulls are
/// served in the order in which they came. Thread-safe.
///
/// What arrives when the pull that asked for it has ended already waits for the next one, for at
/// most a third of the ack time-out; then it goes back.
class PullCore final : public StreamOwner,
                       public RouteWatcher,
                       public std::enable_shared_from_this<PullCore> {
public:
    PullCore(std::shared_ptr<ClientRuntime> runtime,
             std::shared_ptr<Router> router,
             std::shared_ptr<LinkPool> links,
             PullConsumerOptions options,
             std::string group,
             UniqueFunction<void(const PullCore*)> on_gone);

    void Start();
    void PullAsync(const PullOptions& options, PullConsumer::Callback callback);
    Result<std::vector<Delivery>> Pull(const PullOptions& options);
    Status Close(std::chrono::milliseconds timeout);

    /// Ends waiting pulls and leaves when what is out has been ended. `closed` is called once.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t handed_back = 0;
        std::uint64_t acks_unconfirmed = 0;
    };
    Left Abort(const Status& why);

    void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) override;
    void OnRoom() override { Ask(); }
    void OnRoute(const RouteKey& key, const std::vector<BrokerGroup>& groups) override;
    void OnRouteError(const RouteKey& key, const Status& status) override;

private:
    using Lock = std::unique_lock<std::mutex>;
    using StreamPtr = std::shared_ptr<ConsumerStream>;
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

    RouteKey Key() const;
    void Enqueue(const PullOptions& options, Answer answer);
    /// Serves the first request if something is there for it.
    void ServeLocked(std::vector<Due>* due);
    std::vector<Delivery> TakeLocked(std::uint32_t max_messages);
    void Ask();
    void OnTimeout(std::uint64_t id);
    void ArmStaleTimer();
    void OnStale();
    void OnStreamClosed();
    Status TimeoutStatus() const;
    std::vector<StreamPtr> Streams() const;
    static void AnswerAll(std::vector<Due> due);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;
    const PullConsumerOptions options_;
    const std::string group_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    // Everything below is guarded by mutex_.
    UniqueFunction<void(const PullCore*)> on_gone_;
    std::map<std::string, StreamPtr> streams_;
    std::vector<StreamPtr> leaving_;
    std::deque<std::shared_ptr<DeliveryRun>> ready_;
    std::deque<Request> requests_;
    std::uint64_t next_id_ = 1;
    Status route_error_ = Status::Unavailable("the route is not known yet");
    TimePoint ready_since_{};
    TimerSlot stale_timer_;
    bool closing_ = false;
    bool closed_ = false;
    Status close_reason_ = Status::Cancelled("the pull consumer was closed");
    std::vector<Task> on_closed_;
};

}  // namespace qmq::internal

namespace qmq {
struct PullConsumerAccess {
    static PullConsumer Make(std::shared_ptr<internal::PullCore> core) {
        return PullConsumer(std::move(core));
    }
};
}  // namespace qmq
