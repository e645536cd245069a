#include <algorithm>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/file_names.h"
#include "server/store/shard_log.h"
#include "server/store/store_settings.h"

// What keeps a log small and quick to open: snapshots, index files, segments made ahead of time and
// segments that go.

namespace qmq::store {
namespace {

/// As many as a start may need: should the newest be damaged, the one before it still leads to the
/// log's end.
constexpr std::size_t kKeptSnapshots = 2;
/// What a disk refused no longer ago than this it still refuses.
constexpr std::chrono::milliseconds kJustNow{100};
/// A disk that refuses for so long is full.
constexpr std::chrono::seconds kFullFor{1};
/// A disk that has no room for an index file is not asked with each sync.
constexpr std::chrono::seconds kRestsAfterFailure{1};
/// In which a segment's worth may be appended anew though nothing else is.
constexpr std::chrono::seconds kSegmentOfMoves{60};

bool IsKept(const std::vector<LogOffset>& kept, LogOffset position) {
    return std::find(kept.begin(), kept.end(), position) != kept.end();
}

Status SaveSnapshotFile(env::FileSystem& files,
                        const std::string& directory,
                        LogOffset position,
                        std::string_view bytes,
                        const std::vector<LogOffset>& kept) {
    Status status = WriteWhole(files, directory, FileName(position, FileKind::kSnapshot), bytes);
    if (!status.ok()) {
        return status;
    }
    const Result<std::vector<std::string>> names = files.List(directory);
    if (!names.ok()) {
        return Status::Ok();  // Old ones stay a little longer.
    }
    for (const std::string& name : names.value()) {
        const std::optional<NamedFile> file = ParseFileName(name);
        if (file && file->kind == FileKind::kSnapshot && !IsKept(kept, file->offset)) {
            static_cast<void>(files.Remove(directory + "/" + name));
        }
    }
    return Status::Ok();
}

}  // namespace

void ShardLog::AfterWrite() {
    MakeNextSegmentAhead();
    TakeSnapshot();
}

void ShardLog::AfterSync() {
    if (close_done_ && !sync_is_running_) {
        // The last one has the mark in it, which may have come behind the one that is being saved;
        // and for its sake the mark is synced.
        snapshot_is_wanted_ = snapshot_is_wanted_ || synced_ != written_;
        TakeSnapshot();
    }
    SaveSnapshot();
    WriteDueIndexes();
    StepClose();
}

void ShardLog::MakeNextSegmentAhead() {
    const bool is_half_full = end_ - open_->base() > options_.segment_bytes / 2;
    if (!is_half_full || close_done_) {
        return;
    }
    factory_.MakeAhead(open_->number + 1, [this] {
        if (close_done_) {
            DropSpareSegment();
        }
        StepClose();
    });
}

void ShardLog::DropSpareSegment() {
    factory_.DropSpare([this] { StepClose(); });
}

void ShardLog::TakeSnapshot() {
    // Our owner's state holds what was appended, so a snapshot is taken when all that is written.
    if (!snapshot_is_wanted_ || pending_snapshot_ || snapshot_is_being_saved_ || !round_.empty() ||
        !failure_.ok()) {
        return;
    }
    snapshot_is_wanted_ = false;
    if (!snapshots_.empty() && snapshots_.back() == written_) {
        return;
    }
    Snapshot snapshot;
    snapshot.position = written_;
    snapshot.incarnation = incarnation_;
    snapshot.seed = segments_.seed();
    snapshot.clock = log_clock_.state();
    snapshot.sequence_floor = subjects_->sequence_floor;
    snapshot.subjects.reserve(subjects_->all().size());
    for (const std::unique_ptr<SubjectState>& subject : subjects_->all()) {
        snapshot.subjects.push_back({subject->name(),
                                     subject->first_sequence(),
                                     subject->next_sequence(),
                                     subject->gaps()});
    }
    snapshot.state = listener_.TakeSnapshot();
    pending_snapshot_ = PendingSnapshot{snapshot.position, EncodeSnapshot(snapshot)};
    if (synced_ >= written_ || env::Planted(env::PlantedBug::kSnapshotAheadOfLog)) {
        SaveSnapshot();
    } else {
        Sync();
    }
}

void ShardLog::SaveSnapshot() {
    if (!pending_snapshot_ || (pending_snapshot_->position > synced_ &&
                               !env::Planted(env::PlantedBug::kSnapshotAheadOfLog))) {
        return;
    }
    snapshot_is_being_saved_ = true;
    PendingSnapshot snapshot = std::move(*pending_snapshot_);
    pending_snapshot_.reset();
    std::vector<LogOffset> kept = snapshots_;
    kept.push_back(snapshot.position);
    while (kept.size() > kKeptSnapshots) {
        kept.erase(kept.begin());
    }
    upkeep_.Run([&files = files_,
                 directory = options_.directory,
                 position = snapshot.position,
                 bytes = std::move(snapshot.bytes),
                 kept] { return SaveSnapshotFile(files, directory, position, bytes, kept); },
                [this, kept](const Status& status) {
                    snapshot_is_being_saved_ = false;
                    if (status.ok()) {
                        snapshots_ = kept;
                    } else if (close_done_) {
                        close_status_ = status.WithContext("writing the last snapshot");
                    }
                    if (close_done_) {
                        TakeSnapshot();  // Else with the next write: our owner may be in the middle
                                         // of something.
                    }
                    StepClose();
                });
}

void ShardLog::WriteDueIndexes() {
    const bool rests = clock_.Now() < indexes_rest_until_ && !close_done_;
    if (synced_ < next_index_at_ || rests) {
        return;
    }
    for (auto& [number, segment] : segments_.all()) {
        const LogOffset end = segments_.BaseOf(number + 1);
        if (!IsSealed(number) || end > synced_) {
            next_index_at_ = end;
            return;
        }
        if (segment.memory != nullptr && !segment.index_is_being_written) {
            WriteIndex(segment);
        }
    }
}

void ShardLog::WriteIndex(Segment& segment) {
    segment.index_is_being_written = true;
    auto positions = std::make_shared<BlockPositions>();
    upkeep_.Run(
        [&files = files_,
         directory = options_.directory,
         seed = segments_.seed(),
         summary = segment.summary,
         index = segment.memory,
         names = NamesOf(*segment.memory, *subjects_),
         subjects = subjects_,  // Keeps the names.
         positions] {
            Result<BlockPositions> written =
                WriteIndexFile(files, directory, seed, summary, *index, names);
            if (!written.ok()) {
                return written.status();
            }
            *positions = std::move(*written);
            return Status::Ok();
        },
        [this, number = segment.number, positions](const Status& status) {
            Segment* const written = segments_.Find(number);
            if (written != nullptr) {
                written->index_is_being_written = false;
            }
            if (status.ok() && written != nullptr) {
                ApplyIndexPositions(*subjects_, number, *positions);
                written->memory = nullptr;
                segments_.CloseLeastUsed();
            } else if (!status.ok()) {
                // The index stays in memory, and a later sync tries again.
                next_index_at_ = 0;
                indexes_rest_until_ = clock_.Now() + kRestsAfterFailure;
                if (close_done_) {
                    close_status_ = status.WithContext("writing an index file");
                }
            }
            StepClose();
        });
}

Result<bool> ShardLog::Retain() {
    if (!failure_.ok()) {
        return Stopped();
    }
    room_was_needed_ = false;
    ReadClock();
    if (log_clock_.TakeSettled()) {
        WantSnapshot();
    }
    RetireOpenSegment();
    GrowMoveBudget();
    bool must_stay = false;
    while (segments_.all().size() > 1) {
        const Segment& oldest = segments_.all().begin()->second;
        if (!IsSealed(oldest.number) || oldest.index_is_being_written) {
            break;
        }
        const bool is_by_size = IsTooMuch();
        const bool is_old = IsOld(oldest);
        if (!is_old && !is_by_size && !(options_.drop_consumed && IsConsumed(oldest.number))) {
            break;
        }
        if (!MayGo(oldest, is_by_size && !is_old)) {
            must_stay = true;
            break;
        }
        const LogOffset end = segments_.BaseOf(oldest.number + 1);
        if (snapshots_.size() < kKeptSnapshots || snapshots_.front() < end) {
            // Without them a start could not do without the segment.
            WantSnapshot();
            break;
        }
        DropOldest();
    }
    RemoveDropped();
    next_index_at_ = 0;  // Reading may have found an index file that is to be made anew.
    WriteDueIndexes();
    return must_stay;
}

std::vector<StoreListener::Going> ShardLog::GoingWith(std::uint32_t number) {
    std::vector<StoreListener::Going> going;
    for (const std::unique_ptr<SubjectState>& subject : subjects_->all()) {
        if (const Extent* const extent = subject->Find(number)) {
            going.push_back({subject.get(), extent->end_sequence()});
        }
    }
    return going;
}

/// Whether the disk has had no room for what the owner has appended for a while, and had none just
/// now: a single write that is refused says little.
bool ShardLog::MoveWasRefusedNow() {
    const std::optional<TimePoint> refused = std::exchange(move_refused_at_, std::nullopt);
    return refused && disk_was_full_ && clock_.Now() - *refused <= kJustNow &&
           clock_.Now() - moves_refused_since_ >= kFullFor;
}

/// Asks the owner. What it appends then must be safe before the segment goes, whatever it answered.
bool ShardLog::MayGo(const Segment& oldest, bool is_by_size) {
    if (!candidate_ || candidate_->number != oldest.number) {
        candidate_ = Candidate{oldest.number, GoingWith(oldest.number), 0};
    }
    const bool is_forced =
        !candidate_->going.empty() && (!CheckHighWater().ok() || MoveWasRefusedNow());
    // Whatever the disk says afterwards, of the next segment.
    room_was_needed_ = room_was_needed_ || is_forced;
    bool may_go = candidate_->going.empty() || is_forced;
    if (!may_go && is_by_size && budget_.bytes <= 0) {
        TellTooMuchIsNeeded();
        return false;
    }
    if (!may_go) {
        const LogOffset before = end_;
        // Whatever was refused before: only an attempt says whether there is room now.
        disk_was_full_ = false;
        may_go = listener_.MayDrop(candidate_->going);
        if (end_ != before) {
            candidate_->appended_end = budget_.end = end_;
            budget_.bytes -= is_by_size ? static_cast<std::int64_t>(end_ - before) : 0;
        }
        // What it wanted to append found no room, and only what goes makes some.
        room_was_needed_ = room_was_needed_ || (!may_go && disk_was_full_);
        may_go = may_go || disk_was_full_;
    }
    return may_go && candidate_->appended_end <= synced_;
}

/// A byte for each that others have appended: so at most half of what is written is written anew,
/// and a log full of what is needed grows to about twice that. A little comes with time, or what is
/// done with would wait for others' bytes.
void ShardLog::GrowMoveBudget() {
    const auto segment_bytes = static_cast<std::int64_t>(options_.segment_bytes);
    const auto most = static_cast<std::int64_t>(options_.retention_bytes / 2);
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::min<TimePoint::duration>(clock_.Now() - budget_.time, kSegmentOfMoves));
    const std::int64_t by_time = segment_bytes / kSegmentOfMoves.count() * passed.count() / 1'000;
    const std::int64_t by_others =
        end_ > budget_.end ? static_cast<std::int64_t>(end_ - budget_.end) : 0;
    if (by_time + by_others > 0) {
        budget_.end = std::max(budget_.end, end_);
        budget_.time = clock_.Now();
        budget_.bytes = std::min(budget_.bytes + by_time + by_others, most);
    }
    budget_is_told_ = budget_is_told_ && IsTooMuch();
}

