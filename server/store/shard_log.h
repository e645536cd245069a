#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/store/background.h"
#include "server/store/batch_cache.h"
#include "server/store/log_reader.h"
#include "server/store/record.h"
#include "server/store/recovery.h"
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
    void Sync() override;
    LogOffset written() const override { return written_; }
    LogOffset synced() const override { return synced_; }

    Result<ReadReply> Read(SubjectLog& subject, const ReadRequest& request) override;

    Status Retain() override;
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
        bool is_written_over;
    };
    struct PreparedSegment {
        std::uint32_t number = 0;
        std::shared_ptr<env::File> file;
    };

    // shard_log.cc: opening, and gathering a round.
    Status Begin(RecoveredLog recovered);
    Result<Appended> Append(Record& record,
                            SubjectState* subject,
                            const BatchView* batch,
                            Slice kept);
    Status EnsureRoom(std::uint64_t bytes);
    void BeginRound();
    Status Roll();
    Result<std::shared_ptr<env::File>> TakeNextFile(std::uint32_t number);
    void Add(Record& record, SubjectState* subject, const BatchView* batch, Slice kept);
    SubjectIndex& OpenIndexOf(SubjectState& subject);
    void DetachOpenIndexes(Segment& segment);
    Status CheckHighWater();

    // shard_log_write.cc: from a round to the disk.
    Status WriteRecords();
    Status WriteSpans();
    Status OnWriteError(const Status& error);
    void NoteLeftovers();
    Status EraseLeftovers();
    void Rollback();
    void StartSync();
    void OnSyncDone(LogOffset target, const Status& status);
    void MarkWatermark();
    void Fail(const Status& status);
    Status Stopped() const;

    // shard_log_upkeep.cc: snapshots, index files, segments ahead and segments gone.
    void AfterWrite();
    void AfterSync();
    void PrepareNextSegment();
    void TakeSnapshot();
    void SaveSnapshot();
    void OnSnapshotSaved(LogOffset position, const Status& status);
    void WriteDueIndexes();
    void WriteIndex(Segment& segment);
    void WantSnapshot();
    bool IsDue(const Segment& oldest);
    bool IsConsumed(std::uint32_t number);
    void RetireOpenSegment();
    void DropOldest();
    void RemoveDropped();
    void StepClose();

    const StoreOptions options_;
    env::FileSystem& files_;
    const Clock& clock_;
    Strand& strand_;
    StoreListener& listener_;

    // Shared with work on the I/O executor.
    const std::shared_ptr<SubjectTable> subjects_ = std::make_shared<SubjectTable>();
    Segments segments_;
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

    WriteRound round_;
    std::vector<Undo> undo_;
    std::vector<Leftover> leftovers_;
    bool round_has_begun_ = false;
    std::uint32_t round_segment_ = 0;  // Where the round begins.
    RecordKind kind_before_round_ = RecordKind::kStart;

    std::vector<std::shared_ptr<env::File>>
        dirty_;  // Written since the last sync began; oldest first.
    bool directory_is_dirty_ = false;
    bool sync_is_running_ = false;
    bool sync_is_wanted_ = false;

    std::optional<PreparedSegment> prepared_;
    bool is_preparing_ = false;

    std::deque<std::uint32_t> dropped_;  // Segments whose files are still to be removed, in order.
    bool is_removing_ = false;

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
