#include <algorithm>
#include <utility>

#include "server/store/file_names.h"
#include "server/store/recovery.h"
#include "server/store/store_settings.h"

// How recovery finds the state from which it replays.

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

Status Recovery::LoadSnapshot() {
    constexpr std::size_t kKept = 2;
    for (auto position = snapshot_files_.rbegin();
         position != snapshot_files_.rend() && log_.snapshots.size() < kKept;
         ++position) {
        const Result<Snapshot> snapshot = ReadSnapshot(*position);
        Status status = snapshot.status();
        if (status.ok()) {
            // One that contradicts store.json is of another store, or store.json is.
            const SeedWitness witness{
                segments_.directory() + "/" + FileName(*position, FileKind::kSnapshot),
                snapshot.value().seed};
            status = CheckSeed(segments_.directory(), segments_.seed(), witness);
        }
        if (status.ok() && log_.snapshots.empty()) {
            status = UseSnapshot(snapshot.value());
        }
        if (status.code() == StatusCode::kDataLoss) {
            AddSnapshotDamage(*position, status);
            continue;
        }
        if (!status.ok()) {
            return status;
        }
        log_.snapshots.insert(log_.snapshots.begin(), *position);
    }
    if (log_.snapshots.empty() && !logs_.empty() && *logs_.begin() != 0) {
        return Status::DataLoss(
            segments_.directory() + " has no readable snapshot, and its log begins at " +
            std::to_string(segments_.BaseOf(*logs_.begin())) +
            ": what its consumer groups have acked cannot be told. Restore a .snapshot file or the "
            "segments from the log's beginning");
    }
    return Status::Ok();
}

Result<Snapshot> Recovery::ReadSnapshot(LogOffset position) {
    const Result<Slice> bytes = ReadPersistently(
        segments_.files(), segments_.directory() + "/" + FileName(position, FileKind::kSnapshot));
    if (!bytes.ok()) {
        return bytes.status();
    }
    Result<Snapshot> snapshot = ParseSnapshot(bytes.value().bytes());
    if (snapshot.ok() && snapshot->position != position) {
        return Status::DataLoss("it is that of log offset " + std::to_string(snapshot->position));
    }
    return snapshot;
}

void Recovery::AddSnapshotDamage(LogOffset position, const Status& why) {
    log_.report.corruptions.push_back(
        {position,
         position,
         segments_.directory() + "/" + FileName(position, FileKind::kSnapshot),
         0,
         "snapshot: " + std::string(why.message()) + "; an older one is used",
         true});
}

Status Recovery::UseSnapshot(const Snapshot& snapshot) {
    // The owner first: nothing of one that it cannot read may stay.
    Status status = listener_.OnSnapshot(snapshot.state)
                        .WithContext("snapshot at log offset " + std::to_string(snapshot.position));
    if (!status.ok()) {
        return status;
    }
    replay_from_ = watermark_ = snapshot.position;
    log_.incarnation = snapshot.incarnation;
    // Its first record lies below the position.
    snapshot_writer_ = {
        snapshot.incarnation,
        snapshot.position - std::min<LogOffset>(snapshot.position, kStartRecordBytes)};
    log_.clock = snapshot.clock;
    dated_at_ = snapshot.clock.running;
    for (const Snapshot::Subject& subject : snapshot.subjects) {
        if (SubjectState* const state = subjects_.FindOrMake(subject.name)) {
            state->set_first_sequence(subject.first_sequence);
            state->set_next_sequence(subject.next_sequence);
            state->set_gaps(subject.gaps);
        }
    }
    subjects_.sequence_floor = snapshot.sequence_floor;
    return Status::Ok();
}

}  // namespace qmq::store