void ShardLog::TellTooMuchIsNeeded() {
    if (!std::exchange(budget_is_told_, true)) {
        Tell(env::EventKind::kLimit,
             "what waits for a retry or is held does not fit into the limit of " +
                 std::to_string(options_.retention_bytes) + " bytes: the log takes " +
                 std::to_string(stored_bytes()) +
                 " bytes, and may take more until its messages are done with or the disk is above "
                 "its high-water mark",
             0,
             stored_bytes());
    }
}

void ShardLog::WantSnapshot() {
    if (!snapshots_.empty() && snapshots_.back() == written_ && round_.empty()) {
        // Nothing has come since the last one, and two of the same place would be one.
        Record mark;
        if (!Append(mark, nullptr, nullptr, {}).ok() || !Write().ok()) {
            return;  // Nothing can be written now; the next call tries again.
        }
    }
    snapshot_is_wanted_ = true;
    TakeSnapshot();
}

bool ShardLog::IsOld(const Segment& segment) const {
    const LogOffset end = segments_.BaseOf(segment.number + 1);
    return log_clock_.AgeOf(segment.summary.newest, end) > options_.retention;
}

bool ShardLog::IsTooMuch() const {
    return options_.retention_bytes != 0 && stored_bytes() > options_.retention_bytes;
}

