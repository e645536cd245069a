#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "qmq/transport.h"

#include "sdk/client/src/ack_window.h"
#include "sdk/client/src/broker_link.h"
#include "sdk/client/src/credit_window.h"
#include "sdk/client/src/delivery_run.h"
#include "sdk/client/src/runtime.h"

namespace qmq::internal {

struct StreamConfig {
    SubscribeRequest request;
    std::chrono::milliseconds max_processing_time{};
    std::chrono::microseconds ack_linger{};
    bool at_most_once = false;
    /// Credit is granted by `RequestMessages` only.
    bool on_demand = false;
    std::uint64_t credit_messages = 0;
    std::uint64_t credit_bytes = 0;
};

/// Told by its streams, without their locks.
class StreamOwner {
public:
    virtual ~StreamOwner() = default;
    /// Messages to handle.
    virtual void OnRuns(std::vector<std::shared_ptr<DeliveryRun>> runs) = 0;
    /// More may be asked for: something has ended, or the stream is new and nothing is granted.
    virtual void OnRoom() {}
    /// The broker has answered acks.
    virtual void OnAcksConfirmed() {}
};

/// One consumer's membership at one broker group: receives, acks, renews, and resumes for ever.
///
/// What is held is in the `AckWindow`; what runners have finished lies in the runs until a flush
/// collects it, under this lock and then the run's, so that an ack and a resumption cannot pass
/// each other. Thread-safe.
class ConsumerStream final : public LinkObserver,
                             public std::enable_shared_from_this<ConsumerStream> {
public:
    ConsumerStream(std::shared_ptr<ClientRuntime> runtime,
                   std::shared_ptr<BrokerLink> link,
                   StreamConfig config,
                   std::weak_ptr<StreamOwner> owner);
    ~ConsumerStream() override;

    void Start();
    const std::string& broker_group() const { return link_->name(); }

    /// Takes no more messages: what arrives all the same goes back at once.
    void SetAccepting(bool accepting);
    void SetCreditLimits(std::uint64_t messages, std::uint64_t bytes);
    /// On demand: `count` more messages may come.
    void RequestMessages(std::uint64_t count, std::uint64_t bytes);
    /// Granted and not arrived.
    std::int64_t requested_count() const;
    /// Arrived and not ended.
    std::uint64_t held_count() const;

    /// A runner has recorded an ack in one of the runs: it leaves within `ack_linger`.
    void NoteAcked() {
        if (!linger_armed_.load(std::memory_order_relaxed)) {
            ArmLinger(config_.ack_linger);
        }
    }
    /// A runner has handled so many: half a window of them is worth telling the broker.
    void NoteHandled(std::uint64_t count) {
        if (handled_.fetch_add(count, std::memory_order_relaxed) + count >=
            half_window_.load(std::memory_order_relaxed)) {
            Flush();
        }
    }
    /// Decides one claimed message. `done` may be empty.
    void Decide(DeliveryRun& run, AckItem item, AckCallback done);
    /// Calls `done` on the callback thread.
    void Answer(AckCallback done, Status status);
    /// Sends what is decided, and gives credit back.
    void Flush();
    /// Hands back what nobody has claimed. Returns how many messages.
    std::uint64_t ReleaseUnclaimed();

    /// Takes no more, and leaves the group when everything held has ended and is confirmed; then
    /// calls `closed`, once.
    void BeginClose(Task closed);
    struct Left {
        std::uint64_t unconfirmed = 0;
    };
    /// Leaves now. Callbacks that wait are told `why`.
    Left Abort(const Status& why);

    bool live() const;
    /// Decided and not confirmed.
    std::uint64_t unconfirmed_count() const;
    std::uint64_t acked_count() const { return acked_count_.load(std::memory_order_relaxed); }
    std::uint64_t failed_count() const { return failed_count_.load(std::memory_order_relaxed); }

    void OnLinkUp(BrokerLink& link, std::shared_ptr<BrokerConnection> connection) override;
    void OnLinkDown(BrokerLink& link, const Status& status) override;

private:
    class Listener;
    using Lock = std::unique_lock<std::mutex>;
    using Answers = std::vector<AckWindow::Answer>;
    using Runs = std::vector<std::shared_ptr<DeliveryRun>>;

    // consumer_stream.cc: the life of the stream.
    void Sync();
    void OnSubscribed(std::uint64_t generation, const SubscribeReply& reply);
    void OnClosed(std::uint64_t generation, const Status& status);
    void DropLocked();
    SubscribeRequest MakeRequest() const;
    void Discard(std::shared_ptr<DeliveryStream> stream);
    void CheckClosed();

    // consumer_acks.cc: messages in, decisions out.
    void OnDelivery(std::uint64_t generation, std::vector<DeliveredBatch> batches);
    std::shared_ptr<DeliveryRun> Receive(const DeliveredBatch& batch,
                                         Result<MessageReader> reader,
                                         std::string* line);
    void Collect();
    void EndMessages(DeliveryRun& run, std::uint64_t count);
    void AckOnReceipt(const std::shared_ptr<DeliveryStream>& stream,
                      std::uint64_t generation,
                      Runs runs);
    void OnReceiptAcked(std::uint64_t generation, Runs runs, const Result<AckReply>& reply);
    void OnAckReply(std::uint64_t generation, std::uint64_t token, const Result<AckReply>& reply);
    void ArmLinger(std::chrono::microseconds delay);
    void ArmRenewal();
    void Renew();
    void GiveUp(const SequenceRange& range);
    void RunAnswers(Answers answers);
    void TellRoom();

    const std::shared_ptr<ClientRuntime> runtime_;
    const std::shared_ptr<BrokerLink> link_;
    const StreamConfig config_;
    const std::weak_ptr<StreamOwner> owner_;
    const std::string subject_;  // As handlers see it.
    std::atomic<std::uint64_t> half_window_;

    std::atomic<bool> linger_armed_{false};
    std::atomic<std::uint64_t> handled_{0};  // Since the last flush.
    std::atomic<std::uint64_t> acked_count_{0};
    std::atomic<std::uint64_t> failed_count_{0};

    mutable std::mutex mutex_;
    // Everything below is guarded by mutex_.
    std::shared_ptr<DeliveryStream> stream_;
    std::uint64_t generation_ = 0;  // Of the stream: what older ones say is ignored.
    bool opening_ = false;          // Subscribe was called, the stream is not closed.
    bool live_ = false;             // The broker has said what we hold.
    bool accepting_ = true;
    bool closing_ = false;
    bool closed_ = false;
    Task on_closed_;
    std::optional<ResumePoint> resume_;
    AckWindow window_;
    CreditWindow credit_;
    std::map<std::uint64_t, std::shared_ptr<DeliveryRun>> runs_;  // By first sequence.
    std::uint64_t receipt_acks_ = 0;  // At most once: batches acked on receipt, not confirmed.
    ReconnectMachine reconnect_;
    Random random_;
    TimerSlot reopen_timer_;
    TimerSlot linger_timer_;
    TimerSlot renew_timer_;
};

}  // namespace qmq::internal
