#include "server/store/recovery.h"

#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"

namespace qmq::store {
Result<RecoveredLog> Recovery::Run() {
    Status status = ListFiles();
    if (status.ok()) {
        status = LoadSnapshot();
    }
    std::uint32_t expected = logs_.empty() ? 0 : *logs_.begin();
    if (status.ok() && !logs_.empty() && replay_from_ < segments_.BaseOf(expected)) {
        // Retention leaves what lies behind the newest snapshot.
        expected = segments_.NumberOf(replay_from_);
    }
    for (const std::uint32_t number : logs_) {
        if (!status.ok()) {
            break;
        }
        OnMissingSegments(expected, number);
        expected = number + 1;
        status = LoadSegment(number);
    }
    FindMissingEnd();
    if (status.ok()) {
        status = FinishTail();
    }
    if (!status.ok()) {
        return status;
    }
    log_.clock.date += log_.clock.running - dated_at_;
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
            temporaries_.push_back(segments_.directory() + "/" + name);
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

void Recovery::OnMissingSegments(std::uint32_t first, std::uint32_t end) {
    if (first < end) {
        CloseTail();
        AddCorruption(segments_.BaseOf(first), segments_.BaseOf(end), "the files are missing");
    }
}

/// A segment is ended, and gets its index file, only once the next one has a record. When both were
/// synced, the next one's file must be there; how much was in it nobody knows.
void Recovery::FindMissingEnd() {
    if (logs_.empty()) {
        return;
    }
    const std::uint32_t next = *logs_.rbegin() + 1;
    const LogOffset base = segments_.BaseOf(next);
    if (watermark_ > base || (watermark_ == base && last_sealed_ == next - 1)) {
        const std::uint32_t end = segments_.NumberOf(std::max(watermark_, base + 1) - 1) + 1;
        OnMissingSegments(next, end);
        last_end_ = watermark_ = segments_.BaseOf(end);
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
            last_sealed_ = number;
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
    Status status = CheckSeed(segments_.directory(), segments_.seed(), {path, directory->seed});
    if (!status.ok()) {
        return status;
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
    const Result<Slice> front = segment.file->ReadAt(0, kStartRecordBytes);
    if (const auto seed = front.ok() ? SeedOfStart(front.value().bytes(), segment.base())
                                     : std::optional<LogSeed>()) {
        Status status = CheckSeed(segments_.directory(),
                                  segments_.seed(),
                                  {segments_.PathOf(segment.number, FileKind::kLog), *seed});
        if (!status.ok()) {
            return status;
        }
    }
    if (writer_.incarnation == 0 && segment.base() >= replay_from_) {
        writer_ = snapshot_writer_;
    }
    SegmentScanner scanner(
        *segment.file, segment.base(), segments_.segment_bytes(), segments_.seed(), writer_);
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
                writer_ = scanner.writer();
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
    has_record_ = true;
    CloseTail();
    garbage_.clear();
    last_end_ = std::max(last_end_, record.end());
    watermark_ = std::max(watermark_, record.header.committed);
    log_.incarnation = std::max(log_.incarnation, record.header.incarnation);
    segment.summary.used_end = record.end();
    if (record.has_messages() || record.has_action()) {
        segment.summary.newest = std::max(segment.summary.newest, record.header.running);
    }
    if (record.header.offset >= replay_from_) {
        NoteTime(record);
    }
    if (record.header.kind == RecordKind::kMark) {
        OnMark(segment, record);
    }
    if (record.has_action()) {
        const Result<bool> is_refused = RefuseUnreadable(segment, record);
        if (!is_refused.ok() || is_refused.value()) {
            return is_refused.status();
        }
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
        listener_.OnMessages(*subject,
                             record.first_sequence,
                             BatchView::Trusted(record.batch),
                             {record.header.running, record.stored});
    }
    return Status::Ok();
}

/// A record behind the snapshot goes on where its clock was. What that did not know yet is only
/// known from the first kStart of a log without one: later ones may have had credits, which are
/// lost, and then come again.
void Recovery::NoteTime(const Record& record) {
    ClockState& clock = log_.clock;
    clock.running = std::max(clock.running, record.header.running);
    if (record.header.kind == RecordKind::kStart) {
        clock.known = clock.known.value_or(record.known);
        if (record.pending_from != 0) {
            clock.pending_from = clock.pending_from == 0
                                     ? record.pending_from
                                     : std::min(clock.pending_from, record.pending_from);
        }
    }
    if (record.stored != WallTime{} && record.stored >= clock.date) {
        clock.date = record.stored;
        dated_at_ = record.header.running;
    }
}

void Recovery::OnMark(const Segment& segment, const Record& record) {
    const bool ends_segment = record.header.ends_segment();
    const LogOffset next_base = segments_.BaseOf(segment.number + 1);
    if (ends_segment) {
        sealed_ = true;
        last_sealed_ = segment.number;
        last_end_ = std::max(last_end_, next_base);
    }
    if (record.header.is_filling() && record.end() > replay_from_) {
        // Found and reported by an earlier start; the sequences that went with it stay unused.
        holes_.push_back({record.header.offset, ends_segment ? next_base : record.end()});
    }
}

/// An action that this program ought to know and cannot read: its record is set aside, messages
/// and all, and nothing is written over it.
Result<bool> Recovery::RefuseUnreadable(Segment& segment, const Record& record) {
    Status status = listener_.CheckAction(record.action);
    if (status.ok()) {
        return false;
    }
    const LogOffset begin = record.header.offset;
    if (status.code() != StatusCode::kDataLoss || env::Planted(env::PlantedBug::kUnreadableStops)) {
        return status.WithContext("action at log offset " + std::to_string(begin));
    }
    log_.report.corruptions.push_back(
        {begin,
         record.end(),
         segments_.PathOf(segment.number, FileKind::kLog),
         begin - segment.base(),
         "its action cannot be read: " + std::string(status.message()),
         false,
         true});
    if (!record.has_messages()) {
        return true;
    }
    // Nobody else gets the sequences of its messages.
    if (SubjectState* const subject = subjects_.FindOrMake(record.subject)) {
        subject->set_next_sequence(
            std::max(subject->next_sequence(), record.first_sequence + record.count));
    }
    return true;
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

void Recovery::NoteJump(SubjectState& subject, const Record& record) {
    if (record.header.offset < replay_from_ || record.first_sequence <= subject.next_sequence()) {
        return;
    }
    last_seen_.resize(std::max<std::size_t>(last_seen_.size(), subject.id() + 1));
    jumps_.push_back({&subject,
                      {subject.next_sequence(), record.first_sequence},
                      {std::max(last_seen_[subject.id()], replay_from_), record.header.offset}});
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
    NoteJump(*subject, record);
    SubjectIndex& index = (*segment.memory)[subject->id()];
    if (!IndexRecord(*subject,
                     segment.number,
                     index,
                     record.first_sequence,
                     static_cast<std::uint32_t>(step.position),
                     static_cast<std::uint32_t>(record.header.record_bytes()),
                     BatchView::Trusted(record.batch))) {
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
    if (tail_) {
        tail_->empty.push_back(segment.number);
    } else {
        tail_ = OpenTail{segment.number, end, step.reason};
    }
}

void Recovery::CloseTail() {
    if (!tail_) {
        return;
    }
    const std::string reason =
        "later segments go on, and no mark ends this one: " + std::exchange(tail_->reason, {});
    AddCorruption(tail_->begin, segments_.BaseOf(tail_->segment + 1), reason);
    for (const std::uint32_t number : tail_->empty) {
        AddCorruption(segments_.BaseOf(number), segments_.BaseOf(number + 1), reason);
    }
    tail_.reset();
}

void Recovery::AddCorruption(LogOffset begin, LogOffset end, const std::string& reason) {
    const std::uint32_t number = segments_.NumberOf(begin);
    log_.report.corruptions.push_back({begin,
                                       end,
                                       segments_.PathOf(number, FileKind::kLog),
                                       begin - segments_.BaseOf(number),
                                       reason});
    if (end > replay_from_ && end > begin) {
        holes_.push_back({begin, end});
    }
}

}  // namespace qmq::store
