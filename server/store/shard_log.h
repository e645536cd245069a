#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/store/background.h"
#include "server/store/batch_cache.h"
#include "server/store/log_clock.h"
#include "server/store/log_reader.h"
#include "server/store/record.h"
#include "server/store/recovery.h"
#include "server/store/segment_factory.h"
#include "server/store/segments.h"
#include "server/store/shard_store.h"
#include "server/store/subject_table.h"
#include "server/store/write_round.h"

namespace qmq::store {

/// The one log of a shard. docs/design/store.md says why it is as it is.
///
/// Invariants:
///   1. synced() <= written() <= end_. What lies between written() and end_ is the round.
///   2. A record lies in one segment. A segment that is not the last ends with a mark, or has no
///      room for one.
///   3. A segment's index file is written once all of the segment is synced, a snapshot once the
///      log is synced up to it. So neither speaks of records that a power cut can take.
///   4. A sequence that was given to a message which survived is never given again; not even to a
///      subject that is unknown because the record that made it is damaged (`sequence_floor`).
class ShardLog final : public ShardStore {
public:
    ShardLog(const StoreOptions& options,
             const StoreEnvironment& environment,
             StoreListener& listener);

    /// All of `ShardStore::Open` but making the object.
    Status Start();

    SubjectLog* FindSubject(std::string_view name, bool make) override;
    std::vector<SubjectLog*> Subjects() override;
    void SkipTo(SubjectLog& subject, std::uint64_t next_sequence) override;

    Result<Appended> AppendMessages(SubjectLog& subject,
                                    Slice batch,
                                    const BatchView& checked) override;
    void Prefetch(const SubjectLog& subject) const override;
    Result<LogOffset> AppendAction(std::string_view action) override;
    Result<Appended> AppendMove(std::string_view action, SubjectLog& subject, Slice batch) override;

    Status Write() override;
    void DropRound() override;
    void Sync() override;
    LogOffset written() const override { return written_; }
    LogOffset synced() const override { return synced_; }
    std::uint64_t most_record_bytes() const override { return options_.segment_bytes; }

    Result<ReadReply> Read(SubjectLog& subject, const ReadRequest& request) override;

    WallTime LogNow() override;
    RunningTime RunningNow() override;
    std::chrono::milliseconds downtime() const override { return downtime_; }
    Result<bool> Retain() override;
    bool disk_is_full() const override {
        return !high_water_.ok() || disk_was_full_ || room_was_needed_;
    }
    std::uint64_t stored_bytes() const override;
    std::uint64_t stored_bytes(const SubjectLog& subject) const override;
    const RecoveryReport& recovery() const override { return recovery_; }

    void Close(UniqueFunction<void(Status)> done) override;

private:
    /// What taking a record back needs to know.
    struct Undo {
        SubjectState* subject;
        std::uint32_t segment;
        std::uint64_t next_sequence;
    };
    /// A record of a round that was taken back.
    struct Leftover {
        std::shared_ptr<env::File> file;
        LogOffset base;
        std::uint64_t position;
    };
    /// The oldest segment, while the owner is asked whether it may go.
    struct Candidate {
        std::uint32_t number = 0;
        std::vector<StoreListener::Going> going;
        /// The end of what the owner has appended when it was asked.
        LogOffset appended_end = 0;
    };
    /// What the owner may still append anew of segments that go by size: without, they stay.
    struct MoveBudget {
        std::int64_t bytes = 0;
        /// Up to where, and when, it has grown.
        LogOffset end = 0;
        TimePoint time{};
    };

    // shard_log.cc: opening, and gathering a round.
    Status Begin(RecoveredLog recovered);
    Status NoNextSegment(const Status& why) const;
    Result<Appended> Append(Record& record,
                            SubjectState* subject,
                            const BatchView* batch,
                            Slice kept);
    Status EnsureRoom(std::uint64_t bytes);
    Status BeginRound();
    /// Whether the segment is behind for good: no round that is taken back opens it again.
    bool IsSealed(std::uint32_t number) const;
    Status Roll();
    Result<std::shared_ptr<env::File>> TakeFile(std::uint32_t number);
    void Add(Record& record, SubjectState* subject, const BatchView* batch, Slice kept);
    SubjectIndex& OpenIndexOf(SubjectState& subject);
    void DetachOpenIndexes(Segment& segment);
    Status CheckHighWater();
    void OnHighWater(Status status);
    void ReadClock();
    Status SayJump();
    Record NewStart() const;
    void Tell(env::EventKind kind,
              std::string text,
              std::uint64_t count = 0,
              std::uint64_t bytes = 0);

