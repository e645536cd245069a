#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/batch.h"
#include "qmq/clock.h"
#include "qmq/executor.h"
#include "qmq/protocol.h"
#include "qmq/slice.h"
#include "qmq/status.h"
#include "qmq/subject.h"

#include "server/env/event.h"
#include "server/env/file_system.h"

namespace qmq::store {

/// Counts the bytes of a shard's log from its very beginning; never a position in one file.
using LogOffset = std::uint64_t;

/// Counts the time in which processes of this log ran, from its very beginning, by the steady
/// clock. No wall clock moves it.
using RunningTime = std::chrono::milliseconds;

/// What a record of the log says. The numbers are on disk: add, never renumber.
/// docs/design/log-format.md is the manual.
enum class RecordKind : std::uint8_t {
    kMessages = 1,  ///< A batch of messages of one subject.
    kAction = 2,    ///< Something that happened to messages; the broker's own words.
    kMove = 3,  ///< An action and a batch at once, or neither: a message goes from a subject to its
                ///< retry or dead-letter subject.
    kStart = 4,  ///< A process opened the log, or saw the wall clock jump ahead.
    kMark = 5    ///< Nothing but the committed watermark in its header.
};

struct StoreOptions {
    std::string directory;  ///< Of this shard.
    /// Size of a segment file. Range: [64 KiB, 4 GiB]. Fixed for the life of the store, and
    /// recorded in it.
    std::uint64_t segment_bytes = 64U << 20;
    /// Segments whose newest record is older go, consumed or not: by the time in which the store
    /// was open, and what is believed of downtime. Range: [1 s, 10 y].
    std::chrono::seconds retention{72 * 3600};
    /// Oldest segments go while the shard takes more than this. Zero: no limit.
    std::uint64_t retention_bytes = 0;
    /// Sends are refused while the disk is fuller than this. Range: [50, 100].
    double disk_high_water_percent = 95.0;
    /// Whether a segment goes as soon as every message in it has been acked by every group of its
    /// subject.
    bool drop_consumed = false;
    /// Memory for indexes of sealed segments. Range: [1 MiB, 4 GiB].
    std::uint64_t index_cache_bytes = 16U << 20;
    BatchLimits limits;
};

/// What the store needs of the world. All outlive it.
struct StoreEnvironment {
    env::FileSystem& files;
    const Clock& clock;
    /// The shard: every call to the store comes from it, and every call back goes to it.
    Strand& strand;
    /// For syncs, index files and snapshots, which may block. A store has at most two tasks there
    /// at a time: one sync, and one of the others.
    Executor& io;
    /// Hears what people should know. Called on the strand, and while `Open` runs.
    env::EventListener& events = env::NoEvents();
    /// Gives a new log the seed of its checksums: random, so that no producer can guess it.
    std::uint64_t seed = 0;
};

/// A subject in this shard: a handle that lives as long as the store.
class SubjectLog {
public:
    const std::string& name() const { return name_; }
    SubjectKind kind() const { return kind_; }
    /// The oldest sequence that is kept, and the one that the next message gets. Sequences are
    /// dense. What a power cut took before it was synced may be used again; the sequence of a
    /// message that survived never is. After damage to the log some are left out.
    std::uint64_t first_sequence() const { return first_sequence_; }
    std::uint64_t next_sequence() const { return next_sequence_; }
    /// How many of the sequences from `from` to before `end` may be those of messages that somebody
    /// was told of: all but those that were left out, also once retention has passed them. After
    /// more than `kMostGaps` gaps the oldest are not known any more, and count.
    std::uint64_t CountGiven(std::uint64_t from, std::uint64_t end) const;

