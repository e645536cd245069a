#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "server/broker/acks.h"
#include "server/broker/delivery.h"
#include "server/broker/shard_core.h"

namespace qmq::broker {

/// A request with its names resolved: whose member of which group.
struct ResolvedKey {
    std::string subject;  ///< Of the group: the real one, but for what is consumed in place.
    std::string group;
    std::string consumer_id;
    ConsumeSource source = ConsumeSource::kBoth;

    ConsumerName names() const { return {{subject, group}, consumer_id, source}; }
};

/// Shared, because each call of a session needs it on the strand.
using SharedKey = std::shared_ptr<const ResolvedKey>;

/// Checks `key` and finds the group that it means. A group's retry subject is a part of the group;
/// dead letters, and other groups' retries, are consumed as ordinary subjects.
Result<ResolvedKey> Resolve(const ConsumerKey& key);
/// All of a request but its key. kInvalidArgument names the field, its value and its range.
Status ValidateSubscribe(const SubscribeRequest& request);

/// Consumers come, are lost, come back, and are forgotten; groups alike.
class Members {
public:
    Members(ShardCore& core, Delivery& delivery, Acks& acks)
        : core_(core), delivery_(delivery), acks_(acks) {}

    void Subscribe(const ResolvedKey& key,
                   const SubscribeRequest& request,
                   std::uint64_t session,
                   std::shared_ptr<DeliverySink> sink);
    void Pull(const ResolvedKey& key,
              PullRequest& request,
              UniqueFunction<void(Result<PullReply>)> done);

    /// By the session that holds it now, else null.
    Consumer* FindSession(const ResolvedKey& key, std::uint64_t session);
    void Grant(Consumer& consumer, Credit credit);
    void Detach(Consumer& consumer);
    void Leave(Consumer& consumer);
    /// A consumer without a session has shown that it lives.
    void Touch(Consumer& consumer);

    void Reset(const GroupName& name, StartPosition position, UniqueFunction<void(Status)> done);

    /// Consumers that the replay found are away; each has a while to come back.
    void AfterReplay();
    void OnTimer(const Timer& timer);
    /// Answers pulls that have waited long enough. After the round was written, since until then
    /// something may come.
    void ExpirePulls();
    void OnSynced(store::LogOffset synced);
    /// Closes every session and pull with `status`. Consumers keep what they hold.
    void CloseAll(const Status& status);
    /// Forgets groups that nobody used for long.
    void EvictIdle();

private:
    struct Durable {
        store::LogOffset end = 0;
        UniqueFunction<void(const Status&)> then;
    };

    Result<Consumer*> Join(const ResolvedKey& key,
                           const SubscribeRequest& request,
                           bool sessionless,
                           SubscribeReply& reply);
    void PlaceLive(Group& group, std::uint64_t next_sequence, bool reset, store::LogOffset end);
    void OnDurable(Group& group);
    void TellDisagreement(Group& group, const std::vector<std::string>& lines);
    SubscribeReply Resume(Consumer& consumer, const ResumePoint& resume);
    void Disconnect(Consumer& consumer, const Status& status);
    void Announce(Consumer& consumer);
    void AnswerPulls(Consumer& consumer);
    void WhenDurable(store::LogOffset end, UniqueFunction<void(const Status&)> then);
    void GoneTooLong(Consumer& consumer);
    void ArmPull(Consumer& consumer);

    ShardCore& core_;
    Delivery& delivery_;
    Acks& acks_;
    Ring<Durable> durable_;
    std::vector<Consumer*> due_pulls_;  ///< Have pulls whose time may be over.
};

}  // namespace qmq::broker
