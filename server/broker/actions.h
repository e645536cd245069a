#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "qmq/protocol.h"
#include "qmq/status.h"

/// What happened to messages, as the log keeps it. Every record stands alone: it names subject,
/// group and consumer in full. docs/design/broker.md is the manual; the numbers are on disk.
namespace qmq::broker {

/// In which log a sequence of a group counts.
enum class Origin : std::uint8_t {
    kSubject = 0,  ///< The subject of the group.
    kRetry = 1     ///< Its retry subject.
};

struct GroupName {
    std::string_view subject;
    std::string_view group;
};

struct ConsumerName {
    GroupName group;
    std::string_view consumer_id;
    ConsumeSource source = ConsumeSource::kBoth;
};

/// Both ends included.
struct PullRange {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    friend bool operator==(const PullRange&, const PullRange&) = default;
};

/// A group begins, or begins anew: `reset` also forgets what is in flight and what waits.
struct GroupPlaced {
    GroupName group;
    std::uint64_t next_sequence = 0;
    bool reset = false;
};

/// A group without consumers was forgotten.
struct GroupGone {
    GroupName group;
};

struct ConsumerSettings {
    std::chrono::milliseconds ack_timeout{60'000};
    std::chrono::milliseconds reconnect_grace{2'000};
    /// It pulls by single requests, and lives from one to the next.
    bool sessionless = false;
    friend bool operator==(const ConsumerSettings&, const ConsumerSettings&) = default;
};

/// A consumer is there, or has changed what it asks for. Filter and policy are its group's.
struct Subscribed {
    ConsumerName consumer;
    TagFilter filter;
    RetryPolicy retry;
    ConsumerSettings settings;
};

/// From where messages were taken to be handed out.
enum class TakenFrom : std::uint8_t { kNew = 0, kRedelivery = 1, kWaiting = 2 };

struct HandOutRun {
    Origin origin = Origin::kSubject;
    TakenFrom from = TakenFrom::kNew;
    std::uint64_t first_sequence = 0;
    std::uint32_t count = 0;
    std::uint32_t attempt = 1;
    std::int64_t due_ms = 0;  ///< kWaiting only: with the sequence it finds the entry.
    friend bool operator==(const HandOutRun&, const HandOutRun&) = default;
};

/// Messages went to a consumer, with dense pull sequences from `first_pull_sequence`.
struct HandedOut {
    ConsumerName consumer;
    std::uint64_t first_pull_sequence = 0;
    std::int64_t time_ms = 0;  ///< Wall clock.
    /// The group goes on here: past what was new, and past what its filter skipped.
    std::uint64_t next_sequence = 0;
    std::vector<HandOutRun> runs;
    /// Where the group was before: a replay that has not come so far knows that damage took a
    /// hand-out.
    std::uint64_t from_sequence = 0;
};

/// The filter of a group let nothing through below `next_sequence`.
struct Skipped {
    GroupName group;
    std::uint64_t next_sequence = 0;
    std::uint64_t from_sequence = 0;  ///< As in `HandedOut`.
};

struct Acked {
    ConsumerName consumer;
    std::vector<PullRange> ranges;
};

/// Held messages go back into the redelivery queue.
struct Released {
    ConsumerName consumer;
    bool counted = true;  ///< Whether the attempt counts.
    std::vector<PullRange> ranges;
};

/// Held messages wait where they are, of a subject that has no retry subject.
struct Deferred {
    ConsumerName consumer;
    std::int64_t due_ms = 0;
    std::vector<PullRange> ranges;
};

/// The action half of a move: the originals are done with, their copies are the message half.
/// Either a consumer held them, or (`consumer_id` empty) they were in the redelivery queue.
struct Moved {
    ConsumerName consumer;
    std::int64_t since_ms = 0;         ///< When the oldest was first handed out.
    std::vector<PullRange> ranges;     ///< Pull sequences, or sequences of the redelivery queue.
    Origin origin = Origin::kSubject;  ///< Of the redelivery queue.
};

/// A consumer was forgotten; what it held goes to others, its attempt counted.
struct ConsumerGone {
    ConsumerName consumer;
};

using Action = std::variant<GroupPlaced,
                            GroupGone,
                            Subscribed,
                            HandedOut,
                            Skipped,
                            Acked,
                            Released,
                            Deferred,
                            Moved,
                            ConsumerGone>;

/// The bytes of `action`, replacing what `out` had.
void Encode(const Action& action, std::string& out);

/// kDataLoss says at which byte it does not make sense, kUnimplemented names a kind or version of a
/// newer program. Views point into `bytes`.
Result<Action> DecodeAction(std::string_view bytes);

}  // namespace qmq::broker