    /// Sequences that no message has which was ever synced.
    struct Gap {
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        friend bool operator==(const Gap&, const Gap&) = default;
    };
    static constexpr std::size_t kMostGaps = 64;

protected:
    friend class ShardStore;
    SubjectLog() = default;
    ~SubjectLog() = default;
    std::string name_;
    SubjectKind kind_ = SubjectKind::kReal;
    std::uint64_t first_sequence_ = 0;
    std::uint64_t next_sequence_ = 0;
    std::vector<Gap> gaps_;  ///< Ascending, with messages between them.
};

/// Decides which messages of a subject a read gives. First by the mask in the index, then exactly.
class MessageMatcher {
public:
    virtual ~MessageMatcher() = default;
    virtual bool MayMatch(std::uint32_t tag_mask) const = 0;
    virtual bool Matches(const MessageHead& head) const = 0;
};

struct ReadRequest {
    std::uint64_t from = 0;
    std::uint64_t end = 0;  ///< Excluded; at most the subject's `next_sequence()`.
    std::uint32_t max_messages = 1;
    /// Stops once this is reached; the first message is given however large, unless `strictly`.
    std::uint64_t max_bytes = 1U << 20;
    bool strictly = false;
    std::size_t max_runs = 65'536;
    /// Most messages looked at, matching or not.
    std::uint32_t max_scanned = 65'536;
    const MessageMatcher* matcher = nullptr;
};

/// Messages one after another in one stored batch: a slice of the very bytes that were sent.
struct MessageRun {
    std::uint64_t first_sequence = 0;
    std::uint32_t count = 0;
    Slice header;  ///< Of the stored batch when the run is all of it, else made for the run.
    Slice body;
};

struct ReadReply {
    std::vector<MessageRun> runs;
    /// Where the next read goes on: all below was given, did not match, is gone by retention, is
    /// corrupt, or was left out.
    std::uint64_t next = 0;
    /// The next message would have been beyond `max_bytes`.
    bool full = false;
    /// Skipped because their record is damaged: at most so many were there.
    std::uint64_t corrupt_count = 0;
    /// Sequences that no message has which was ever synced: a power cut may have taken some before
    /// they were.
    std::uint64_t left_out_count = 0;
    std::uint64_t expired_count = 0;  ///< Skipped because retention took them.
};

/// When a record was appended.
struct RecordTime {
    RunningTime running{};
    WallTime date{};
};

/// What the store tells its owner, always on the strand.
class StoreListener {
public:
    virtual ~StoreListener() = default;

    // While `Open` runs, in the order of the log:
    // No call to the store is possible yet.
    /// Whether the owner can read `action`; asked of each record before anything is done with it,
    /// and before anything is written. kUnimplemented: a newer program wrote it, and the store does
    /// not open. kDataLoss: the record is set aside as a damaged one.
    virtual Status CheckAction(std::string_view action) = 0;
    /// The owner's state as of the newest good snapshot, before anything else. After kDataLoss an
    /// older one is tried: nothing of the first may stay.
    virtual Status OnSnapshot(std::string_view state) = 0;
    /// Every action since, also the action half of a kMove. `CheckAction` has passed it.
    virtual Status OnAction(std::string_view action, LogOffset end) = 0;
    /// Every batch since, also the message half of a kMove (after its action).
    virtual void OnMessages(SubjectLog& subject,
                            std::uint64_t first_sequence,
                            const BatchView& batch,
                            RecordTime time) = 0;

    // Later:
    /// All records that end at or below `synced` survive a power cut.
    virtual void OnSynced(LogOffset synced) = 0;
    /// The store has stopped writing for good: a write or a sync failed in a way that proves
    /// nothing about the disk.
    virtual void OnFailed(const Status& status) = 0;
    /// `subject.first_sequence()` has risen: retention took messages.
    virtual void OnDropped(SubjectLog& subject) = 0;
    /// The owner's state now, to be given back to `OnSnapshot`: with all that it has appended.
    /// Called from inside `Write` and `Retain`, which the owner calls when its state and what it
    /// has appended agree, and after `Close`.
    virtual std::string TakeSnapshot() = 0;
    /// For `drop_consumed`: every message of the subject below this has been acked by every group.
    virtual std::uint64_t ConsumedBelow(const SubjectLog& subject) = 0;
    /// Part of a segment that is about to go: messages of `subject` below `end_sequence`.
    struct Going {
        SubjectLog* subject = nullptr;
        std::uint64_t end_sequence = 0;
    };
    /// A segment is due to go, and `going` with it. False: some of it is still needed and is being
    /// appended anew, so ask again soon. Called from inside `Retain` only; the owner may append,
    /// but not write. Not asked any more when the disk is above its high-water mark.
    virtual bool MayDrop(std::span<const Going> going) = 0;
};

/// What recovery found, for logs and tools.
struct RecoveryReport {
    std::uint64_t incarnation = 0;
    LogOffset begin = 0;  ///< Of its first segment. Above zero: those before it have gone.
    LogOffset end = 0;
    std::uint64_t replayed_record_count = 0;
    std::uint64_t replayed_bytes = 0;
    std::uint64_t torn_tail_bytes =
        0;  ///< Cut: above the committed watermark, with nothing valid behind.
    struct Corruption {
        LogOffset begin = 0;
        LogOffset end = 0;
        std::string path;
        std::uint64_t file_offset = 0;
        std::string reason;
        /// It lay below the committed watermark: what was synced is damaged or gone. Else a power
        /// cut took it before it was synced, and later records survived.
        bool committed = false;
        /// It is whole, but for its owner, who cannot read its action. Nothing is written over it.
        bool is_unreadable = false;
    };
    std::vector<Corruption>
        corruptions;  ///< Kept out of every read, and reported. Later records were kept.
};

/// One shard's log with its segments, index and snapshots: what is durable, and how to find it
/// again.
///
/// On disk: `<directory>/<20 digits of the first offset>.log` (fixed size, preallocated), `.index`
/// beside each sealed one,
/// `<20 digits>.snapshot`, `store.json` (what is fixed for life). docs/design/log-format.md.
///
/// Life of a record: `Append…` gives it its place and sequence and keeps it in memory; `Write`
/// hands all of the round to the operating system in one call; `Sync` asks for one sync, and
/// `OnSynced` says how far it came. The owner decides who is answered when, by comparing offsets.
///
/// Threads: everything on the strand. Errors: kResourceExhausted (disk full or above high water:
/// nothing was appended; try later), kUnavailable (no next segment can be made now, or the store
/// has stopped after `OnFailed`).
class ShardStore {
public:
    /// Opens or makes the store, and replays it into `listener`. Returns when it can be written to,
    /// with a kStart record of a new incarnation synced. kFailedPrecondition: the store was made
    /// with other life-time options (which, stored and asked for).
    static Result<std::unique_ptr<ShardStore>> Open(const StoreOptions& options,
                                                    const StoreEnvironment& environment,
                                                    StoreListener& listener);
    virtual ~ShardStore() = default;

