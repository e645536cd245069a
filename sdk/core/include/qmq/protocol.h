#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "qmq/clock.h"
#include "qmq/function.h"
#include "qmq/slice.h"
#include "qmq/status.h"

/// The words that clients, transports and brokers exchange. A transport turns them into its wire
/// form and back; it adds and decides nothing.
///
/// Each `Validate` answers kInvalidArgument with the field, its value and its range: call it on
/// what came from outside.
namespace qmq {

/// What has happened to a message before its sender is told "persisted". The numbers travel: never
/// renumber.
enum class Durability : std::uint8_t {
    kDefault = 0,  ///< Whatever the subject promises. Only in requests.
    kMemory = 1,   ///< In the broker's memory.
    kPageCache =
        2,  ///< Written to the operating system: survives kill -9 of the broker, not a power cut.
    kFsync = 3,           ///< Synced to the disk: survives a power cut.
    kReplicated = 4,      ///< Held by a replica as well.
    kReplicatedFsync = 5  ///< Synced on both.
};
std::string_view ToString(Durability durability);
/// "memory", "page_cache", "fsync", "replicated", "replicated_fsync". kInvalidArgument names the
/// choices.
Result<Durability> ParseDurability(std::string_view text);

/// What became of a send.
enum class SendOutcome : std::uint8_t {
    kPersisted = 0,  ///< Stored as durably as the receipt says.
    kRefused = 1,    ///< Not stored, and never will be.
    kUnknown = 2     ///< No answer: it may be stored.
};
std::string_view ToString(SendOutcome outcome);

/// What a broker takes, as it tells in its answer to a discovery. More may be added: whoever does
/// not say has these.
struct BrokerLimits {
    /// Most bytes of a batch, its header (16 bytes) included, and so of a message as it travels.
    std::uint64_t max_batch_bytes = 4U << 20;
    friend bool operator==(const BrokerLimits&, const BrokerLimits&) = default;
};

/// Messages of one subject on their way to the log, encoded as docs/design/batch-format.md says.
/// Stored whole or not at all.
struct SendBatch {
    std::string subject;
    Slice batch;
    /// At least this; the subject's own promise counts when it is higher.
    Durability durability = Durability::kDefault;
};

struct BatchReceipt {
    Status status;  ///< Ok exactly when persisted.
    SendOutcome outcome = SendOutcome::kUnknown;
    Durability durability = Durability::kDefault;  ///< Reached.
    std::uint64_t first_sequence =
        0;  ///< Of the subject in its broker group; the others follow densely.
};

/// One receipt a batch, in the order of the frame.
using SendDone = UniqueFunction<void(std::vector<BatchReceipt>)>;

enum class TagMode : std::uint8_t { kNone = 0, kAny = 1, kAll = 2 };  // [I] NO_TAG, OR, AND.

/// Which messages a member of a group asks for. Each member is handed only what its own filter lets
/// through, and the group passes over a message only when no member wants it, those included that
/// are away and have their `reconnect_grace` left. What one member passes over and another one,
/// full or paused, wants is set aside for it, up to a bound; then the group waits. What was handed
/// out once is never passed over: when no member wants it any more, it waits for one that does.
/// Members that differ are told so. A group has at most 64 different filters; more are refused.
struct TagFilter {
    TagMode mode = TagMode::kNone;
    std::vector<std::string> tags;  ///< kAny and kAll: 1 to 10. kNone: none.
    friend bool operator==(const TagFilter&, const TagFilter&) = default;
};
Status Validate(const TagFilter& filter);

/// Where a consumer group begins that the broker does not know yet.
enum class StartPosition : std::uint8_t { kLatest = 1, kEarliest = 2 };  // [I] CONSUME_MANAGE.

/// Which messages a consumer is handed: those of the subject, those that its group is to try again,
/// or both.
///
/// What is still needed of a segment that goes is kept as a copy in the group's retry subject: for
/// the members of the group it stays what it was. A group that reads the retry subject of another
/// one as its own subject is handed such a copy like any other message there, though nothing has
/// failed, and again each time that it is kept anew.
enum class ConsumeSource : std::uint8_t { kBoth = 0, kSubject = 1, kRetry = 2 };

/// How a message that a handler could not use is delivered again. Each member of a group brings its
/// own: the waits are those of the member whose handler failed, and the message becomes a dead
/// letter after the greatest `max_attempts` of all members. Members that differ are told so.
/// A message of a dead-letter subject has no last attempt: one that its handler failed comes again,
/// at least 1 s later unless the handler says when, until it is acked or rejected.
struct RetryPolicy {
    /// Attempts of handlers before the message becomes a dead letter. Range: [1, 65,535]. 32 as in
    /// other clients.
    std::uint32_t max_attempts = 32;
    /// Wait before the second delivery. Range: [0, 24 h].
    std::chrono::milliseconds initial_backoff{5'000};
    /// Each wait is this much longer than the one before. Range: [1, 10].
    double multiplier = 2.0;
    /// Range: [initial_backoff, 7 d].
    std::chrono::milliseconds max_backoff{600'000};
    friend bool operator==(const RetryPolicy&, const RetryPolicy&) = default;
};
/// All of its problems at once.
Status Validate(const RetryPolicy& policy);

/// One member of a consumer group, for as long as it keeps its id.
struct ConsumerKey {
    std::string subject;
    std::string group;
    std::string consumer_id;
    ConsumeSource source = ConsumeSource::kBoth;
    friend auto operator<=>(const ConsumerKey&, const ConsumerKey&) = default;
};
/// The subject may be a retry or dead-letter subject.
Status Validate(const ConsumerKey& key);

/// What a consumer that comes back still holds, so that the broker and it agree again.
struct ResumePoint {
    std::uint64_t incarnation = 0;         ///< As the last `SubscribeReply` said.
    std::uint64_t next_pull_sequence = 0;  ///< One more than the highest that arrived.
};

struct SubscribeRequest {
    ConsumerKey key;
    TagFilter filter;
    StartPosition start = StartPosition::kLatest;
    RetryPolicy retry;
    /// A message neither acked nor renewed for this long is delivered to another consumer. Range:
    /// [1 s, 12 h].
    std::chrono::milliseconds ack_timeout{60'000};
    /// How long what it holds stays its own after its connection was lost. Range: [0, 1 h].
    std::chrono::milliseconds reconnect_grace{2'000};
    std::optional<ResumePoint> resume;
};
/// All of its parts too.
Status Validate(const SubscribeRequest& request);

struct SubscribeReply {
    /// Another number means that the broker has started anew.
    std::uint64_t incarnation = 0;
    /// What the consumer holds from before with a pull sequence below this is still its own; the
    /// rest is not, and will be delivered again.
    std::uint64_t held_below = 0;
    /// What the application should know, for people: members of the group that ask for other tags
    /// or have another retry policy.
    std::vector<std::string> warnings = {};
};

/// Messages on their way to a consumer. Message i has pull sequence `first_pull_sequence + i`, the
/// consumer's own count by which it acks (it rises, and jumps where the broker has started anew),
/// and sequence `first_sequence + i` in its subject (or its retry subject).
struct DeliveredBatch {
    std::uint64_t first_pull_sequence = 0;
    std::uint64_t first_sequence = 0;
    std::uint32_t count = 0;
    std::uint32_t attempt = 1;
    bool from_retry = false;
    /// A whole batch, in two pieces when the broker made a header for a part of a stored one: the
    /// same bytes that were sent.
    Slice header;
    Slice body;
};

/// How much more a consumer is ready to take. Credits add up. A delivery uses up its messages and
/// the bytes of its batches (header and body); it is made while both are positive, so it may
/// overdraw the bytes, which counts against the next grant. A new stream begins with none.
struct Credit {
    std::uint32_t messages = 0;
    std::uint64_t bytes = 0;
};

enum class AckVerdict : std::uint8_t {
    kAck = 0,    ///< Done with.
    kRetry = 1,  ///< Deliver again, after `delay` or the group's back-off; a dead letter when the
                 ///< attempts are used up.
    kDeadLetter = 2,  ///< Never deliver again: to the dead-letter subject at once.
    kRenew = 3,       ///< Still at work: the ack time-out starts anew.
    kRelease = 4,  ///< Not begun: give it to another consumer now, and do not count this attempt.
    kBegin = 5     ///< A handler has it: should the consumer die or its lease end from here on, the
                   ///< attempt counts. Changes nothing else.
};

struct AckItem {
    AckVerdict verdict = AckVerdict::kAck;
    std::uint64_t first = 0;  ///< Pull sequences, both ends included.
    std::uint64_t last = 0;
    /// kRetry only; the group's back-off when absent.
    std::optional<std::chrono::milliseconds> delay;
    /// kRetry and kDeadLetter: why, for people. At most 4,096 bytes are kept.
    std::string error;
    /// How durable the verdict must be before the request is answered: kMemory (once the broker has
    /// recorded it; a power cut may forget it, and the message comes again), kDefault (as durable
    /// as the subject promises its messages), or one of the others.
    Durability durability = Durability::kMemory;
};
Status Validate(const AckItem& item);

/// Pull sequences, both ends included.
struct PullRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    friend bool operator==(const PullRange&, const PullRange&) = default;
};

/// Which messages of a request the consumer did not hold any more (acked before, expired, or given
/// to another): nothing was done for these. Those of kBegin do not count, and what two acks in a
/// row both name is asked for once.
struct AckReply {
    /// In the order of the items; within an item ascending. A broker that would need more than
    /// `kMostNotHeld` ranges lets the last one reach over what lies between.
    std::vector<PullRange> not_held = {};

    static constexpr std::size_t kMostNotHeld = 1'024;
    /// Adds `range`, as part of the last one where that ends just before it.
    void AddNotHeld(PullRange range);
    /// Messages in `not_held`, or the largest number when there are more.
    std::uint64_t not_held_count() const;
};
using AckDone = UniqueFunction<void(Result<AckReply>)>;

struct SubjectInfo {
    std::string subject;
    std::uint64_t first_sequence = 0;  ///< Oldest that is kept.
    std::uint64_t next_sequence = 0;
    std::uint64_t stored_bytes = 0;
    Durability durability = Durability::kFsync;
};

struct GroupInfo {
    std::string subject;
    std::string group;
    std::uint64_t next_sequence = 0;  ///< The next one to hand out.
    std::uint64_t lag_count = 0;      ///< Kept and not yet acked, waiting retries included.
    std::uint64_t in_flight_count = 0;
    std::uint64_t waiting_retry_count = 0;
    std::uint64_t dead_letter_count = 0;  ///< Since the broker started.
    std::uint32_t consumer_count = 0;     ///< Connected now.
    /// Age of the oldest message that was handed out and is neither acked nor given up.
    std::optional<std::chrono::milliseconds> oldest_unacked_age;
    /// Of the lag: passed over by one member, and not yet taken by another one that wants it.
    std::uint64_t set_aside_count = 0;
    /// Of the lag: handed out before, and wanted by no member that is there now.
    std::uint64_t unwanted_count = 0;
    /// Of the lag: held before by consumers that died, left or let the lease end, without a word
    /// that a handler had begun.
    std::uint64_t suspect_count = 0;
    /// Messages that went while they were unread, held, or waiting to be tried again, by cause.
    /// Since the store was made, as its snapshots have it, which are written now and then and at an
    /// orderly end. After a crash (kill -9 as well as a power cut) what was counted since the last
    /// one as damage or burial is forgotten, and what a full disk took may count as retention.
    std::uint64_t lost_to_retention_count = 0;
    std::uint64_t lost_to_full_disk_count = 0;  ///< Could not be kept: no room to move them to.
    std::uint64_t lost_to_damage_count = 0;     ///< The disk does not have them any more.
    std::uint64_t lost_to_burial_count = 0;     ///< No segment holds their dead letter.
    /// Why the group does not move, for people. Empty: it does.
    std::string waits_for;
};

}  // namespace qmq
