#pragma once

#include <array>
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

/// In which log a sequence of a group counts, and whom the message is for.
enum class Origin : std::uint8_t {
    kSubject = 0,  ///< The subject of the group.
    kRetry = 1,    ///< Its retry subject.
    /// Its retry subject, where it is the copy of a message of the subject whose segment went: it
    /// is for those that take the subject.
    kKept = 2
};
inline constexpr std::size_t kOriginCount = 3;
/// In the order in which messages of a group are handed out.
inline constexpr std::array<Origin, kOriginCount> kOrigins{
    Origin::kRetry, Origin::kKept, Origin::kSubject};

/// Of the copy that takes the place of a message of `origin`.
inline Origin KeptOf(Origin origin) {
    return origin == Origin::kRetry ? Origin::kRetry : Origin::kKept;
}

struct GroupName {
    std::string_view subject;
    std::string_view group;
};

struct ConsumerName {
    GroupName group;
    std::string_view consumer_id;
    ConsumeSource source = ConsumeSource::kBoth;
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

/// A consumer is there, or has changed what it asks for.
struct Subscribed {
    ConsumerName consumer;
    TagFilter filter;
    RetryPolicy retry;
    ConsumerSettings settings;
};

/// From where messages were taken to be handed out.
enum class TakenFrom : std::uint8_t { kNew = 0, kRedelivery = 1, kWaiting = 2 };

/// More deaths than this are not told apart.
inline constexpr std::uint8_t kMostDeaths = 3;

/// From this many deaths on a message is suspected to kill its consumers, and is handed out alone.
inline constexpr std::uint8_t kSuspectDeaths = 2;

/// Messages of a subject, one after another.
struct SequenceRun {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    friend bool operator==(const SequenceRun&, const SequenceRun&) = default;
};

struct HandOutRun {
    Origin origin = Origin::kSubject;
    TakenFrom from = TakenFrom::kNew;
    std::uint64_t first_sequence = 0;
    std::uint32_t count = 0;
    std::uint32_t attempt = 1;
    /// Consumers that died, or let the lease end, while they held it and had told of no handler
    /// that had begun: at most `kMostDeaths`.
    std::uint8_t deaths = 0;
    std::int64_t due_ms = 0;  ///< kWaiting only: by the log's running time.
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
    /// New ones in between that the consumer does not want and another member does: they wait for
    /// that one.
    std::vector<SequenceRun> aside = {};
};

/// The group goes on without a hand-out: no member wants what lies below `next_sequence`, but for
/// what is set aside.
struct Skipped {
    GroupName group;
    std::uint64_t next_sequence = 0;
    std::uint64_t from_sequence = 0;  ///< As in `HandedOut`.
    std::vector<SequenceRun> aside = {};
    /// Set aside before, never handed out, and wanted by no member any more: they are passed over.
    std::vector<SequenceRun> passed = {};
};

struct Acked {
    ConsumerName consumer;
    std::vector<PullRange> ranges;
};

/// Why held messages go back into the redelivery queue.
enum class ReleaseCause : std::uint8_t {
    kReturned = 0,  ///< The consumer gave them back, or never had them: nothing counts.
    kLost = 1       ///< It died, or let the lease end.
};

/// Held messages go back into the redelivery queue.
struct Released {
    ConsumerName consumer;
    ReleaseCause cause = ReleaseCause::kReturned;
    std::vector<PullRange> ranges;
    /// kLost: of these a handler had begun, so the attempt counts; of the others a death is
    /// counted.
    std::vector<PullRange> begun = {};
};

/// Held messages wait where they are, of a subject that has no retry subject.
struct Deferred {
    ConsumerName consumer;
    std::int64_t due_ms = 0;  ///< By the log's running time.
    std::vector<PullRange> ranges;
};

/// Why messages are appended anew.
enum class MoveCause : std::uint8_t {
    kVerdict = 0,  ///< To the retry or dead-letter subject: a consumer held them and said so, or
                   ///< (`consumer_id` empty) they were in the redelivery queue for too often.
    // The segment of the original goes, and the copy in the retry subject takes its place, message
    // by message, in the order of `ranges`; all else stays as it was:
    kKeptHeld = 1,        ///< A consumer holds them, and goes on to hold them.
    kKeptRedelivery = 2,  ///< They are in the redelivery queue.
    kKeptWaiting = 3      ///< They wait to be tried again.
};

/// The action half of a move: the originals are done with, their copies are the message half.
struct Moved {
    ConsumerName consumer;
    std::int64_t since_ms = 0;         ///< When the oldest was first handed out.
    std::vector<PullRange> ranges;     ///< Pull sequences, or sequences in the log of `origin`.
    Origin origin = Origin::kSubject;  ///< Of what nobody held.
    MoveCause cause = MoveCause::kVerdict;
    std::int64_t due_ms = 0;  ///< kKeptWaiting: of all that is moved, by the log's running time.
};

/// A consumer was forgotten; what it held goes to others, as with `Released` and kLost.
struct ConsumerGone {
    ConsumerName consumer;
    std::vector<PullRange> begun = {};
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
