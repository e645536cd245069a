#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/protocol.h"
#include "qmq/status.h"

#include "server/env/event.h"
#include "server/env/file_system.h"
#include "server/store/shard_store.h"

namespace qmq::broker {

struct BrokerOptions {
    /// Where the shards keep their data, each in a folder of its own.
    std::string directory;
    /// Range: [1, 64]. Fixed for the life of the data, and recorded with it. Subjects are spread
    /// over shards by name; a retry or dead-letter subject lies with its real one.
    std::uint32_t shards = 1;
    /// What a subject promises that no pattern names. kMemory, kPageCache or kFsync.
    Durability default_durability = Durability::kFsync;
    /// Subjects with a promise of their own: exact names, or a prefix ending in '*'; the longest
    /// that fits counts.
    std::vector<std::pair<std::string, Durability>> subject_durability;
    /// The most that this data directory can promise: kMemory when it lies in memory.
    Durability best_durability = Durability::kFsync;
    /// How often what nobody waits for is synced all the same. Range: [10 ms, 1 min].
    std::chrono::milliseconds flush_interval{500};
    /// Waiting requests and their bytes, per shard; beyond it the answer is kResourceExhausted at
    /// once. Ranges: [1, 2^20], [1 MiB, 16 GiB].
    std::uint32_t max_queued_requests = 65'536;
    std::uint64_t max_queued_bytes = 256U << 20;
    /// A consumer may hold this many un-acked messages at most, whatever its credit. Range: [1,
    /// 2^20].
    std::uint32_t max_in_flight_per_consumer = 65'536;
    /// Where members of a group ask for different tags: most messages that one of them has passed
    /// over and that wait for another one, which is full or paused. Beyond it the group waits.
    /// Range: [0, 2^20].
    std::uint32_t max_set_aside_per_group = 10'000;
    /// Delay before a message that another client sent to a retry subject is delivered. Range: [0,
    /// 1 h].
    std::chrono::milliseconds retry_delay{5'000};
    /// A group without consumers is forgotten after this long, unless there is something that it
    /// has not read, or that waits for it. Range: [1 min, 10 y].
    std::chrono::milliseconds idle_group_retention = std::chrono::hours(24 * 30);
    store::StoreOptions store;  ///< `directory` is set per shard.
};

struct BrokerEnvironment {
    env::FileSystem& files;
    const Clock& clock;
    /// Timers, and the strands' overflow.
    Executor& executor;
    /// Syncs; may block.
    Executor& io;
    Strand::Mode strand_mode = Strand::Mode::kInline;
    /// Of what is made once and at random, as the seed of a new log's checksums.
    std::uint64_t seed = 0;
    /// Hears what people should know: losses, damage, jumps of the clock, limits, a shard that has
    /// stopped. Called on the shards' strands, several at once, and while `Open` runs.
    env::EventListener& events = env::NoEvents();
};

/// Takes what a session hands out. Calls come from a shard's strand, never two at a time, never
/// inside a call to the session but possibly before `Broker::Subscribe` has returned.
class DeliverySink {
public:
    virtual ~DeliverySink() = default;
    /// First, once.
    virtual void OnSubscribed(const SubscribeReply& reply) = 0;
    virtual void OnDelivery(std::vector<DeliveredBatch> batches) = 0;
    /// Last, once; also instead of `OnSubscribed` when the broker refused. kCancelled after
    /// `Close`; kAlreadyExists when the same consumer id subscribed again elsewhere (the newest
    /// wins); kUnavailable when the broker stops.
    virtual void OnClosed(const Status& status) = 0;
};

/// A consumer that is connected. Thread-safe. The calls return at once and may run the shard on the
/// calling thread.
class Session {
public:
    /// Destroying it is `Detach`.
    virtual ~Session() = default;
    virtual void Grant(Credit credit) = 0;
    virtual void Ack(std::vector<AckItem> items, AckDone done) = 0;
    /// The consumer leaves: what it holds goes to others now, as if it had died. The attempt counts
    /// of what a handler had begun, and of a suspect, which was handed out alone; of the rest a
    /// death. Of what is given back before (kRelease) nothing counts.
    virtual void Close() = 0;
    /// The connection is lost: what it holds stays its own for `reconnect_grace`.
    virtual void Detach() = 0;
};

struct PullRequest {
    SubscribeRequest consumer;
    std::uint32_t max_messages = 50;
    std::uint64_t max_bytes = 4U << 20;
    /// How long the broker may hold the request while there is nothing. Zero answers at once.
    std::chrono::milliseconds max_wait{0};
};

struct PullReply {
    SubscribeReply subscribed;
    std::vector<DeliveredBatch> batches;  ///< Empty: nothing came in time.
};

/// The broker: subjects, consumer groups, delivery and acks over `shards` logs. Knows no transport,
/// socket or thread.
///
/// Thread-safe. Every call returns at once; callbacks come exactly once, on a shard's strand,
/// perhaps before the call returns.
///
/// Errors: kInvalidArgument (a name, a limit, a batch that does not parse; says which),
/// kResourceExhausted (queue full, disk full), kUnavailable (stopping, or the shard has stopped
/// writing after a failed sync), kUnimplemented (a delayed message: there is no delay server yet; a
/// durability beyond what this broker has).
class Broker {
public:
    static Result<std::unique_ptr<Broker>> Open(const BrokerOptions& options,
                                                const BrokerEnvironment& environment);
    /// Without `Close` it ends as a crash would: what was answered is safe, the rest is not.
    virtual ~Broker() = default;

    virtual void Send(std::vector<SendBatch> batches, SendDone done) = 0;

    virtual std::unique_ptr<Session> Subscribe(SubscribeRequest request,
                                               std::shared_ptr<DeliverySink> sink) = 0;

    /// For consumers without a session: a plain request, its acks by consumer id. They live by
    /// `ack_timeout` between pulls.
    virtual void Pull(PullRequest request, UniqueFunction<void(Result<PullReply>)> done) = 0;
    virtual void Ack(ConsumerKey consumer, std::vector<AckItem> items, AckDone done) = 0;

    /// Moves a group (its retries too); durable when `done` is called. kNotFound: no such subject
    /// or group.
    virtual void ResetGroup(std::string subject,
                            std::string group,
                            StartPosition position,
                            UniqueFunction<void(Status)> done) = 0;

    virtual void ListSubjects(UniqueFunction<void(Result<std::vector<SubjectInfo>>)> done) = 0;
    /// Of one subject, or of all when it is empty.
    virtual void ListGroups(std::string subject,
                            UniqueFunction<void(Result<std::vector<GroupInfo>>)> done) = 0;

    virtual std::vector<store::RecoveryReport> recovery() const = 0;

    /// Refuses new work, answers what it has, writes snapshots, syncs; then `done`, after which
    /// nothing is called any more.
    virtual void Close(UniqueFunction<void(Status)> done) = 0;
};

}  // namespace qmq::broker
