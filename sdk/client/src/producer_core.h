#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/producer.h"
#include "qmq/transport.h"

#include "sdk/client/src/broker_link.h"
#include "sdk/client/src/producer_batch.h"
#include "sdk/client/src/router.h"
#include "sdk/client/src/runtime.h"

namespace qmq::internal {

/// A producer: takes messages, encodes each straight into the open batch of its subject, and sends
/// frames of batches, one lane a broker group. Thread-safe.
///
/// A lane that has fewer than two frames unanswered sends what is there from the calling thread;
/// else messages gather until their batch is full, has lingered, or a frame is answered. One thread
/// at a time pumps a lane, so that frames leave in the order in which they were filled; what others
/// add meanwhile it takes along.
class ProducerCore final : public LinkObserver,
                           public RouteWatcher,
                           public SendKicker,
                           public std::enable_shared_from_this<ProducerCore> {
public:
    ProducerCore(std::shared_ptr<ClientRuntime> runtime,
                 std::shared_ptr<Router> router,
                 std::shared_ptr<LinkPool> links,
                 ProducerOptions options);
    ~ProducerCore() override;
    ProducerCore(const ProducerCore&) = delete;
    ProducerCore& operator=(const ProducerCore&) = delete;

    const ProducerOptions& options() const { return options_; }
    /// With a callback the future is empty.
    SendFuture Send(Message message, std::chrono::milliseconds timeout, SendCallback callback);
    Status Flush(std::chrono::milliseconds timeout);

    /// Takes nothing new and sends what is there. `drained` is called once, when all is answered.
    void BeginClose(Task drained);
    struct Left {
        std::uint64_t unknown = 0;
        std::uint64_t refused = 0;
    };
    /// Answers everything that is not answered, now.
    Left Abandon();
    bool idle();

    /// Somebody waits, or knows that no more will come: what is gathered goes now.
    void Kick() override;
    void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> connection) override;
    void OnLinkDown(BrokerLink& link, const Status& status) override;
    void OnRoute(const RouteKey& key, const std::vector<BrokerGroup>& groups) override;
    void OnRouteError(const RouteKey& key, const Status& status) override;

private:
    using Lock = std::unique_lock<std::mutex>;
    using BatchPtr = std::shared_ptr<PendingBatch>;
    using LanePtr = std::shared_ptr<Lane>;

    /// A message that is sent.
    struct Taken {
        const Message& message;
        std::size_t bytes;  ///< Encoded.
        TimePoint now;
        SendCallback& callback;
    };
    /// A call of `Flush`: how many batches of earlier generations than `mark` are outstanding.
    struct FlushCall {
        std::uint64_t mark = 0;
        std::size_t left = 0;
    };

    // producer_core.cc: taking messages.
    Status Check(Message* message, std::chrono::milliseconds timeout) const;
    SendFuture Refuse(const Message& message, Status status, SendCallback callback);
    Status MakeRoom(Lock& lock, std::size_t bytes, TimePoint deadline);
    SubjectQueue& SubjectFor(std::string_view name, std::optional<std::size_t> hash, bool* made);
    void OpenFor(SubjectQueue& subject, std::size_t bytes, TimePoint now, TimePoint deadline);
    bool Joins(const Gathered& gathered, std::size_t bytes, TimePoint deadline) const;
    StagedMessage* Stage(const Taken& taken);
    void Append(PendingBatch& batch, const Taken& taken);
    void Unstage(const BatchPtr& batch);
    void Gather(SubjectQueue& subject, const Taken& taken, StagedMessage* staged);
    bool IsFull(const Gathered& gathered, std::size_t next_bytes) const;
    WallTime WallAt(TimePoint now);
    const std::shared_ptr<ProducerAccess::State>& StateOf(PendingBatch& batch);
    void Linger(const SubjectQueue& subject, std::uint64_t id, TimePoint deadline);
    BatchPtr MakeBatch(TimePoint deadline);
    void AddOutstanding(const BatchPtr& batch);
    void RemoveOutstanding(const BatchPtr& batch);
    RouteKey KeyOf(const SubjectQueue& subject) const;

    // producer_routes.cc: which lane a batch takes.
    void Place(const BatchPtr& batch, bool first);
    bool IsResting(Lane& lane);
    LanePtr PickLane(SubjectQueue& subject, const Lane* avoid);
    void AssignOpen(SubjectQueue& subject);
    void AssignStranded();
    void AssignSubject(SubjectQueue& subject);
    void Evacuate(Lane& lane);
    void SyncLane(Lock& lock, const LanePtr& lane);
    bool DropUnusedLanes();

    // producer_flow.cc: batches on their way through lanes.
    BatchPtr CloseOpen(SubjectQueue& subject);
    void SealOpen(SubjectQueue& subject);
    void SealAll();
    bool IsEager(const Lane& lane) const;
    bool CanSend(const Lane& lane, TimePoint now) const;
    bool HasSlot(const Lane& lane, TimePoint now) const;
    bool MayTakeOpen(const Lane& lane, bool eager, TimePoint now) const;
    static void PrefetchOpen(const Lane& lane);
    std::shared_ptr<Frame> TakeFrame(const LanePtr& lane);
    void Pump(Lock& lock, const LanePtr& lane);
    bool HandOver(const LanePtr& lane);
    void PumpAll(Lock& lock);
    void Prepare(PendingBatch& batch);
    void Encode(Frame& frame);
    void WaitEncoded(Lock& lock, const PendingBatch& batch);
    void SendFrame(const std::shared_ptr<BrokerConnection>& connection,
                   std::shared_ptr<Frame> frame);

    // producer_answers.cc: what became of batches, and time.
    void OnFrameDone(const std::shared_ptr<Frame>& frame, std::vector<BatchReceipt> receipts);
    void Apply(const BatchPtr& batch, const BatchReceipt& receipt, Finished* finished);
    void Split(const BatchPtr& batch);
    void Finish(const BatchPtr& batch,
                const SendStep& step,
                const BatchReceipt* receipt,
                Finished* finished);
    void Deliver(Finished finished, bool from_wire = false, std::vector<BatchPtr> answered = {});
    void ArmTimer();
    void OnTimer();
    void Expire(Lock& lock, TimePoint now, Finished* finished);
    void NoteLanguish(const BatchPtr& batch);

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;
    const ProducerOptions options_;

    std::mutex mutex_;
    std::condition_variable changed_;  // Room, or something answered.
    // Everything below is guarded by mutex_.
    MessageStage stage_;
    SubjectQueues subjects_;
    std::atomic<std::size_t> open_count_{0};  // Open batches. Changed under mutex_.
    SubjectQueue* last_subject_ = nullptr;
    std::map<std::string, LanePtr> lanes_;
    std::pmr::unsynchronized_pool_resource nodes_;  // Of outstanding_.
    PendingBatch::Outstanding outstanding_{&nodes_};
    std::vector<FlushCall*> flushes_;
    SpareParts spare_;
    std::multimap<TimePoint, BatchPtr> waiting_;
    std::uint64_t next_id_ = 1;
    std::uint64_t pending_count_ = 0;
    std::uint64_t pending_bytes_ = 0;
    std::uint32_t waiters_ = 0;
    TimePoint last_send_{};
    std::pair<TimePoint, WallTime> wall_;  // The wall clock's last reading, and when that was.
    std::uint32_t burst_ = 0;              // Messages in quick succession, the last one included.
    bool stranded_ = false;                // Some subject has a batch without a lane.
    bool closing_ = false;
    bool abandoned_ = false;
    std::vector<Task> drained_;
    Random random_;
    TimerSlot timer_;
};

}  // namespace qmq::internal
