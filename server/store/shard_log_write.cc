#include <algorithm>
#include <utility>

#include "server/store/bytes.h"
#include "server/store/segment_scanner.h"
#include "server/store/shard_log.h"

// From a round that was gathered to one that is synced, and back when that goes wrong.

namespace qmq::store {

Status ShardLog::Write() {
    Status status = WriteRecords();
    if (status.ok()) {
        AfterWrite();
    }
    return status;
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
            segments_.Find(sealed)->summary.newest = clock_.WallNow();
            snapshot_is_wanted_ = true;
        }
        written_ = end_;
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
    NoteLeftovers();
    Rollback();
    Status status = EraseLeftovers();
    if (!failure_.ok()) {
        return Stopped();
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
        leftovers_.push_back({segment->file, segment->base(), position, false});
    }
}

/// Makes the leftovers invalid, so that they may be called refused. Until that is done nothing is
/// appended. kResourceExhausted: the disk is too full even for this.
Status ShardLog::EraseLeftovers() {
    const std::string zeros(RecordHeader::kBytes, '\0');
    const std::string_view part(zeros);
    Status status;
    env::File* unsynced = nullptr;
    const auto sync = [&] { return unsynced == nullptr ? Status::Ok() : unsynced->Sync(); };
    for (Leftover& left : leftovers_) {
        SegmentScanner scanner(*left.file, left.base, options_.segment_bytes);
        const Result<bool> is_whole = scanner.HasRecordAt(left.position);
        const bool must_write = !is_whole.ok() || is_whole.value();
        // What an earlier call has begun to write over may be whole on the disk all the same.
        if (!must_write && !left.is_written_over) {
            continue;
        }
        if (unsynced != left.file.get()) {
            status = sync();
            unsynced = left.file.get();
        }
        if (status.ok() && must_write) {
            left.is_written_over = true;
            status = left.file->WriteAt(left.position, {&part, 1});
        }
        if (!status.ok()) {
            break;
        }
    }
    if (status.ok()) {
        status = sync();
    }
    if (status.ok()) {
        leftovers_.clear();
    } else if (status.code() != StatusCode::kResourceExhausted) {
        Fail(status.WithContext("taking back what a full disk had no room for"));
    }
    return status;
}

void ShardLog::Rollback() {
    for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo) {
        SubjectState& subject = *undo->subject;
        MemoryIndex& indexes = *segments_.Find(undo->segment)->memory;
        SubjectIndex& index = indexes.at(subject.id());
        Extent& extent = subject.extents.back();
        extent.stored_units -=
            index.batches.back().record_bytes / static_cast<std::uint32_t>(kAlignment);
        index.RemoveLast();
        subject.open_index = nullptr;
        if (index.batches.empty()) {
            indexes.erase(subject.id());
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
    batches_.RemoveFrom(end_);
    last_kind_ = kind_before_round_;
    while (open_->number > round_segment_) {
        prepared_ = PreparedSegment{open_->number, open_->file};
        directory_is_dirty_ = true;
        segments_.all().erase(open_->number);
        open_ = segments_.Find(prepared_->number - 1);
    }
    open_->summary.used_end = end_;
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
    synced_ = target;
    if (sync_is_wanted_) {
        StartSync();
    }
    listener_.OnSynced(synced_);
    MarkWatermark();
    AfterSync();
}

void ShardLog::MarkWatermark() {
    // The records just synced do not know it. When none follows, damage in the last of them would
    // look like a torn tail at the next start; so a mark follows. It is not synced for its own
    // sake.
    const bool is_idle = !sync_is_running_ && round_.empty() && synced_ == written_;
    if (!is_idle || last_kind_ == RecordKind::kMark || close_done_ || !failure_.ok()) {
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
