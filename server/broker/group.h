#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "qmq/protocol.h"

#include "server/broker/actions.h"
#include "server/broker/broker.h"
#include "server/broker/filter_slots.h"
#include "server/broker/held_table.h"
#include "server/broker/loose_queue.h"
#include "server/broker/policy_counts.h"
#include "server/broker/ring.h"
#include "server/broker/waiting_set.h"
#include "server/store/shard_store.h"

/// What a shard knows of its groups and their consumers, besides what it does with them.
namespace qmq::broker {

/// Why messages that a group still needed are gone.
enum class LossCause : std::uint8_t { kRetention, kFullDisk, kDamage, kBurial };
inline constexpr std::size_t kLossCauseCount = 4;

struct Consumer;
struct Group;

/// A subject of this shard.
struct Subject {
    std::string name;
    SubjectKind kind = SubjectKind::kReal;
    std::string real_name;   ///< Itself when it is real.
    std::string group_name;  ///< Of a retry or dead-letter subject.
    Durability promise = Durability::kFsync;
    store::SubjectLog* log = nullptr;  ///< Null only while the log is replayed.
    /// Messages below this may be handed out: they are as durable as promised.
    std::uint64_t readable_end = 0;
    /// Retention wants what lies below to go.
    std::uint64_t going_end = 0;
    std::map<std::string, std::unique_ptr<Group>, std::less<>> groups;
};

struct PullWaiter {
    std::uint32_t max_messages = 0;
    std::uint64_t max_bytes = 0;
    ShardMs deadline_ms = 0;
    SubscribeReply subscribed;
    UniqueFunction<void(Result<PullReply>)> done;
};

/// One member of a group. What the log knows of it comes first; the rest is this process's.
struct Consumer {
    Group* group = nullptr;
    std::string id;
    ConsumeSource source = ConsumeSource::kBoth;
    ConsumerSettings settings;
    TagFilter filter;
    RetryPolicy policy;
    HeldTable held;
    /// Its first pull sequence ever: what lies below belonged to an earlier consumer of its name.
    std::uint64_t born_at = 0;
    /// `held.next()` as the replay left it: what an earlier process handed out and is known of.
    std::uint64_t replayed_next = 0;

    std::uint64_t serial = 0;  ///< In place of the address, wherever order matters.
    std::shared_ptr<DeliverySink> sink;
    std::uint64_t session = 0;  ///< Of `sink`.
    SubscribeReply reply;
    bool announced = false;  ///< Its sink has had `OnSubscribed`.
    std::int64_t credit_messages = 0;
    std::int64_t credit_bytes = 0;
    Ring<PullWaiter> pulls;
    /// Since the last of `pulls` came, the group has looked what there is for it.
    bool pull_had_turn = false;
    /// Held entries from here to `resend_end` did not arrive: they go again before anything else.
    std::uint64_t resend_next = 0;
    std::uint64_t resend_end = 0;
    std::vector<DeliveredBatch> out;  ///< Of this round.
    bool listed_out = false;
    bool listed_trim = false;
    bool touched = false;                    ///< By the round that runs.
    bool member = false;                     ///< In `group->members`.
    FilterSlot filter_slot = kNoFilterSlot;  ///< Of `filter`, in `group->filters`.
    bool known = false;                      ///< Its filter and policy count in the group.
    ShardMs no_drain_before_ms = 0;  ///< It is not chosen to wait for a suspect before this.
    ShardMs drain_patience_ms = 0;   ///< How long it may drain without coming nearer to its end.
    ShardMs lease_timer_ms = -1;     ///< When its timers run; -1: not set.
    ShardMs gone_timer_ms = -1;
    ShardMs pull_timer_ms = -1;