    // shard_log_write.cc: from a round to the disk.
    Status WriteRecords();
    Status WriteSpans();
    Status OnWriteError(const Status& error);
    void NoteLeftovers();
    Status EraseLeftovers();
    Status Erase(const Leftover& left);
    void Rollback();
    void StartSync();
    void OnSyncDone(LogOffset target, const Status& status);
    void MarkWatermark();
    void Fail(const Status& status);
    Status Stopped() const;

    // shard_log_upkeep.cc: snapshots, index files, segments ahead and segments gone.
    void AfterWrite();
    void AfterSync();
    void MakeNextSegmentAhead();
    void DropSpareSegment();
    void TakeSnapshot();
    void SaveSnapshot();
    void OnSnapshotSaved(LogOffset position, const Status& status);
    void WriteDueIndexes();
    void WriteIndex(Segment& segment);
    void WantSnapshot();
    bool IsOld(const Segment& segment) const;
    bool IsTooMuch() const;
    bool IsConsumed(std::uint32_t number);
    std::vector<StoreListener::Going> GoingWith(std::uint32_t number);
    bool MoveWasRefusedNow();
    bool MayGo(const Segment& oldest, bool is_by_size);
    void GrowMoveBudget();
    void TellTooMuchIsNeeded();
    void RetireOpenSegment();
    void DropOldest();
    void RemoveDropped();
    void StepClose();

    const StoreOptions options_;
    env::FileSystem& files_;
    const Clock& clock_;
    Strand& strand_;
    StoreListener& listener_;
    env::EventListener& events_;
    const std::uint64_t seed_;

    // Shared with work on the I/O executor.
    const std::shared_ptr<SubjectTable> subjects_ = std::make_shared<SubjectTable>();
    Segments segments_;
    SegmentFactory factory_;
    BatchCache batches_;
    LogReader reader_;
    RecoveryReport recovery_;
    std::unique_ptr<env::FileLock> lock_;

    std::uint32_t incarnation_ = 0;
    Segment* open_ = nullptr;  // The one that records go to.
    LogOffset end_ = 0;
    LogOffset written_ = 0;
    LogOffset synced_ = 0;
    RecordKind last_kind_ = RecordKind::kStart;
    Status failure_;

    LogClock log_clock_;
    std::chrono::milliseconds downtime_{};
    /// The `pending_from` of the clock that records of this process say.
    LogOffset said_pending_from_ = 0;

    WriteRound round_;
    std::vector<Undo> undo_;
    std::vector<Leftover> leftovers_;
    bool round_has_begun_ = false;
    std::uint32_t round_segment_ = 0;  // Where the round begins.
    RecordKind kind_before_round_ = RecordKind::kStart;
    RunningTime newest_before_round_{};
    MoveBudget budget_before_round_;

    std::vector<std::shared_ptr<env::File>>
        dirty_;  // Written since the last sync began; oldest first.
    bool directory_is_dirty_ = false;
    bool sync_is_running_ = false;
    bool sync_is_wanted_ = false;

    std::optional<Candidate> candidate_;
    MoveBudget budget_;
    bool budget_is_told_ = false;
    bool room_was_needed_ = false;  ///< The last `Retain` dropped what had no room elsewhere.
    bool disk_was_full_ = false;    ///< The last attempt to get room found none.
    /// When a round with what the owner has appended for `candidate_` found no room.
    std::optional<TimePoint> move_refused_at_;
    /// The first of those since anything was written.
    TimePoint moves_refused_since_{};
    bool moves_are_refused_ = false;
    std::deque<std::uint32_t> dropped_;  // Segments whose files are still to be removed, in order.
    bool is_removing_ = false;

    /// No index file is due before the log is synced so far.
    LogOffset next_index_at_ = 0;
    TimePoint indexes_rest_until_{};

    std::vector<LogOffset> snapshots_;  // On the disk and good, ascending.
    bool snapshot_is_wanted_ = false;
    bool snapshot_is_being_saved_ = false;
    struct PendingSnapshot {
        LogOffset position = 0;
        std::string bytes;
    };
    std::optional<PendingSnapshot> pending_snapshot_;  // Waits for the log to be synced.

    TimePoint space_checked_{};
    bool space_was_checked_ = false;
    Status high_water_;

    UniqueFunction<void(Status)> close_done_;
    Status close_status_;

    // For tasks that wait on the strand: whether we are still here.
    const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);

    // Last: their destructors wait for work that may use what is above.
    Background syncs_;
    Background upkeep_;
};

}  // namespace qmq::store
