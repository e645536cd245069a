#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/shard_log.h"

// From a round that was gathered to one that is synced, and back when that goes wrong.

namespace qmq::store {

Status ShardLog::Write() {
    Status status = WriteRecords();
    if (status.ok()) {
        AfterWrite();
        if (candidate_ && candidate_->appended_end > synced_) {
            Sync();
        }
    }
    return status;
}

void ShardLog::DropRound() {
    if (failure_.ok() && round_has_begun_) {
        Rollback();
    }
}

Status ShardLog::WriteRecords() {
    if (!failure_.ok()) {
        return Stopped();
    }
    if (!round_.empty()) {
        Status status = WriteSpans();
        if (!status.ok()) {
            return OnWriteError(status);
        }
        for (std::uint32_t sealed = round_segment_; sealed < open_->number; ++sealed) {
            snapshot_is_wanted_ = true;
        }
        written_ = end_;
        disk_was_full_ = false;
        moves_are_refused_ = false;
        batches_.Trim(written_);
        round_.Clear();
        round_has_begun_ = false;
        undo_.clear();
    }
    return Status::Ok();
}

Status ShardLog::WriteSpans() {
    for (const WriteRound::Span& span : round_.spans()) {
        if (span.part_count == 0) {
            continue;
        }
        Segment* const segment = segments_.Find(segments_.NumberOf(span.begin));
        Status status = segment->file->WriteAt(span.begin - segment->base(), round_.parts(span));
        if (!status.ok()) {
            return status;
        }
        if (dirty_.empty() || dirty_.back() != segment->file) {
            dirty_.push_back(segment->file);
        }
    }
    return Status::Ok();
}

Status ShardLog::OnWriteError(const Status& error) {
    if (error.code() != StatusCode::kResourceExhausted) {
        Rollback();
        Fail(error);
        return Stopped();
    }
    disk_was_full_ = true;
    if (candidate_ && candidate_->appended_end > written_) {
        move_refused_at_ = clock_.Now();
        if (!std::exchange(moves_are_refused_, true)) {
            moves_refused_since_ = *move_refused_at_;
        }
    }
    NoteLeftovers();
    Rollback();
    Status status = EraseLeftovers();
    if (!failure_.ok()) {
        return status;
    }
    // Nobody may be told "refused" of what a crash would bring back.
    return status.ok() ? error
                       : Status::Unavailable("it cannot be told whether this is stored: " +
                                             std::string(status.message()));
}

/// Some of a round that failed may be on the disk, whole, and would be found by the next start.
void ShardLog::NoteLeftovers() {
    for (const LogOffset record : round_.records()) {
        Segment* const segment = segments_.Find(segments_.NumberOf(record));
        const std::uint64_t position = record - segment->base();
        leftovers_.push_back({segment->file, segment->base(), position});
    }
}

/// Makes the leftovers invalid for good, so that they may be called refused. Until that is done
/// no round begins. kResourceExhausted: the disk is too full even for this, and it may be tried
/// again; after all else the store has stopped.
Status ShardLog::EraseLeftovers() {
    for (std::size_t i = 0; i < leftovers_.size(); ++i) {
        Status status = Erase(leftovers_[i]);
        if (status.code() == StatusCode::kResourceExhausted) {
            return status;
        }
        const bool is_last_in_file =
            i + 1 == leftovers_.size() || leftovers_[i + 1].file != leftovers_[i].file;
        // Also where nothing had to be written: what makes a record invalid may be an older write
        // that a power cut can still take.
        if (status.ok() && is_last_in_file) {
            // A failed one is final, for want of room too: records that were written before may
            // have gone with it, and the next one would say that all is well.
            status = leftovers_[i].file->Sync();
        }
        if (!status.ok()) {
            Fail(status.WithContext("taking back what a full disk had no room for"));
            return Stopped();
        }
    }
    leftovers_.clear();
    return Status::Ok();
}

/// A header is enough to be written over: what is missing behind it may come with a later record
/// of the same bytes, of which a power cut keeps that part only.
Status ShardLog::Erase(const Leftover& left) {
    const Result<Slice> front = left.file->ReadAt(left.position, RecordHeader::kBytes);
    if (front.ok() && !PeekHeader(front.value().bytes(),
                                  left.base + left.position,
                                  options_.segment_bytes - left.position)) {
        return Status::Ok();
    }
    const std::string zeros(RecordHeader::kBytes, '\0');
    const std::string_view part(zeros);
    return left.file->WriteAt(left.position, {&part, 1});
}

void ShardLog::Rollback() {
    for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo) {
        SubjectState& subject = *undo->subject;
        // It stays when nothing is left in it: its memory is only given back with the segment's.
        SubjectIndex& index = segments_.Find(undo->segment)->memory->at(subject.id());
        Extent& extent = subject.extents.back();
        extent.stored_units -=
            index.batches.back().record_bytes / static_cast<std::uint32_t>(kAlignment);
        index.RemoveLast();
        subject.open_index = nullptr;
        if (index.batches.empty()) {
            subject.extents.pop_back();
        } else {
            extent.span = static_cast<std::uint32_t>(index.end_sequence() - extent.first_sequence);
        }
        subject.set_next_sequence(undo->next_sequence);
    }
    undo_.clear();
    round_.Clear();
    round_has_begun_ = false;
    end_ = written_;
    if (candidate_) {
        // What is left of what its owner has appended for it must still be synced before it goes.
        candidate_->appended_end = std::min(candidate_->appended_end, end_);
    }
    log_clock_.TakeBack(end_);
    said_pending_from_ = 0;
    batches_.RemoveFrom(end_);
    last_kind_ = kind_before_round_;
    while (open_->number > round_segment_) {
        const std::uint32_t number = open_->number;
        factory_.PutBack(number, open_->file);
        segments_.all().erase(number);
        open_ = segments_.Find(number - 1);
    }
    open_->summary.used_end = end_;
    open_->summary.newest = newest_before_round_;
    budget_ = budget_before_round_;
}

