#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/executor.h"

#include "server/broker/acks.h"
#include "server/broker/delivery.h"
#include "server/broker/keeper.h"
#include "server/broker/members.h"
#include "server/broker/mover.h"
#include "server/broker/send_queue.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// One log with the subjects that lie in it, and everything that happens to them, on one strand.
///
/// A round: the requests that have gathered run one after another and append; then whoever can be
/// served is handed messages; then all of it is written by one call; then all are answered; then,
/// when somebody waits for it, one sync is asked for. A sync that comes back begins another round.
///
/// Threads: the public calls from any; everything else on the strand.
class Shard final : public store::StoreListener {
public:
    /// Opens the log in `<directory>/shard-<index>` and replays it.
    static Result<std::unique_ptr<Shard>> Open(std::uint32_t index,
                                               const BrokerOptions& options,
                                               const BrokerEnvironment& environment);
    ~Shard() override;

    /// Ok, and the request counts as queued; kResourceExhausted when there are too many or too
    /// many bytes already; kUnavailable when nothing is taken any more. `Send` and `Ack` need it.
    Status Admit(std::uint32_t requests, std::uint64_t bytes);
    void TakeBackAdmission(std::uint32_t requests, std::uint64_t bytes);

    void Send(std::unique_ptr<SendPart> part);
    void Subscribe(ResolvedKey key,
                   SubscribeRequest request,
                   std::uint64_t session,
                   std::shared_ptr<DeliverySink> sink);
    /// Tells `sink` from the strand.
    void Refuse(std::shared_ptr<DeliverySink> sink, Status status) {
        Post([sink = std::move(sink), status = std::move(status)] { sink->OnClosed(status); });
    }
    void Pull(ResolvedKey key, PullRequest request, UniqueFunction<void(Result<PullReply>)> done);
    void Ack(SharedKey key, std::vector<AckItem> items, AckDone done);
    void Reset(std::string subject,
               std::string group,
               StartPosition position,
               UniqueFunction<void(Status)> done);
    void ListSubjects(UniqueFunction<void(std::vector<SubjectInfo>)> done);
    /// Of one subject, or of all when it is empty.
    void ListGroups(std::string subject, UniqueFunction<void(std::vector<GroupInfo>)> done);

    // By the session that `Subscribe` was given; nothing happens when another has taken over.
    void Grant(SharedKey key, std::uint64_t session, Credit credit);
    void Detach(SharedKey key, std::uint64_t session);
    void Leave(SharedKey key, std::uint64_t session);

    void Close(UniqueFunction<void(Status)> done);
    /// No call has an effect any more, and no callback comes: as if the process had died.
    void Kill();
    bool dead() const { return dead_.load(std::memory_order_acquire); }

    const store::RecoveryReport& recovery() const { return recovery_; }
    /// What `real_subject` promises. Any thread.
    Durability Promise(std::string_view real_subject) const {
        return core_.state.Promise(real_subject);
    }

    Durability best_durability() const { return core_.options.best_durability; }

    // store::StoreListener
    Status CheckAction(std::string_view action) override;
    Status OnSnapshot(std::string_view state) override;
    Status OnAction(std::string_view action, store::LogOffset end) override;
    void OnMessages(store::SubjectLog& subject,
                    std::uint64_t first_sequence,
                    const BatchView& batch,
                    store::RecordTime time) override;
    void OnSynced(store::LogOffset synced) override;
    void OnFailed(const Status& status) override;
    void OnDropped(store::SubjectLog& subject) override;
    std::string TakeSnapshot() override;
    std::uint64_t ConsumedBelow(const store::SubjectLog& subject) override;
    bool MayDrop(std::span<const Going> going) override;

private:
    Shard(std::uint32_t index, const BrokerOptions& options, const BrokerEnvironment& environment);

    Status OpenStore();
    void AfterOpen();
    template <typename F>
    void Post(F task) {
        strand_->Post([this, task = std::move(task)]() mutable {
            if (!dead()) {
                task();
            }
        });
    }
    void EndOfRound();
    bool IsTooMuchInMemory();
    void RetainIfDue();
    Status Flush();
    void TakeBack();
    void Stop(const Status& status);
    void SyncIfWanted();
    void DropExpired();
    void CountDropped(Group& group, const State::Dropped& dropped, std::uint64_t below);
    void FinishClose(Status status);

    // Timers.
    void Arm();
    ShardMs NextTimer();
    void OnTimer();
    void Tick();

    const std::uint32_t index_;
    ShardCore core_;
    Mover mover_;
    Delivery delivery_;
    Keeper keeper_;
    Acks acks_;
    Members members_;
    SendQueue sends_;
    store::RecoveryReport recovery_;

    std::atomic<bool> dead_{false};
    std::atomic<bool> refusing_{false};
    std::atomic<bool> busy_is_told_{false};
    std::atomic<std::uint64_t> queued_requests_{0};
    std::atomic<std::uint64_t> queued_bytes_{0};

    std::vector<store::SubjectLog*> dropped_;
    bool dropped_on_full_disk_ = false;
    Status failure_;  ///< As the store told; acted upon at the end of the round.
    bool failed_ = false;
    UniqueFunction<void(Status)> closed_;
    bool closing_ = false;
    store::LogOffset synced_up_to_ = 0;  ///< Of the last sync that was asked for.
    ShardMs flush_at_ms_ = -1;
    ShardMs tick_at_ms_ = -1;
    ShardMs retain_at_ms_ = -1;
    ShardMs drop_at_ms_ = 0;
    TimerId timer_ = 0;
    ShardMs timer_at_ms_ = -1;
    // Last, so that it goes first: its tasks name the rest.
    std::unique_ptr<Strand> strand_;
};

}  // namespace qmq::broker
