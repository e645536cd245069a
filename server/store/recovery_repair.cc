#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/recovery.h"

// What recovery does once all was read: it judges the damage, cuts the tail, and makes durable what
// it found.

namespace qmq::store {
namespace {

/// No message takes fewer bytes of a batch: so many sequences at most are lost with a damaged
/// range.
constexpr std::uint64_t kLeastMessageBytes = 16;

}  // namespace

Status Recovery::FinishTail() {
    // The first record of a log is synced before the second is written. So where no record is
    // valid, and more than one was there, the fault is not that of a power cut.
    for (const Garbage& garbage : garbage_) {
        if (!has_record_ && watermark_ == 0 &&
            (garbage.segment > 0 || garbage.end > kStartRecordBytes)) {
            return Status::DataLoss(
                "no record in the log is valid with the seed " + ToString(segments_.seed()) +
                " that store.json says: nothing is cut or written. Put the right store.json back");
        }
    }
    if (last_end_ < watermark_) {
        AddCorruption(last_end_,
                      watermark_,
                      "synced records are gone" + (tail_ ? ": " + tail_->reason : std::string()));
    }
    JudgeCorruptions();
    log_.end = RoundUp(std::max(last_end_, watermark_));
    if (const std::uint64_t inside = log_.end % segments_.segment_bytes();
        inside != 0 && segments_.segment_bytes() - inside < RecordHeader::kBytes) {
        log_.end += segments_.segment_bytes() - inside;  // No record fits any more.
    }
    Status status = FillHoles();
    if (status.ok()) {
        status = ZeroGarbage();
    }
    if (!status.ok()) {
        return status.WithContext("repairing the end of the log");
    }
    FinishSubjects();
    status = SyncScanned();
    if (!status.ok()) {
        return status.WithContext("syncing what recovery found");
    }
    DropSegmentsBehindEnd();
    log_.report.begin = logs_.empty() ? 0 : segments_.BaseOf(*logs_.begin());
    log_.report.end = log_.end;
    return Status::Ok();
}

void Recovery::JudgeCorruptions() {
    for (RecoveryReport::Corruption& corruption : log_.report.corruptions) {
        const bool is_range = corruption.end > corruption.begin;
        corruption.committed = !is_range || corruption.begin < watermark_;
        if (is_range && (corruption.committed || corruption.is_unreadable)) {
            Segment* const segment = segments_.Find(segments_.NumberOf(corruption.begin));
            if (segment != nullptr && segment->memory != nullptr) {
                segment->summary.damaged.push_back({corruption.begin, corruption.end});
            }
        }
    }
}

Status Recovery::FillHoles() {
    for (const RecoveryReport::Corruption& corruption : log_.report.corruptions) {
        const std::uint64_t bytes = corruption.end - corruption.begin;
        Segment* const segment = segments_.Find(segments_.NumberOf(corruption.begin));
        if (corruption.committed || corruption.is_unreadable || bytes < RecordHeader::kBytes ||
            segment == nullptr || segment->file == nullptr) {
            continue;
        }
        const std::uint64_t position = corruption.begin - segment->base();
        Status status = ZeroRange(*segment, position, position + bytes);
        if (!status.ok()) {
            return status;
        }
        Record mark;
        mark.header.offset = corruption.begin;
        mark.header.incarnation = log_.incarnation;
        mark.header.running = log_.clock.running;
        mark.header.flags = RecordHeader::kFilling;
        if (position + bytes == segments_.segment_bytes()) {
            mark.header.flags |= RecordHeader::kLastInSegment;
        }
        mark.filling_bytes = static_cast<std::uint32_t>(bytes - RecordHeader::kBytes);
        const std::string header = EncodeFilling(mark, segments_.seed());
        const std::string_view part(header);
        status = segment->file->WriteAt(position, {&part, 1});
        if (!status.ok()) {
            return status;
        }
    }
    return Status::Ok();
}

Status Recovery::ZeroGarbage() {
    for (const Garbage& garbage : garbage_) {
        Segment* const segment = segments_.Find(garbage.segment);
        const LogOffset base = segments_.BaseOf(garbage.segment);
        const LogOffset begin = std::max(base + garbage.position, log_.end);
        const LogOffset end = base + garbage.end;
        if (segment == nullptr || begin >= end) {
            continue;
        }
        log_.report.torn_tail_bytes += end - begin;
        Status status = ZeroRange(*segment, begin - base, end - base);
        if (!status.ok()) {
            return status;
        }
    }
    return Status::Ok();
}

Status Recovery::ZeroRange(Segment& segment, std::uint64_t begin, std::uint64_t end) {
    const std::string zeros(std::min<std::uint64_t>(1U << 20, end - begin), '\0');
    while (begin < end) {
        const std::string_view part =
            std::string_view(zeros).substr(0, std::min<std::uint64_t>(zeros.size(), end - begin));
        Status status = segment.file->WriteAt(begin, {&part, 1});
        if (!status.ok()) {
            return status;
        }
        begin += part.size();
    }
    return Status::Ok();
}

/// Only those between which nothing is known to be damaged: a damaged record was synced.
void Recovery::FindGaps() {
    for (const Jump& jump : jumps_) {
        if (!segments_.IsDamagedIn(jump.between.begin, jump.between.end)) {
            jump.subject->AddGap(jump.gap);
        }
    }
}

void Recovery::FinishSubjects() {
    FindGaps();
    // Messages may have gone with a hole, and actions behind it may speak of them. Their sequences
    // must not be given to others, so every subject that nothing behind the hole speaks for goes on
    // above the highest that can have been there.
    std::uint64_t lost = 0;
    for (const DamagedRange& hole : holes_) {
        lost += (hole.end - hole.begin) / kLeastMessageBytes;
    }
    subjects_.sequence_floor += lost;
    last_seen_.resize(subjects_.all().size());
    for (const std::unique_ptr<SubjectState>& subject : subjects_.all()) {
        subject->set_first_sequence(
            subject->extents.empty()
                ? subject->next_sequence()
                : std::max(subject->first_sequence(), subject->extents.front().first_sequence));
        for (const DamagedRange& hole : holes_) {
            if (hole.end > last_seen_[subject->id()]) {
                const std::uint64_t next = subject->next_sequence();
                const std::uint64_t end = next + (hole.end - hole.begin) / kLeastMessageBytes;
                if (!segments_.IsDamagedIn(hole.begin, hole.end)) {
                    subject->AddGap({next, end});
                }
                subject->set_next_sequence(end);
            }
        }
        if (env::Planted(env::PlantedBug::kSequenceReused) &&
            subject->next_sequence() > subject->first_sequence()) {
            subject->set_next_sequence(subject->next_sequence() - 1);
        }
    }
}

/// Writes again what may never have been synced. Had a sync failed before, the system may take
/// pages for clean that the disk does not have, and another sync would not write them.
Status Recovery::Rewrite(Segment& segment) {
    if (env::Planted(env::PlantedBug::kNoRewrite)) {
        return Status::Ok();
    }
    const LogOffset base = segment.base();
    const std::uint64_t begin = std::max(watermark_, base) - base;
    const std::uint64_t end =
        std::max(base, std::min(log_.end, base + segments_.segment_bytes())) - base;
    for (std::uint64_t at = begin; at < end;) {
        const Result<Slice> bytes =
            segment.file->ReadAt(at, std::min<std::uint64_t>(1U << 20, end - at));
        if (!bytes.ok()) {
            return bytes.status();
        }
        if (bytes.value().empty()) {
            break;  // The file ends here, and reads as zeros.
        }
        const std::string_view part = bytes.value().bytes();
        Status status = segment.file->WriteAt(at, {&part, 1});
        if (!status.ok()) {
            return status;
        }
        at += part.size();
    }
    return Status::Ok();
}

Status Recovery::SyncScanned() {
    // A process that was killed leaves what it wrote in the page cache. From here on it counts as
    // durable, so it has to be.
    for (const std::uint32_t number : scanned_) {
        Segment* const segment = segments_.Find(number);
        Status status = Rewrite(*segment);
        if (status.ok()) {
            status = segment->file->Sync();
        }
        if (!status.ok()) {
            return status;
        }
    }
    Status status = RemoveLeftovers();
    return status.ok() ? segments_.files().SyncDirectory(segments_.directory()) : status;
}

Status Recovery::RemoveLeftovers() {
    std::vector<std::string> leftovers = std::move(temporaries_);
    for (const std::uint32_t number : indexes_) {
        if (!logs_.contains(number)) {
            // Retention took the segment, and the process ended in between.
            leftovers.push_back(segments_.PathOf(number, FileKind::kIndex));
        }
    }
    for (const std::string& path : leftovers) {
        Status status = segments_.files().Remove(path);
        if (!status.ok() && status.code() != StatusCode::kNotFound) {
            return status;
        }
    }
    return Status::Ok();
}

void Recovery::DropSegmentsBehindEnd() {
    // They were begun and taken back, and are zeros now; the log takes the files when it gets
    // there.
    const auto behind = segments_.all().upper_bound(segments_.NumberOf(log_.end));
    for (auto empty = behind; empty != segments_.all().end(); ++empty) {
        log_.empty_segments.emplace(empty->first, std::move(empty->second.file));
    }
    segments_.all().erase(behind, segments_.all().end());
}

}  // namespace qmq::store