void ShardLog::Sync() {
    if (!failure_.ok()) {
        return;
    }
    if (sync_is_running_) {
        sync_is_wanted_ = true;
        return;
    }
    StartSync();
}

void ShardLog::StartSync() {
    sync_is_running_ = true;
    sync_is_wanted_ = false;
    const LogOffset target = written_;
    std::string directory = directory_is_dirty_ ? options_.directory : std::string();
    directory_is_dirty_ = false;
    syncs_.Run(
        [&files = files_, dirty = std::move(dirty_), directory = std::move(directory)] {
            // Oldest first: what survives a power cut has no hole that need not be.
            for (const std::shared_ptr<env::File>& file : dirty) {
                Status status = file->Sync();
                if (!status.ok()) {
                    return status;
                }
            }
            return directory.empty() ? Status::Ok() : files.SyncDirectory(directory);
        },
        [this, target](const Status& status) { OnSyncDone(target, status); });
    dirty_.clear();
}

void ShardLog::OnSyncDone(LogOffset target, const Status& status) {
    sync_is_running_ = false;
    if (!failure_.ok()) {
        return;
    }
    if (!status.ok()) {
        Fail(status);
        return;
    }
    synced_ = env::Planted(env::PlantedBug::kSyncCoversAll) ? written_ : target;
    if (sync_is_wanted_) {
        StartSync();
    }
    listener_.OnSynced(synced_);
    MarkWatermark();
    AfterSync();
}

void ShardLog::MarkWatermark() {
    // The records just synced do not know it. When none follows, damage in the last of them would
    // look like a torn tail at the next start; so a mark follows, whether another sync has begun
    // that covers nothing more, or we are being closed: the last snapshot, which knows it too, may
    // take long. It is not synced for its own sake.
    const bool is_idle = round_.empty() && synced_ == written_;
    if (!is_idle || last_kind_ == RecordKind::kMark || !failure_.ok()) {
        return;
    }
    Record mark;
    if (Append(mark, nullptr, nullptr, {}).ok()) {
        // No snapshot now: our owner may be in the middle of something. An error it is told of.
        static_cast<void>(WriteRecords());
    }
}

void ShardLog::Fail(const Status& status) {
    if (!failure_.ok()) {
        return;
    }
    failure_ = status;
    Tell(env::EventKind::kStopped, std::string(Stopped().message()));
    pending_snapshot_.reset();
    // Not from inside of a call that our owner makes.
    strand_.PostLater([this, alive = std::weak_ptr<const bool>(alive_)] {
        if (!alive.expired()) {
            listener_.OnFailed(failure_);
            StepClose();
        }
    });
}

Status ShardLog::Stopped() const {
    return Status::Unavailable("the shard in " + options_.directory +
                               " has stopped writing, since nobody can say what is on its disk: " +
                               std::string(failure_.message()) +
                               "; look after the disk, then start the broker anew");
}

}  // namespace qmq::store
