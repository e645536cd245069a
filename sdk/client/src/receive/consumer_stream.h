#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/transport.h"

#include "sdk/client/src/base/mutex.h"
#include "sdk/client/src/base/runtime.h"
#include "sdk/client/src/link/broker_link.h"
#include "sdk/client/src/receive/ack_policy.h"
#include "sdk/client/src/receive/delivery_run.h"
#include "sdk/client/src/receive/stream_books.h"

namespace qmq::internal {

struct StreamConfig {
    SubscribeRequest request;
    std::chrono::milliseconds max_processing_time{};
    std::chrono::microseconds ack_linger{};
    const AckPolicy* policy = &AtLeastOnce();
    /// Credit is granted by `RequestMessages` only.
    bool on_demand = false;
    CreditWindow::Limits credit;
};

/// What the options of both kinds of consumers say alike.
template <typename Options>
StreamConfig MakeStreamConfig(const Options& options,
                              const std::string& group,
                              const std::string& client_id) {
    StreamConfig config;
    config.request.key = {options.subject, group, client_id, ConsumeSource::kBoth};
    config.request.filter = options.tags.filter();
    config.request.start = options.start;
    config.request.retry = options.retry;
    config.request.ack_timeout = options.ack_timeout;
    config.max_processing_time = options.max_processing_time;
    return config;
}

/// Told by its streams, without their locks.
class StreamOwner {
public:
    virtual ~StreamOwner() = default;
    /// Messages to handle.
    virtual void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) = 0;
    /// More may be asked for: something has ended, or a stream is new and nothing is granted.
    virtual void OnRoom() {}
    /// The broker has answered acks, or a resumption has left none to be answered.
    virtual void OnAcksConfirmed() {}
    /// What `ready` answers, of a stream or of their set, may have changed.
    virtual void OnReadinessChanged() {}
};

