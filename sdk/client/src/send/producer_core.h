#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qmq/producer.h"
#include "qmq/transport.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/link/router.h"
#include "sdk/client/src/send/batcher.h"
#include "sdk/client/src/send/budget.h"
#include "sdk/client/src/send/deadlines.h"
#include "sdk/client/src/send/hand_outs.h"
#include "sdk/client/src/send/lane_set.h"

namespace qmq::internal {

/// What an entry of a producer has to hand out once it has let go of the lock.
struct ProducerAnswers {
    struct Batch {
        std::shared_ptr<ProducerAccess::State> state;
        /// None: it was split, and has all.
        std::optional<ProducerAccess::State::Outcome> whole;
    };
    std::vector<Batch> batches;
    /// The batches of a frame, of which those that nobody holds any more are kept.
    std::vector<BatchPtr> used;
    /// Whose answer did not come, once for each frame.
    std::vector<std::pair<std::shared_ptr<BrokerLink>, Status>> silent;
    std::vector<Task> drained;
    /// Of the hand-out, when there are batches.
    std::uint64_t number = 0;
    /// An answer came over a wire: callbacks may run on the thread that brought it.
    bool from_wire = false;

    bool empty() const {
        return batches.empty() && used.empty() && silent.empty() && drained.empty();
    }
};

/// A producer: takes messages, gathers them into batches, and sends frames of batches, one lane a
/// broker group. Thread-safe.
///
/// It keeps the lock, and moves batches between its parts: `Batcher` makes them, `LaneSet` says
/// which way they go and when, `Deadlines` when their time is over, `Budget` how many there may be.
/// Every entry, whether a call of the application's, an answer, a route, a link or the timer, is a
/// `Turn`: its end settles what has changed. Nobody has to remember which lane or timer that was.
///
/// A lane that has fewer than two frames unanswered sends what is there from the calling thread;
/// else messages gather until their batch is full, has lingered, or a frame is answered. One thread
/// at a time pumps a lane, so that frames leave in the order in which they were filled; what others
/// add meanwhile it takes along.
class ProducerCore final : public LinkObserver,
                           public RouteWatcher,
                           public SendWaker,
                           public std::enable_shared_from_this<ProducerCore> {
public:
    static std::shared_ptr<ProducerCore> Make(std::shared_ptr<ClientRuntime> runtime,
                                              std::shared_ptr<Router> router,
                                              std::shared_ptr<LinkPool> links,
                                              const ProducerOptions& options);
    ~ProducerCore() override;
    ProducerCore(const ProducerCore&) = delete;
    ProducerCore& operator=(const ProducerCore&) = delete;

    const ProcessMark& process() const { return runtime_->process(); }
    const ProducerOptions& options() const { return options_; }
    struct How {
        std::chrono::milliseconds timeout;
        bool may_wait;  ///< For room.
    };
    How Usual() const { return {options_.timeout, options_.when_full == WhenFull::kBlock}; }
    /// Not ok: it was not taken, `message` is as it was, and nothing comes.
    Status Send(Message& message, How how, SendCallback callback);
    SendFuture Send(Message message, How how);
    Status Flush(std::chrono::milliseconds timeout);
    Producer::Stats stats();

    /// Takes nothing new and sends what is there. `drained` is called once, when all is answered.
    void BeginClose(Task drained);
    struct Left {
        std::uint64_t unknown = 0;
        std::uint64_t refused = 0;
    };
    /// Answers everything that is not answered, now.
    Left Abandon();
    bool idle();
    /// Callbacks that are due and have not run.
    std::uint64_t callbacks_owed() const { return budget_.owed()->callbacks(); }
    /// For tests, while nothing else goes on: empty, or what waits although it could go.
    std::string FindStuck();
    /// For tests: subjects that were looked at to give lanes to what they have.
    std::uint64_t looked_at();

    /// Somebody waits, or knows that no more will come: what is gathered goes now.
    void Wake() override;
    void OnResumed(std::size_t bytes) override;
    bool MayWaitForAnswers() const override { return runtime_->MayWaitForAnswers(); }
    void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> connection) override;
    void OnLinkDown(BrokerLink& link, const Status& status) override;
    void OnRoute(const RouteKey& key, const KnownRoute& known) override;
    void OnRouteError(const RouteKey& key, const Status& status, std::uint64_t number) override;

private:
    /// Where an entry comes from.
    enum class Origin : std::uint8_t {
        kCaller,  ///< A call of the application's.
        kInside,  ///< Likewise, from a callback or handler of this client.
        kClient   ///< An answer, a route, a link, the timer.
    };