    /// The subject, made when `make` and not known. Null otherwise.
    /// A name has 1 to 4,096 bytes.
    virtual SubjectLog* FindSubject(std::string_view name, bool make) = 0;
    virtual std::vector<SubjectLog*> Subjects() = 0;
    /// The next message of `subject` has at least this sequence. For sequences that are spoken of
    /// although their messages are lost: they must not mean others one day.
    virtual void SkipTo(SubjectLog& subject, std::uint64_t next_sequence) = 0;

    struct Appended {
        std::uint64_t first_sequence = 0;
        LogOffset end = 0;  ///< Durable once OnSynced says at least this.
    };
    /// `batch` was checked by `BatchView::Parse`; its bytes go to the disk as they are. `checked`
    /// spares a second parse. kInvalidArgument: it is too large for a segment.
    virtual Result<Appended> AppendMessages(SubjectLog& subject,
                                            Slice batch,
                                            const BatchView& checked) = 0;
    /// `AppendMessages` will be called for the subject soon: asks for the memory that it looks at.
    virtual void Prefetch(const SubjectLog& subject) const = 0;
    virtual Result<LogOffset> AppendAction(std::string_view action) = 0;
    virtual Result<Appended> AppendMove(std::string_view action,
                                        SubjectLog& subject,
                                        Slice batch) = 0;

    /// Writes what was appended since the last call, in one system call where it can. On an error
    /// nothing of it counts: the appended records are gone as if never made (kResourceExhausted),
    /// sequences too, or the store has failed. Calls `TakeSnapshot` now and then.
    virtual Status Write() = 0;
    /// Takes back what was appended since the last `Write`: gone as if never made, sequences too.
    virtual void DropRound() = 0;
    /// Asks for a sync of all that is written; `OnSynced` follows. While one is under way the next
    /// waits and covers all since.
    virtual void Sync() = 0;

    virtual LogOffset written() const = 0;  ///< All below is with the operating system.
    virtual LogOffset synced() const = 0;   ///< All below survives a power cut.
    /// Most bytes that a record can have: a batch with its subject and action must fit. What a
    /// copy of a batch may need beyond it, its owner leaves free when it takes the batch.
    virtual std::uint64_t most_record_bytes() const = 0;

    /// Finds messages by sequence; all of it is checked before it is handed out. kUnavailable: the
    /// device could not read them, and may later: try again after a
    /// back-off. Once that has gone on for 30 s and eight reads they count as corrupt.
    virtual Result<ReadReply> Read(SubjectLog& subject, const ReadRequest& request) = 0;

    /// The date by the log's own clock: never goes back while the store is open, advances as the
    /// steady clock does, and follows the wall clock only once that has stood for a while. For
    /// people: no age and no wait comes from it.
    virtual WallTime LogNow() = 0;
    /// The running time of the log: what lasts is counted by it, over restarts too.
    virtual RunningTime RunningNow() = 0;
    /// How long nobody ran before this process, as far as the wall clock told when it opened.
    virtual std::chrono::milliseconds downtime() const = 0;

    /// Drops what retention allows; the owner calls it now and then. True: something due had to
    /// stay, since `StoreListener::MayDrop` asked for time: call again soon.
    virtual Result<bool> Retain() = 0;
    /// Whether segments that are due go without a question, since there is no room to append what
    /// is in them anew.
    virtual bool disk_is_full() const = 0;
    /// On the disk, in whole segments.
    virtual std::uint64_t stored_bytes() const = 0;
    virtual std::uint64_t stored_bytes(const SubjectLog& subject) const = 0;
    virtual const RecoveryReport& recovery() const = 0;

    /// A snapshot now, the index files due, everything synced; then `done`. No append may follow.
    /// Destroying the store without it is what a crash does: it waits for a sync or a file that is
    /// being written on another thread, and nothing is called back afterwards.
    virtual void Close(UniqueFunction<void(Status)> done) = 0;
};

}  // namespace qmq::store
