#include "server/store/recovery.h"

#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/store_settings.h"

namespace qmq::store {
namespace {

constexpr int kReadAttempts = 3;

Result<Slice> ReadPersistently(env::FileSystem& files, const std::string& path) {
    Result<Slice> bytes = ReadWhole(files, path);
    for (int attempt = 1; attempt < kReadAttempts && !bytes.ok(); ++attempt) {
        bytes = ReadWhole(files, path);
    }
    return bytes;
}

}  // namespace

Result<RecoveredLog> Recovery::Run() {
    Status status = ListFiles();
    if (status.ok()) {
        status = LoadSnapshot();
    }
    std::uint32_t expected = logs_.empty() ? 0 : *logs_.begin();
    for (const std::uint32_t number : logs_) {
        if (!status.ok()) {
            break;
        }
        OnMissingSegments(expected, number);
        expected = number + 1;
        status = LoadSegment(number);
    }
    if (status.ok()) {
        status = FinishTail();
    }
    if (!status.ok()) {
        return status;
    }
    return std::move(log_);
}

Status Recovery::ListFiles() {
    env::FileSystem& files = segments_.files();
    const Result<std::vector<std::string>> names = files.List(segments_.directory());
    if (!names.ok()) {
        return names.status();
    }
    for (const std::string& name : names.value()) {
        const std::optional<NamedFile> file = ParseFileName(name);
        if (!file) {
            continue;
        }
        if (file->kind == FileKind::kTemporary) {
            // From a process that ended before it could rename it.
            Status status = files.Remove(segments_.directory() + "/" + name);
            if (!status.ok()) {
                return status;
            }
        } else if (file->kind == FileKind::kSnapshot) {
            snapshot_files_.push_back(file->offset);
        } else if (file->offset % segments_.segment_bytes() != 0) {
            return Status::DataLoss(segments_.directory() + "/" + name +
                                    " does not begin where a segment of " +
                                    std::to_string(segments_.segment_bytes()) +
                                    " bytes can begin: it is not of this store; move it away");
        } else {
            (file->kind == FileKind::kLog ? logs_ : indexes_)
                .insert(segments_.NumberOf(file->offset));
        }
    }
    return Status::Ok();
}

Status Recovery::LoadSnapshot() {
    constexpr std::size_t kKept = 2;
    std::optional<Snapshot> newest;
    for (auto position = snapshot_files_.rbegin();
         position != snapshot_files_.rend() && log_.snapshots.size() < kKept;
         ++position) {
        const std::string path =
            segments_.directory() + "/" + FileName(*position, FileKind::kSnapshot);
        const Result<Slice> bytes = ReadPersistently(segments_.files(), path);
        if (!bytes.ok() && bytes.status().code() != StatusCode::kDataLoss) {
            return bytes.status();
        }
        Result<Snapshot> snapshot =
            bytes.ok() ? ParseSnapshot(bytes.value().bytes()) : Result<Snapshot>(bytes.status());
        if (snapshot.ok() && snapshot->position != *position) {
            snapshot =
                Status::DataLoss("it is that of log offset " + std::to_string(snapshot->position));
        }
        if (!snapshot.ok()) {
            log_.report.corruptions.push_back(
                {*position,
                 *position,
                 path,
                 0,
                 "snapshot: " + std::string(snapshot.status().message()) + "; an older one is used",
                 true});
            continue;
        }
        log_.snapshots.insert(log_.snapshots.begin(), *position);
        if (!newest) {
            newest = std::move(*snapshot);
        }
    }
    if (newest) {
        return UseSnapshot(std::move(*newest));
    }
    if (!logs_.empty() && *logs_.begin() != 0) {
        return Status::DataLoss(
            segments_.directory() + " has no readable snapshot, and its log begins at " +
            std::to_string(segments_.BaseOf(*logs_.begin())) +
            ": what its consumer groups have acked cannot be told. Restore a .snapshot file or the "
            "segments from the log's beginning");
    }
    return Status::Ok();
}

Status Recovery::UseSnapshot(Snapshot snapshot) {
    replay_from_ = watermark_ = snapshot.position;
    log_.incarnation = snapshot.incarnation;
    for (const Snapshot::Subject& subject : snapshot.subjects) {
        if (SubjectState* const state = subjects_.FindOrMake(subject.name)) {
            state->set_first_sequence(subject.first_sequence);
            state->set_next_sequence(subject.next_sequence);
        }
    }
    subjects_.sequence_floor = snapshot.sequence_floor;
    return listener_.OnSnapshot(snapshot.state)
        .WithContext("snapshot at log offset " + std::to_string(snapshot.position));
}

void Recovery::OnMissingSegments(std::uint32_t first, std::uint32_t end) {
    if (first < end) {
        CloseTail();
        AddCorruption(segments_.BaseOf(first), segments_.BaseOf(end), "the files are missing");
    }
}

Status Recovery::LoadSegment(std::uint32_t number) {
    Segment& segment = segments_.Add(number, nullptr);
    const LogOffset end = segments_.BaseOf(number + 1);
    if (indexes_.contains(number)) {
        const Result<bool> loaded = LoadIndex(segment);
        if (!loaded.ok()) {
            return loaded.status();
        }
        if (loaded.value()) {
            // It was only written once the whole segment was synced.
            watermark_ = std::max(watermark_, end);
            if (end <= replay_from_) {
                last_end_ = end;
                return Status::Ok();
            }
        }
    }
    return Scan(segment);
}

/// True when the index file is good. Its extents are only taken when the segment need not be read.
Result<bool> Recovery::LoadIndex(Segment& segment) {
    const std::string path = segments_.PathOf(segment.number, FileKind::kIndex);
    const auto damaged = [&](const Status& why) {
        log_.report.corruptions.push_back(
            {segment.base(),
             segment.base(),
             path,
             0,
             std::string(why.message()) + "; it is made anew from the segment",
             true});
        return false;
    };
    const auto file = segments_.files().Open(path, env::OpenMode::kRead);
    if (!file.ok()) {
        return damaged(file.status());
    }
    Result<Slice> bytes = file.value()->ReadAt(0, kIndexHeaderBytes);
    if (!bytes.ok()) {
        return damaged(bytes.status());
    }
    const Result<std::uint64_t> size = IndexDirectoryBytes(bytes->bytes());
    const Result<std::uint64_t> file_size = file.value()->Size();
    if (!size.ok()) {
        return damaged(size.status());
    }
    if (!file_size.ok() || size.value() > file_size.value()) {
        return damaged(Status::DataLoss("the index file is cut off"));
    }
    bytes = file.value()->ReadAt(0, static_cast<std::size_t>(size.value()));
    if (!bytes.ok()) {
        return damaged(bytes.status());
    }
    Result<IndexDirectory> directory = ParseIndexDirectory(bytes->bytes(), segment.base());
    if (!directory.ok()) {
        return damaged(directory.status());
    }
    if (segments_.BaseOf(segment.number + 1) > replay_from_) {
        return true;
    }
    segment.summary = directory->summary;
    for (const DamagedRange& range : segment.summary.damaged) {
        AddCorruption(range.begin, range.end, "found damaged before");
    }
    for (const IndexDirectoryEntry& entry : directory->subjects) {
        SubjectState* const subject = subjects_.FindOrMake(entry.name);
        if (subject == nullptr) {
            continue;
        }
        subject->extents.push_back(
            {segment.number,
             static_cast<std::uint32_t>(entry.block_position / kAlignment),
             entry.first_sequence,
             static_cast<std::uint32_t>(entry.end_sequence - entry.first_sequence),
             static_cast<std::uint32_t>(entry.stored_bytes / kAlignment)});
        subject->set_next_sequence(std::max(subject->next_sequence(), entry.end_sequence));
    }
    return true;
}

Status Recovery::Scan(Segment& segment) {
    Result<std::unique_ptr<env::File>> file = segments_.files().Open(
        segments_.PathOf(segment.number, FileKind::kLog), env::OpenMode::kReadWrite);
    if (!file.ok()) {
        return file.status();
    }
    segment.file = std::move(*file);
    segment.memory = std::make_shared<MemoryIndex>();
    scanned_.push_back(segment.number);
    SegmentScanner scanner(*segment.file, segment.base(), segments_.segment_bytes());
    while (true) {
        Result<SegmentScanner::Step> step = scanner.Next();
        if (!step.ok()) {
            return step.status().WithContext(
                "the log cannot be read, so that nobody can say what is in it (copy the folder to "
                "a "
                "healthy disk)");
        }
        switch (step->kind) {
            case SegmentScanner::StepKind::kRecord: {
                Status status = OnRecord(segment, *step);
                if (!status.ok()) {
                    return status;
                }
                break;
            }
            case SegmentScanner::StepKind::kDamage:
                if (env::Planted(env::PlantedBug::kCutMidLog)) {
                    cut_ = true;
                }
                CloseTail();
                AddCorruption(
                    segment.base() + step->position, segment.base() + step->end, step->reason);
                break;
            case SegmentScanner::StepKind::kEnd:
                OnScanEnd(segment, *step);
                return Status::Ok();
        }
    }
}

Status Recovery::OnRecord(Segment& segment, const SegmentScanner::Step& step) {
    const Record& record = step.record;
    if (cut_) {
        // The planted bug: what lies behind damage is taken for torn.
        garbage_.push_back({segment.number, step.position, step.end, "cut"});
        return Status::Ok();
    }
    CloseTail();
    garbage_.clear();
    last_end_ = std::max(last_end_, record.end());
    watermark_ = std::max(watermark_, record.header.committed);
    log_.incarnation = std::max(log_.incarnation, record.header.incarnation);
    segment.summary.used_end = record.end();
    segment.summary.newest = std::max(segment.summary.newest, record.stored);
    if (record.header.kind == RecordKind::kMark) {
        OnMark(segment, record);
    }
    SubjectState* subject = record.has_messages() ? subjects_.Find(record.subject) : nullptr;
    if (subject != nullptr && RefuseSecondUse(*subject, record)) {
        return Status::Ok();
    }
    if (record.has_messages()) {
        subject = IndexMessages(segment, step, subject);
    }
    if (record.header.offset < replay_from_) {
        return Status::Ok();
    }
    ++log_.report.replayed_record_count;
    log_.report.replayed_bytes += record.header.record_bytes();
    if (record.has_action()) {
        Status status = listener_.OnAction(record.action, record.end());
        if (!status.ok()) {
            return status.WithContext("action at log offset " +
                                      std::to_string(record.header.offset));
        }
    }
    if (subject != nullptr) {
        listener_.OnMessages(
            *subject, record.first_sequence, BatchView::Trusted(record.batch), record.stored);
    }
    return Status::Ok();
}

void Recovery::OnMark(const Segment& segment, const Record& record) {
    const bool ends_segment = (record.header.flags & RecordHeader::kLastInSegment) != 0;
    const LogOffset next_base = segments_.BaseOf(segment.number + 1);
    if (ends_segment) {
        sealed_ = true;
        last_end_ = std::max(last_end_, next_base);
    }
    if ((record.header.flags & RecordHeader::kFilling) != 0 && record.end() > replay_from_) {
        // Found and reported by an earlier start; the sequences that went with it stay unused.
        holes_.push_back({record.header.offset, ends_segment ? next_base : record.end()});
    }
}

/// No log of ours has one sequence twice, but what is damaged may say anything. The first one
/// stays. The action and the messages of the other are one, so it goes as a whole.
bool Recovery::RefuseSecondUse(const SubjectState& subject, const Record& record) {
    if (record.header.offset < replay_from_ || record.first_sequence >= subject.next_sequence()) {
        return false;
    }
    AddCorruption(record.header.offset,
                  record.end(),
                  "subject \"" + subject.name() + "\": sequence " +
                      std::to_string(record.first_sequence) +
                      " is used a second time; the next one was to be " +
                      std::to_string(subject.next_sequence()));
    return true;
}

/// `subject` is null when nothing has named it yet.
SubjectState* Recovery::IndexMessages(Segment& segment,
                                      const SegmentScanner::Step& step,
                                      SubjectState* subject) {
    const Record& record = step.record;
    if (subject == nullptr) {
        subject = subjects_.FindOrMake(record.subject);
        if (subject == nullptr) {
            return nullptr;
        }
        subject->set_first_sequence(record.first_sequence);
        subject->set_next_sequence(record.first_sequence);
    }
    SubjectIndex& index = (*segment.memory)[subject->id()];
    if (!IndexRecord(*subject,
                     segment.number,
                     index,
                     record.first_sequence,
                     static_cast<std::uint32_t>(step.position),
                     static_cast<std::uint32_t>(record.header.record_bytes()),
                     BatchView::Trusted(record.batch))) {
        if (index.batches.empty()) {
            segment.memory->erase(subject->id());
        }
        return nullptr;
    }
    subject->set_next_sequence(
        std::max(subject->next_sequence(), record.first_sequence + record.count));
    if (record.header.offset >= replay_from_) {
        last_seen_.resize(std::max<std::size_t>(last_seen_.size(), subject->id() + 1));
        last_seen_[subject->id()] = record.header.offset;
    }
    return subject;
}

void Recovery::OnScanEnd(Segment& segment, const SegmentScanner::Step& step) {
    if (step.end > step.position) {
        garbage_.push_back({segment.number, step.position, step.end, step.reason});
    }
    const LogOffset end = segment.base() + step.position;
    const bool is_full = segments_.segment_bytes() - step.position < RecordHeader::kBytes;
    if (is_full || sealed_) {
        last_end_ = std::max(last_end_, segments_.BaseOf(segment.number + 1));
        sealed_ = false;
        return;
    }
    if (!tail_) {
        tail_ = OpenTail{segment.number, end, step.reason};
    }
}

void Recovery::CloseTail() {
    if (!tail_) {
        return;
    }
    const LogOffset begin = tail_->begin;
    const LogOffset end = segments_.BaseOf(tail_->segment + 1);
    AddCorruption(begin, end, "later segments go on, and no mark ends this one: " + tail_->reason);
    tail_.reset();
}

void Recovery::AddCorruption(LogOffset begin, LogOffset end, const std::string& reason) {
    const std::uint32_t number = segments_.NumberOf(begin);
    log_.report.corruptions.push_back({begin,
                                       end,
                                       segments_.PathOf(number, FileKind::kLog),
                                       begin - segments_.BaseOf(number),
                                       reason,
                                       false});
    if (end > replay_from_ && end > begin) {
        holes_.push_back({begin, end});
    }
}

}  // namespace qmq::store