    using Answers = ProducerAnswers;

    /// An entry: holds the lock, and settles at its end.
    class QMQ_SCOPED_CAPABILITY Turn {
    public:
        Turn(ProducerCore& core, Origin from) QMQ_ACQUIRE(core.mutex_) : core_(core), origin(from) {
            core_.mutex_.lock();
        }
        ~Turn() QMQ_RELEASE() QMQ_NO_THREAD_ANALYSIS { core_.Settle(*this); }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

        /// Made when something is to be handed out: most entries have nothing.
        Answers& answers() { return answers_.has_value() ? *answers_ : answers_.emplace(); }

    private:
        friend class ProducerCore;
        ProducerCore& core_;
        std::optional<Answers> answers_;

    public:
        const Origin origin;
    };

    ProducerCore(std::shared_ptr<ClientRuntime> runtime,
                 std::shared_ptr<Router> router,
                 std::shared_ptr<LinkPool> links,
                 const ProducerOptions& options);

    // producer_core.cc: taking messages, and the end of each entry.
    Status Check(const Message& message,
                 std::chrono::milliseconds timeout,
                 std::size_t* bytes,
                 bool* in_time) const;
    Status CheckSize(const Message& message, std::size_t bytes) QMQ_REQUIRES(mutex_);
    Status Take(Message& message, How how, SendCallback& callback, SendFuture* future);
    Status Admit(std::size_t bytes, TimePoint deadline, bool may_wait) QMQ_REQUIRES(mutex_);
    SubjectQueue& Gather(Batcher::Taken taken,
                         std::optional<std::size_t> hash,
                         SendFuture* future,
                         bool* made) QMQ_REQUIRES(mutex_);
    void NoteNotTaken();
    Status WaitForRoom(std::size_t bytes, TimePoint deadline) QMQ_REQUIRES(mutex_);
    void SealAll() QMQ_REQUIRES(mutex_);
    static Status TooLarge(std::size_t message_bytes, std::uint64_t max_batch_bytes);
    void Settle(Turn& turn) QMQ_RELEASE(mutex_);
    void Advance(Origin origin) QMQ_REQUIRES(mutex_);
    void PumpAll(Origin origin) QMQ_REQUIRES(mutex_);
    void Arm() QMQ_REQUIRES(mutex_);
    void HandOut(Answers answers) QMQ_EXCLUDES(mutex_);
    void EndHandOut(Answers& answers, std::vector<std::shared_ptr<ProducerAccess::State>> ready)
        QMQ_EXCLUDES(mutex_);
    bool PostCallbacks(std::vector<std::shared_ptr<ProducerAccess::State>> states, bool from_wire);
    Left AbandonAll(Answers* answers) QMQ_REQUIRES(mutex_);
    bool IsDrained() const QMQ_REQUIRES(mutex_) {
        return closing_ && deadlines_.empty() && hand_outs_.empty();
    }
    void NoteClosing() QMQ_REQUIRES(mutex_);
    void AwaitHandOuts() QMQ_REQUIRES(mutex_);

