#pragma once

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
#include "server/broker/held_table.h"
#include "server/broker/ring.h"
#include "server/store/shard_store.h"

/// What a shard knows of its groups and their consumers, besides what it does with them.
namespace qmq::broker {

/// A message that nobody holds and that goes to the next consumer, before anything new.
struct Loose {
    std::int64_t since_ms = 0;
    std::uint32_t attempt = 1;  ///< Of its next delivery.
    /// Nobody knows whether the filter let it through: the record of its hand-out is damaged.
    bool unfiltered = false;
};

/// A message that is tried again when it is due.
struct Waiting {
    std::int64_t due_ms = 0;  ///< Wall clock.
    std::uint64_t sequence = 0;
    std::int64_t since_ms = 0;
    std::uint32_t attempt = 1;  ///< Of its next delivery.

    friend bool operator<(const Waiting& a, const Waiting& b) {
        return a.due_ms != b.due_ms ? a.due_ms < b.due_ms : a.sequence < b.sequence;
    }
};

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
    /// Held entries from here to `resend_end` did not arrive: they go again before anything else.
    std::uint64_t resend_next = 0;
    std::uint64_t resend_end = 0;
    std::vector<DeliveredBatch> out;  ///< Of this round.
    bool listed_out = false;
    bool listed_trim = false;
    bool member = false;          ///< In `group->members`.
    ShardMs lease_timer_ms = -1;  ///< When its timers run; -1: not set.
    ShardMs gone_timer_ms = -1;
    ShardMs pull_timer_ms = -1;

    bool connected() const { return sink != nullptr || !pulls.empty(); }
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
    RetryPolicy policy;
    TagFilter filter;
    /// Pull sequences of consumers yet to come begin here: none is used twice, so that a late ack
    /// of a forgotten consumer cannot hit another message.
    std::uint64_t pull_floor = 0;
    std::map<std::uint64_t, Loose> redelivery[2];  ///< By origin.
    std::set<Waiting> waiting;                     ///< Of the retry subject, or in place.
    std::map<ConsumerId, std::unique_ptr<Consumer>> consumers;

    std::uint64_t serial = 0;
    /// Its position survives a power cut, so it may be served.
    bool durable = false;
    store::LogOffset durable_end = 0;  ///< Of the record that must be synced first.
    bool listed_ready = false;
    std::vector<Consumer*> members;  ///< Those connected, in the order of their coming.
    std::size_t turn = 0;
    ShardMs due_timer_ms = -1;
    ShardMs idle_since_ms = 0;
    std::uint64_t dead_letter_count = 0;
    std::uint64_t expired_count = 0;
    std::uint64_t skipped_count = 0;

    bool in_place() const { return subject->kind != SubjectKind::kReal; }
    /// The log in which sequences of `origin` count; null when there is none yet.
    Subject* Log(Origin origin) const { return origin == Origin::kSubject ? subject : retry; }
    /// Where messages wait for their time.
    Origin waiting_origin() const { return in_place() ? Origin::kSubject : Origin::kRetry; }
    GroupName names() const { return {subject->name, name}; }
};

inline ConsumerName NamesOf(const Consumer& consumer) {
    return {consumer.group->names(), consumer.id, consumer.source};
}

inline bool Takes(ConsumeSource source, Origin origin) {
    return source == ConsumeSource::kBoth ||
           (source == ConsumeSource::kSubject) == (origin == Origin::kSubject);
}

}  // namespace qmq::broker
