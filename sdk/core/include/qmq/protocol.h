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

struct TagFilter {
    TagMode mode = TagMode::kNone;
    std::vector<std::string> tags;  ///< At most 10 (kAny and kAll: at least 1).
    friend bool operator==(const TagFilter&, const TagFilter&) = default;
};
Status Validate(const TagFilter& filter);

/// Where a consumer group begins that the broker does not know yet.
enum class StartPosition : std::uint8_t { kLatest = 1, kEarliest = 2 };  // [I] CONSUME_MANAGE.

/// Which messages a consumer is handed: those of the subject, those that its group is to try again,
/// or both.
enum class ConsumeSource : std::uint8_t { kBoth = 0, kSubject = 1, kRetry = 2 };

/// How a message that a handler could not use is delivered again. Kept by the broker for the group;
/// the newest subscriber's counts.
struct RetryPolicy {
    /// Deliveries before the message becomes a dead letter. Range: [1, 65,535]. 32 as in other
    /// clients.
    std::uint32_t max_attempts = 32;
    /// Wait before the second delivery. Range: [0, 24 h].
    std::chrono::milliseconds initial_backoff{5'000};
    /// Each wait is this much longer than the one before. Range: [1, 10].
    double multiplier = 2.0;
    /// Range: [initial_backoff, 7 d].
    std::chrono::milliseconds max_backoff{600'000};
    friend bool operator==(const RetryPolicy&, const RetryPolicy&) = default;
};
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
    kRelease = 4  ///< Not begun: give it to another consumer now, and do not count this attempt.
};

struct AckItem {
    AckVerdict verdict = AckVerdict::kAck;
    std::uint64_t first = 0;  ///< Pull sequences, both ends included.
    std::uint64_t last = 0;
    /// kRetry only; the group's back-off when absent.
    std::optional<std::chrono::milliseconds> delay;
    /// kRetry and kDeadLetter: why, for people. At most 4,096 bytes are kept.
    std::string error;
};
Status Validate(const AckItem& item);

/// How many messages of a request the consumer did not hold any more (acked before, expired, or
/// given to another): nothing was done for these.
struct AckReply {
    std::uint64_t not_held_count = 0;
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
};

}  // namespace qmq