    // producer_events.cc: what comes from elsewhere.
    void Pump(const LanePtr& lane, int rounds) QMQ_REQUIRES(mutex_);
    bool HandOver(const LanePtr& lane) QMQ_REQUIRES(mutex_);
    void Encode(Frame& frame) QMQ_EXCLUDES(mutex_);
    void WaitEncoded(const PendingBatch& batch) QMQ_REQUIRES(mutex_);
    void SendFrame(BrokerConnection& connection, std::shared_ptr<Frame> frame) QMQ_EXCLUDES(mutex_);
    void OnFrameDone(const std::shared_ptr<Frame>& frame, std::vector<BatchReceipt> receipts);
    void Apply(const BatchPtr& batch, const BatchReceipt& receipt, Answers* answers)
        QMQ_REQUIRES(mutex_);
    void Finish(const BatchPtr& batch,
                const SendStep& step,
                const BatchReceipt* receipt,
                Answers* answers) QMQ_REQUIRES(mutex_);
    void GiveBackRoom(PendingBatch& batch, ProducerAccess::State& state, bool complete)
        QMQ_REQUIRES(mutex_);
    std::size_t ShareReason(Status* reason) QMQ_REQUIRES(mutex_);
    void RefuseTooLarge(SubjectQueue& subject, Answers* answers) QMQ_REQUIRES(mutex_);
    void OnTimer(TimerSlot::Shot shot);
    void Expire(TimePoint now, Answers* answers) QMQ_REQUIRES(mutex_);
    void ExplainWait(PendingBatch& batch) QMQ_REQUIRES(mutex_);
    void Trim(TimePoint now) QMQ_REQUIRES(mutex_);
    void ForgetIdle(TimePoint since, std::size_t at_most) QMQ_REQUIRES(mutex_);
    static RouteKey RouteKeyOf(const SubjectQueue& queue) {
        return {ClientRole::kProducer, queue.details->name};
    }
    void WatchRoute(const RouteKey& key) QMQ_EXCLUDES(mutex_);

    /// When there are many subjects, those without users are looked at this often, and forgotten
    /// when nobody has sent to them for as long.
    static constexpr std::chrono::minutes kIdlePause{5};
    /// What is kept for later messages is given back when for so long there was none.
    static constexpr std::chrono::seconds kTrimPause{1};

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<Router> router_;
    const std::shared_ptr<LinkPool> links_;
    const ProducerOptions options_;

    Mutex mutex_;
    CondVar room_;      // There is room, or no more will come.
    CondVar answered_;  // A flush or a hand-out is over.
    CondVar encoded_;
    Budget budget_;
    Batcher batcher_;
    LaneSet lanes_ QMQ_GUARDED_BY(mutex_);
    Deadlines deadlines_ QMQ_GUARDED_BY(mutex_){batcher_.subjects()};
    TimerSlot timer_ QMQ_GUARDED_BY(mutex_);
    Random random_ QMQ_GUARDED_BY(mutex_);
    bool closing_ QMQ_GUARDED_BY(mutex_) = false;
    bool abandoned_ QMQ_GUARDED_BY(mutex_) = false;
    std::vector<Task> drained_ QMQ_GUARDED_BY(mutex_);
    HandOuts hand_outs_;
    // Subjects that nobody sends to any more are looked for at this time.
    TimePoint idle_at_ QMQ_GUARDED_BY(mutex_) = TimePoint::max();
    // Nothing was outstanding: whether that is so still, and no batch was made since the one with
    // this id, is looked at then.
    TimePoint trim_at_ QMQ_GUARDED_BY(mutex_) = TimePoint::max();
    std::uint64_t trim_id_ QMQ_GUARDED_BY(mutex_) = 0;
    // Something that the timer is to fire for may have come nearer, beside deadlines and lanes.
    bool arm_ QMQ_GUARDED_BY(mutex_) = false;
    struct Counts {
        std::uint64_t persisted = 0;
        std::uint64_t unknown = 0;
        std::uint64_t refused = 0;
        std::uint64_t retried_batches = 0;
    };
    Counts counts_ QMQ_GUARDED_BY(mutex_);
    Status last_reason_ QMQ_GUARDED_BY(mutex_);  // Why a batch failed.
    std::atomic<std::uint64_t> not_taken_{0};
    std::atomic<std::uint64_t> blocked_{0};  // Calls that wait for room.
};

}  // namespace qmq::internal