    bool connected() const { return sink != nullptr || !pulls.empty(); }
    /// Whether its credit, or its pull, lets it take a message now.
    bool has_room() const {
        if (!announced) {
            return false;
        }
        return sink != nullptr ? credit_messages > 0 && credit_bytes > 0
                               : !pulls.empty() && pulls.front().max_messages > 0 &&
                                     pulls.front().max_bytes > 0;
    }
};

/// What a group had to tell people. Few ever have.
struct Told {
    /// The message that the last visit stopped at, because no more may be set aside.
    std::optional<std::uint64_t> stopped_at;
    bool limit = false;
    /// Hashes of the last words on members that differ, the newest last, and when that was.
    std::vector<std::uint64_t> disagreements;
    ShardMs disagreement_ms = 0;
};

/// A group's consumers by name and source.
struct ConsumerId {
    std::string id;
    ConsumeSource source = ConsumeSource::kBoth;
    friend auto operator<=>(const ConsumerId&, const ConsumerId&) = default;
};

/// A consumer group of a subject. Tens of thousands of them are idle: an idle one is this struct,
/// its name and nothing else.
struct Group {
    Subject* subject = nullptr;
    /// `%RETRY%subject%group`, once there is one. Never for a subject that is not real: there a
    /// message that failed waits where it is.
    Subject* retry = nullptr;
    std::string name;
    std::uint64_t next_sequence = 0;  ///< The next one of the subject to look at.
    /// Whether a subscriber has decided where it begins. Before that it only gathers retries that
    /// other clients sent.
    bool placed = false;
    /// Of the member that came last, but with the greatest `max_attempts` of all that are there.
    /// What no member has failed goes by it.
    RetryPolicy policy;
    FilterSlots filters;    ///< Of `consumers`.
    PolicyCounts policies;  ///< Likewise.
    /// Pull sequences of consumers yet to come begin here: none is used twice, so that a late ack
    /// of a forgotten consumer cannot hit another message.
    std::uint64_t pull_floor = 0;
    LooseQueue redelivery[kOriginCount];  ///< By origin.
    WaitingSet waiting;                   ///< Of the retry subject, or in place.
    std::map<ConsumerId, std::unique_ptr<Consumer>> consumers;

    std::uint64_t serial = 0;
    /// Its position survives a power cut, so it may be served.
    bool durable = false;
    store::LogOffset durable_end = 0;  ///< Of the record that must be synced first.
    bool listed_ready = false;
    std::vector<Consumer*> members;  ///< Those connected, in the order of their coming.
    std::size_t turn = 0;
    /// It is given nothing until it holds nothing: then it takes a suspect.
    Consumer* draining = nullptr;
    ShardMs drain_end_ms = 0;
    std::uint32_t drain_held = 0;  ///< What it held when `drain_end_ms` was set.
    /// Some of what was never handed out, from this sequence on, may be wanted by nobody any more:
    /// a filter went.
    bool pass_over = false;
    std::uint64_t pass_over_from = 0;
    std::unique_ptr<Told> told;
    ShardMs due_timer_ms = -1;
    ShardMs idle_since_ms = 0;
    std::uint64_t dead_letter_count = 0;
    std::uint64_t lost_count[kLossCauseCount] = {};  ///< By `LossCause`.
    bool touched = false;                            ///< By the round that runs.

    bool in_place() const { return subject->kind != SubjectKind::kReal; }
    /// The log in which sequences of `origin` count; null when there is none yet.
    Subject* Log(Origin origin) const { return origin == Origin::kSubject ? subject : retry; }
    /// Where messages wait for their time.
    Origin waiting_origin() const { return in_place() ? Origin::kSubject : Origin::kRetry; }
    Told& MakeTold() {
        told = told != nullptr ? std::move(told) : std::make_unique<Told>();
        return *told;
    }
    void PassOverFrom(std::uint64_t sequence) {
        pass_over_from = pass_over ? std::min(pass_over_from, sequence) : sequence;
        pass_over = true;
    }
    bool has_suspects() const {
        return std::any_of(std::begin(redelivery), std::end(redelivery), [](const auto& queue) {
            return !queue.suspects().empty();
        });
    }
    /// What lies in the redelivery queues.
    std::size_t loose_count() const {
        std::size_t count = 0;
        for (const LooseQueue& queue : redelivery) {
            count += queue.size();
        }
        return count;
    }
    GroupName names() const { return {subject->name, name}; }
};

inline ConsumerName NamesOf(const Consumer& consumer) {
    return {consumer.group->names(), consumer.id, consumer.source};
}

}  // namespace qmq::broker
