#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "qmq/status.h"

#include "server/store/log_clock.h"
#include "server/store/segment_scanner.h"
#include "server/store/segments.h"
#include "server/store/shard_store.h"
#include "server/store/snapshot_file.h"
#include "server/store/subject_table.h"

namespace qmq::store {

/// What is left of a shard on the disk, made ready to be written to again.
struct RecoveredLog {
    /// Where the next record goes. Zeros from here to the end of the log's files.
    LogOffset end = 0;
    std::uint32_t incarnation = 0;  ///< The last one; zero: none yet.
    /// Where its clock stopped.
    ClockState clock;
    /// Files of segments behind the end, zeros all of them, by number.
    std::map<std::uint32_t, std::shared_ptr<env::File>> empty_segments;
    /// Of the good snapshots, ascending.
    std::vector<LogOffset> snapshots;
    RecoveryReport report;
};

/// Reads a shard's folder when a store is opened, by the two rules of docs/design/store.md:
/// damage above the committed watermark with nothing valid behind it is a torn tail, and is cut;
/// all other damage is corruption, which is reported and kept out of reads. A valid record is never
/// dropped. Used once.
class Recovery {
public:
    Recovery(Segments& segments, SubjectTable& subjects, StoreListener& listener)
        : segments_(segments), subjects_(subjects), listener_(listener) {}

    /// Replays into the listener, fills the segments and subjects, cuts the tail, and syncs all
    /// that was found. Errors: those of the files, and of the listener.
    Result<RecoveredLog> Run();

private:
    /// Where the records of a segment end without a mark that says so: a torn tail, unless a record
    /// in a later segment proves that more was here.
    struct OpenTail {
        std::uint32_t segment = 0;
        LogOffset begin = 0;
        std::string reason;
        std::vector<std::uint32_t> empty = {};  // Segments behind it that have no record.
    };
    /// Bytes behind the last record that are not zero.
    struct Garbage {
        std::uint32_t segment = 0;
        std::uint64_t position = 0;
        std::uint64_t end = 0;
        std::string reason;
    };

    /// A record that does not go on where the one before it of its subject ended.
    struct Jump {
        SubjectState* subject = nullptr;
        SubjectLog::Gap gap;
        DamagedRange between;  ///< Them, in the log.
    };

    Status ListFiles();
    Status LoadSnapshot();
    Result<Snapshot> ReadSnapshot(LogOffset position);
    void AddSnapshotDamage(LogOffset position, const Status& why);
    Status UseSnapshot(const Snapshot& snapshot);
    Status LoadSegment(std::uint32_t number);
    Result<bool> LoadIndex(Segment& segment);
    Status Scan(Segment& segment);
    Status OnRecord(Segment& segment, const SegmentScanner::Step& step);
    void NoteTime(const Record& record);
    void OnMark(const Segment& segment, const Record& record);
    void OnScanEnd(Segment& segment, const SegmentScanner::Step& step);
    Result<bool> RefuseUnreadable(Segment& segment, const Record& record);
    bool RefuseSecondUse(const SubjectState& subject, const Record& record);
    void NoteJump(SubjectState& subject, const Record& record);
    SubjectState* IndexMessages(Segment& segment,
                                const SegmentScanner::Step& step,
                                SubjectState* subject);
    void OnMissingSegments(std::uint32_t first, std::uint32_t end);
    /// Something valid lies behind what looked like the end.
    void CloseTail();
    void AddCorruption(LogOffset begin, LogOffset end, const std::string& reason);

    void FindMissingEnd();
    Status FinishTail();
    void JudgeCorruptions();
    /// Puts a record over what was damaged and promised to nobody, so that it is found once.
    Status FillHoles();
    Status ZeroGarbage();
    Status ZeroRange(Segment& segment, std::uint64_t begin, std::uint64_t end);
    void DropSegmentsBehindEnd();
    /// Notes which sequences no synced message has.
    void FindGaps();
    void FinishSubjects();
    Status Rewrite(Segment& segment);
    Status SyncScanned();
    Status RemoveLeftovers();

    Segments& segments_;
    SubjectTable& subjects_;
    StoreListener& listener_;
    RecoveredLog log_;
    std::set<std::uint32_t> logs_;
    std::set<std::uint32_t> indexes_;
    std::vector<LogOffset> snapshot_files_;
    std::vector<std::string> temporaries_;
    LogOffset replay_from_ = 0;
    LogOffset watermark_ = 0;
    LogOffset last_end_ =
        0;                 ///< Of the last valid record; the next segment's base after a last one.
    bool sealed_ = false;  ///< The segment at hand has the mark that ends it.
    /// The last segment that has such a mark, or a good index file.
    std::optional<std::uint32_t> last_sealed_;
    std::optional<OpenTail> tail_;
    std::vector<Garbage> garbage_;
    std::vector<std::uint32_t> scanned_;
    bool has_record_ = false;           ///< Any that is valid.
    LogWriter snapshot_writer_;         ///< Of the snapshot that is used.
    LogWriter writer_;                  ///< Of the last record that was scanned.
    std::vector<DamagedRange> holes_;   ///< Above `replay_from_`, filled ones too.
    std::vector<Jump> jumps_;           ///< Of records above `replay_from_`, in their order.
    std::vector<LogOffset> last_seen_;  ///< By subject: its newest record above `replay_from_`.
    RunningTime dated_at_{};            ///< When `log_.clock.date` was read.
    bool cut_ = false;                  ///< The planted bug has cut the log.
};

}  // namespace qmq::store