/// One consumer's membership at one broker group: receives, acks, renews, and resumes for ever.
///
/// Here are the stream's life, its timers and what goes over the wire; what is held, decided and
/// owed is in its books. What runners have finished lies in the runs until a flush collects it,
/// under this lock and then the run's, so that an ack and a resumption cannot pass each other.
/// Thread-safe; transport and owner are called without the lock.
class ConsumerStream final : public LinkObserver,
                             public std::enable_shared_from_this<ConsumerStream> {
public:
    ConsumerStream(std::shared_ptr<ClientRuntime> runtime,
                   std::shared_ptr<BrokerLink> link,
                   StreamConfig config,
                   std::weak_ptr<StreamOwner> owner);
    ~ConsumerStream() override;

    void Start();
    const std::shared_ptr<BrokerLink>& link() const { return link_; }
    const std::string& broker_group() const { return link_->name(); }
    const ProcessMark& process() const { return runtime_->process(); }

    /// Whether more messages are taken: if not, what arrives all the same goes back at once. Of two
    /// calls that meet the one with the higher `version` counts.
    void SetAccepting(std::uint64_t version, bool accepting);
    void SetCreditLimits(const CreditWindow::Limits& limits);
    /// On demand: as many more messages may come as are missing until `count` are granted, with so
    /// many bytes for each and no fewer than `least_bytes`. (Missing by now: callers may meet.)
    void RequestMessages(std::uint64_t count,
                         std::uint64_t bytes_per_message,
                         std::uint64_t least_bytes);
    /// Arrived and not ended.
    std::uint64_t held_count() const;

    // Of runners.

    /// Has recorded an ack in one of the runs: it leaves within `ack_linger`.
    void NoteAcked() {
        if (!linger_armed_.load(std::memory_order_relaxed)) {
            ArmLinger(config_.ack_linger);
        }
    }
    /// Has claimed a message, and a handler begins: the broker hears of it with what is sent next,
    /// at the latest after a while, unless the message is decided by then.
    void NoteClaimed() {
        if (!begin_armed_.load(std::memory_order_relaxed)) {
            ArmBegin();
        }
    }
    /// Has handled so many: half a window of them is worth telling the broker.
    void NoteHandled(std::uint64_t count) {
        if (handled_.fetch_add(count, std::memory_order_relaxed) + count >=
            half_window_.load(std::memory_order_relaxed)) {
            Flush();
        }
    }
    /// Has claimed the last message of a run, which had been here for `wait`: the credit window
    /// follows that.
    void NoteWaited(std::chrono::nanoseconds wait) {
        if (wait.count() > longest_wait_.load(std::memory_order_relaxed)) {
            longest_wait_.store(wait.count(), std::memory_order_relaxed);
        }
    }
    /// Whether leases may be over, since no renewal was answered for so long (the process stood
    /// still, or the broker is away): then nothing more is claimed, but `OnLeasesOver` called.
    bool leases_over(TimePoint now) const {
        return now.time_since_epoch().count() > leases_until_.load(std::memory_order_relaxed);
    }
    void OnLeasesOver(TimePoint now);

    // Of deliveries.

    /// Decides one claimed message. `done` may be empty.
    void Decide(DeliveryRun& run, AckItem item, AckCallback done);
    void LogDeadLetter(const Message& message, std::string_view why) const;
    /// Calls `done` on the callback thread.
    void Answer(AckCallback done, Status status);
    /// One more, or one less, is in the application's hands without a decision.
    void NoteUndecided(std::int64_t change) {
        undecided_.fetch_add(change, std::memory_order_relaxed);
    }

    /// Sends what is decided, and gives credit back.
    void Flush();
    /// Asks for timers again that the executor has refused. So does whatever flushes.
    void RetryTimers();
    /// As `StreamBooks::ReleaseUnclaimed`.
    std::uint64_t ReleaseUnclaimed();
    /// As `StreamBooks::GiveBack`.
    std::uint64_t GiveBack(TimePoint arrived_before, std::uint64_t keep);

    /// Takes no more, and leaves the group when everything held has ended and is confirmed; then
    /// calls `closed`, once.
    void BeginClose(Task closed);
    /// The two parts of it: the first calls nothing, so it may be called under the owner's lock;
    /// the second does nothing when `CancelClose` came in between.
    void MarkClosing(Task closed);
    void GoOnClosing();
    /// It stays after all, unless it has left by now: then `closed` has been or will be called.
    /// Calls nothing; what it takes from now on is granted by the next flush.
    void CancelClose();
    /// Leaves now. Callbacks that wait are told `why`. Returns how many acks were unconfirmed.
    std::uint64_t Abort(const Status& why);

    bool live() const;
    /// Ok once the broker has confirmed that this is a member of the group; else the reason.
    Status ready() const;
    /// What the broker said when this subscribed last.
    std::vector<std::string> warnings() const;
    /// Decided and not confirmed.
    std::uint64_t unconfirmed_count() const;
    /// In the application's hands, and not decided.
    std::uint64_t undecided_count() const;
    std::uint64_t acked_count() const;
    std::uint64_t failed_count() const;
    std::uint64_t later_count() const;

    void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> connection) override;
    void OnLinkDown(BrokerLink& link, const Status& status) override;