bool ShardLog::IsConsumed(std::uint32_t number) {
    for (const std::unique_ptr<SubjectState>& subject : subjects_->all()) {
        if (const Extent* const extent = subject->Find(number);
            extent != nullptr && listener_.ConsumedBelow(*subject) < extent->end_sequence()) {
            return false;
        }
    }
    return true;
}

/// The segment that is written to cannot go; when nothing has come for so long that its messages
/// should, the log moves on to the next one.
void ShardLog::RetireOpenSegment() {
    const bool has_messages =
        std::any_of(open_->memory->begin(), open_->memory->end(), [](const auto& entry) {
            return !entry.second.batches.empty();
        });
    if (!has_messages || !round_.empty() || !IsOld(*open_)) {
        return;
    }
    Status status = BeginRound();
    if (status.ok()) {
        status = Roll();
    }
    if (status.ok()) {
        Record mark;
        status = Append(mark, nullptr, nullptr, {}).status();
    }
    if (status.ok()) {
        status = Write();
    }
    if (status.ok()) {
        Sync();
    } else {
        DropRound();  // The next message, or the next call, tries again.
    }
}

void ShardLog::DropOldest() {
    const auto oldest = segments_.all().begin();
    const std::uint32_t number = oldest->first;
    segments_.all().erase(oldest);
    log_clock_.Forget(segments_.BaseOf(number + 2));
    reader_.DropSegment(number);
    candidate_.reset();
    std::vector<SubjectState*> changed;
    for (const std::unique_ptr<SubjectState>& subject : subjects_->all()) {
        std::vector<Extent>& extents = subject->extents;
        if (extents.empty() || extents.front().segment != number) {
            continue;
        }
        extents.erase(extents.begin());
        subject->set_first_sequence(extents.empty() ? subject->next_sequence()
                                                    : extents.front().first_sequence);
        changed.push_back(subject.get());
    }
    dropped_.push_back(number);
    RemoveDropped();
    for (SubjectState* const subject : changed) {
        listener_.OnDropped(*subject);
    }
}