private:
    class Listener;
    using News = StreamBooks::News;

    // consumer_stream.cc: the life of the stream.
    void Sync();
    void OnSubscribed(std::uint64_t generation, const SubscribeReply& reply);
    void OnClosed(std::uint64_t generation, const Status& status);
    std::vector<std::string> TakeWarnings(const std::vector<std::string>& warnings)
        QMQ_REQUIRES(mutex_);
    std::string WhyClosed(const Status& status) const;
    std::shared_ptr<DeliveryStream> TakeStream() QMQ_REQUIRES(mutex_);
    void Discard(std::shared_ptr<DeliveryStream> stream);
    void CheckClosed();
    void TellReadiness();
    void CancelTimers() QMQ_REQUIRES(mutex_);
    void Arm(TimerSlot ConsumerStream::*slot, TimePoint when, void (ConsumerStream::*fired)())
        QMQ_REQUIRES(mutex_);
    void RearmRefused() QMQ_REQUIRES(mutex_);

    // consumer_acks.cc: messages in, decisions out.
    void OnDelivery(std::uint64_t generation, std::vector<DeliveredBatch> batches);
    std::string Receive(const DeliveredBatch& batch,
                        Result<MessageReader> reader,
                        TimePoint now,
                        News* news) QMQ_REQUIRES(mutex_);
    void Collect() QMQ_REQUIRES(mutex_);
    void OnAckReply(std::uint64_t generation, std::uint64_t token, const Result<AckReply>& reply);
    void ArmLinger(std::chrono::microseconds delay);
    void Tell(News news);
    void TellRoom();
    void TellConfirmed();

    // consumer_leases.cc: what keeps messages ours.
    void ArmBegin();
    void OnBeginDue();
    void ArmRenewal(TimePoint now, bool first) QMQ_REQUIRES(mutex_);
    void Renew();
    void OnRenewed(std::uint64_t generation, TimePoint sent_at, const Result<AckReply>& reply);
    std::uint64_t GiveUpLeases(TimePoint now) QMQ_REQUIRES(mutex_);
    bool PutOff(DeliveryRun& run, AckItem& item, AckCallback& done) QMQ_REQUIRES(mutex_);
    void ArmDelayed() QMQ_REQUIRES(mutex_);
    void OnDelayedDue();
    void Release(std::vector<DelayedReleases::Entry> entries);
    bool TakesMore() const QMQ_REQUIRES(mutex_) { return accepting_ && !closing_; }
    void SetLeasesUntil(TimePoint until) {
        leases_until_.store(until.time_since_epoch().count(), std::memory_order_relaxed);
    }
    std::string Name() const;

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<BrokerLink> link_;
    const StreamConfig config_;
    const std::weak_ptr<StreamOwner> owner_;
    const std::string subject_;  // As handlers see it.

    std::atomic<std::uint64_t> half_window_;
    std::atomic<bool> linger_armed_{false};
    std::atomic<bool> begin_armed_;          // Without leases always: there nothing is to be told.
    std::atomic<std::uint64_t> handled_{0};  // Since the last flush.
    std::atomic<std::int64_t> longest_wait_{-1};  // Since credit was given last; nanoseconds.
    std::atomic<TimePoint::rep> leases_until_{TimePoint::max().time_since_epoch().count()};
    std::atomic<std::int64_t> undecided_{0};

    mutable Mutex mutex_;
    std::shared_ptr<DeliveryStream> stream_ QMQ_GUARDED_BY(mutex_);
    // Of the stream: what older ones say is ignored.
    std::uint64_t generation_ QMQ_GUARDED_BY(mutex_) = 0;
    bool opening_ QMQ_GUARDED_BY(mutex_) =
        false;                                  // Subscribe was called, the stream is not closed.
    bool live_ QMQ_GUARDED_BY(mutex_) = false;  // The broker has said what we hold.
    Status last_error_ QMQ_GUARDED_BY(mutex_);  // Why the last stream ended; ok while live.
    bool accepting_ QMQ_GUARDED_BY(mutex_) = true;
    std::uint64_t accepting_version_ QMQ_GUARDED_BY(mutex_) = 0;
    bool closing_ QMQ_GUARDED_BY(mutex_) = false;
    bool closed_ QMQ_GUARDED_BY(mutex_) = false;
    Task on_closed_ QMQ_GUARDED_BY(mutex_);
    std::optional<ResumePoint> resume_ QMQ_GUARDED_BY(mutex_);
    std::vector<std::string> warnings_ QMQ_GUARDED_BY(mutex_);
    std::set<std::string> logged_warnings_ QMQ_GUARDED_BY(mutex_);
    StreamBooks books_ QMQ_GUARDED_BY(mutex_);
    ReconnectMachine reconnect_ QMQ_GUARDED_BY(mutex_);
    Random random_ QMQ_GUARDED_BY(mutex_);
    TimerSlot reopen_timer_ QMQ_GUARDED_BY(mutex_);
    TimerSlot linger_timer_ QMQ_GUARDED_BY(mutex_);
    TimerSlot begin_timer_ QMQ_GUARDED_BY(mutex_);
    TimerSlot renew_timer_ QMQ_GUARDED_BY(mutex_);
    TimerSlot delayed_timer_ QMQ_GUARDED_BY(mutex_);
};

}  // namespace qmq::internal