/// Removes files of dropped segments strictly in order: a log with a gap would look like one that
/// has lost a segment. What a crash leaves of them is found by the next start, and dropped again.
void ShardLog::RemoveDropped() {
    if (dropped_.empty() || is_removing_) {
        return;
    }
    is_removing_ = true;
    upkeep_.Run(
        [&files = files_,
         log = segments_.PathOf(dropped_.front(), FileKind::kLog),
         index = segments_.PathOf(dropped_.front(), FileKind::kIndex),
         directory = options_.directory] {
            // The log first: an index without a log is cleared away by the next start.
            for (const std::string& path : {log, index}) {
                Status status = files.Remove(path);
                if (!status.ok() && status.code() != StatusCode::kNotFound) {
                    return status;
                }
            }
            return files.SyncDirectory(directory);
        },
        [this](const Status& status) {
            is_removing_ = false;
            if (status.ok()) {
                dropped_.pop_front();
                RemoveDropped();
            }  // Else the next call of `Retain` tries again.
            StepClose();
        });
}

std::uint64_t ShardLog::stored_bytes() const {
    return segments_.all().size() * options_.segment_bytes;
}

std::uint64_t ShardLog::stored_bytes(const SubjectLog& subject) const {
    return StateOf(subject).stored_bytes();
}

void ShardLog::Close(UniqueFunction<void(Status)> done) {
    Status status = failure_.ok() ? Write() : Stopped();
    if (status.ok()) {
        status = EraseLeftovers();
    }
    close_done_ = std::move(done);
    close_status_ = status;
    snapshot_is_wanted_ = true;
    DropSpareSegment();
    next_index_at_ = 0;
    WriteDueIndexes();
    Sync();
    StepClose();
}

void ShardLog::StepClose() {
    if (!close_done_) {
        return;
    }
    const bool has_stopped = !failure_.ok();
    const bool is_saving = snapshot_is_wanted_ || pending_snapshot_ || snapshot_is_being_saved_;
    const bool is_synced = !sync_is_running_ && synced_ == written_;
    if (!upkeep_.idle() || (!has_stopped && (is_saving || !is_synced))) {
        return;
    }
    UniqueFunction<void(Status)> done = std::move(close_done_);
    close_done_ = nullptr;
    done(has_stopped ? Stopped() : close_status_);
}

}  // namespace qmq::store
