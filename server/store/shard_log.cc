#include "server/store/shard_log.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "qmq/random.h"

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/file_names.h"
#include "server/store/store_settings.h"

namespace qmq::store {
namespace {

constexpr std::uint64_t kNewestBatchesBytes = 4U << 20;

}  // namespace

Result<std::unique_ptr<ShardStore>> ShardStore::Open(const StoreOptions& options,
                                                     const StoreEnvironment& environment,
                                                     StoreListener& listener) {
    Status status = ValidateOptions(options);
    if (!status.ok()) {
        return status;
    }
    auto log = std::make_unique<ShardLog>(options, environment, listener);
    status = log->Start();
    if (!status.ok()) {
        return status.WithContext("store " + options.directory);
    }
    return std::unique_ptr<ShardStore>(std::move(log));
}

ShardLog::ShardLog(const StoreOptions& options,
                   const StoreEnvironment& environment,
                   StoreListener& listener)
    : options_(options),
      files_(environment.files),
      clock_(environment.clock),
      strand_(environment.strand),
      listener_(listener),
      events_(environment.events),
      seed_(environment.seed),
      segments_(environment.files, options.directory, options.segment_bytes),
      factory_(segments_, environment.clock, upkeep_),
      batches_(kNewestBatchesBytes),
      reader_(segments_,
              *subjects_,
              batches_,
              environment.clock,
              environment.events,
              options.index_cache_bytes),
      log_clock_(options.retention),
      budget_{static_cast<std::int64_t>(options.retention_bytes / 2), 0, {}},
      syncs_(environment.io, environment.strand),
      upkeep_(environment.io, environment.strand) {}

Status ShardLog::Start() {
    Status status = files_.MakeDirectories(options_.directory);
    if (!status.ok()) {
        return status;
    }
    Result<std::unique_ptr<env::FileLock>> lock =
        files_.Lock(options_.directory + "/" + std::string(kLockName));
    if (!lock.ok()) {
        return lock.status();
    }
    lock_ = std::move(*lock);
    const Result<std::vector<std::string>> names = files_.List(options_.directory);
    if (!names.ok()) {
        return names.status();
    }
    const bool is_new =
        std::none_of(names.value().begin(), names.value().end(), [](const std::string& name) {
            const std::optional<NamedFile> file = ParseFileName(name);
            return file && file->kind != FileKind::kTemporary;
        });
    const LogSeed new_seed{static_cast<std::uint32_t>(Random(seed_).Next())};
    const Result<StoreSettings> settings = CheckSettings(files_, options_, is_new, new_seed);
    if (!settings.ok()) {
        return settings.status();
    }
    segments_.set_seed(settings.value().seed);
    Result<RecoveredLog> recovered = Recovery(segments_, *subjects_, listener_).Run();
    if (!recovered.ok()) {
        return recovered.status();
    }
    return Begin(std::move(*recovered));
}

Status ShardLog::Begin(RecoveredLog recovered) {
    recovery_ = std::move(recovered.report);
    for (auto& [number, file] : recovered.empty_segments) {
        factory_.PutBack(number, std::move(file));
    }
    snapshots_ = std::move(recovered.snapshots);
    incarnation_ = recovered.incarnation + 1;
    recovery_.incarnation = incarnation_;
    end_ = written_ = synced_ = budget_.end = recovered.end;
    budget_.time = clock_.Now();
    const WallTime wall = clock_.WallNow();
    const WallTime newest = recovered.clock.date;
    downtime_ = std::max(wall - (newest == WallTime{} ? wall : newest), WallTime::duration(0));
    log_clock_.Start(clock_.Now(), wall, recovered.clock);
    const std::uint32_t number = segments_.NumberOf(end_);
    open_ = segments_.Find(number);
    if (open_ == nullptr || open_->file == nullptr) {
        Result<std::shared_ptr<env::File>> file = factory_.Take(number);
        if (!file.ok()) {
            return NoNextSegment(file.status());
        }
        open_ = &segments_.Add(number, std::move(*file));
        open_->memory = std::make_shared<MemoryIndex>();
    } else {
        // A copy of the folder may have cut zeros off.
        Status status = open_->file->Allocate(options_.segment_bytes);
        if (!status.ok()) {
            return status;
        }
    }
    ReadClock();
    Record start = NewStart();
    said_pending_from_ = start.pending_from;
    const Result<Appended> appended = Append(start, nullptr, nullptr, {});
    if (!appended.ok()) {
        return NoNextSegment(appended.status());
    }
    Status status = WriteSpans();
    // Two files, when the mark that ends a segment came first.
    for (std::size_t i = 0; status.ok() && i < dirty_.size(); ++i) {
        status = dirty_[i]->Sync();
    }
    if (status.ok()) {
        status = files_.SyncDirectory(options_.directory);
    }
    if (!status.ok()) {
        return status.WithContext("writing the first record");
    }
    round_.Clear();
    round_has_begun_ = false;
    undo_.clear();
    dirty_.clear();
    directory_is_dirty_ = false;
    written_ = synced_ = end_;
    for (const RecoveryReport::Corruption& found : recovery_.corruptions) {
        Tell(env::EventKind::kDamage,
             found.path + " at " + std::to_string(found.file_offset) + ": " + found.reason +
                 (found.committed || found.is_unreadable
                      ? ""
                      : "; a power cut took it before it was synced: nothing that was promised "
                        "to be durable is lost"),
             0,
             found.end - found.begin);
    }
    return Status::Ok();
}

Status ShardLog::NoNextSegment(const Status& why) const {
    if (why.code() != StatusCode::kResourceExhausted) {
        return why;
    }
    return why.WithContext("the last segment is full, and the disk has no room for the next " +
                           std::to_string(options_.segment_bytes) +
                           " bytes: free so much and start again; nothing is lost");
}

SubjectLog* ShardLog::FindSubject(std::string_view name, bool make) {
    return make ? subjects_->FindOrMake(name) : subjects_->Find(name);
}

void ShardLog::SkipTo(SubjectLog& subject, std::uint64_t next_sequence) {
    SubjectState& state = StateOf(subject);
    const LogOffset since = state.extents.empty() ? segments_.FirstBase()
                                                  : segments_.BaseOf(state.extents.back().segment);
    if (!segments_.IsDamagedIn(since, end_)) {
        state.AddGap({state.next_sequence(), next_sequence});
    }
    state.set_next_sequence(std::max(state.next_sequence(), next_sequence));
}

std::vector<SubjectLog*> ShardLog::Subjects() {
    std::vector<SubjectLog*> all;
    all.reserve(subjects_->all().size());
    for (const std::unique_ptr<SubjectState>& subject : subjects_->all()) {
        all.push_back(subject.get());
    }
    return all;
}

Result<ShardStore::Appended> ShardLog::AppendMessages(SubjectLog& subject,
                                                      Slice batch,
                                                      const BatchView& checked) {
    Status status = CheckHighWater();
    if (!status.ok()) {
        return status;
    }
    Record record;
    record.header.kind = RecordKind::kMessages;
    return Append(record, &StateOf(subject), &checked, std::move(batch));
}

void ShardLog::Prefetch(const SubjectLog& subject) const {
    const SubjectState& state = StateOf(subject);
    __builtin_prefetch(state.open_index);
    __builtin_prefetch(state.extents.data() + state.extents.size());
}

Result<LogOffset> ShardLog::AppendAction(std::string_view action) {
    Record record;
    record.header.kind = RecordKind::kAction;
    record.action = action;
    const Result<Appended> appended = Append(record, nullptr, nullptr, {});
    if (!appended.ok()) {
        return appended.status();
    }
    return appended.value().end;
}

Result<ShardStore::Appended> ShardLog::AppendMove(std::string_view action,
                                                  SubjectLog& subject,
                                                  Slice batch) {
    // It was made by us and not checked by anybody: one message, so this costs little.
    BatchLimits limits = options_.limits;
    limits.max_batch_bytes = static_cast<std::size_t>(options_.segment_bytes);
    const Result<BatchView> checked = BatchView::Parse(batch.bytes(), limits);
    if (!checked.ok()) {
        return Status::InvalidArgument("the batch to move: " +
                                       std::string(checked.status().message()));
    }
    Record record;
    record.header.kind = RecordKind::kMove;
    record.action = action;
    return Append(record, &StateOf(subject), &checked.value(), std::move(batch));
}

Result<ShardStore::Appended> ShardLog::Append(Record& record,
                                              SubjectState* subject,
                                              const BatchView* batch,
                                              Slice kept) {
    if (!failure_.ok()) {
        return Stopped();
    }
    if (round_.empty()) {
        ReadClock();
    }
    if (subject != nullptr) {
        record.subject = subject->name();
        record.batch = kept.bytes();
        record.count = batch->count();
        record.first_sequence = subject->next_sequence();
        record.stored = log_clock_.date();
    }
    const std::uint64_t bytes = EncodedBytes(record);
    if (bytes > options_.segment_bytes) {
        return Status::InvalidArgument("a record of " + std::to_string(bytes) +
                                       " bytes does not fit into a segment of " +
                                       std::to_string(options_.segment_bytes) +
                                       ": send smaller batches or make the store with larger "
                                       "segments");
    }
    Status status = SayJump();
    if (status.ok()) {
        status = EnsureRoom(bytes);
    }
    if (!status.ok()) {
        return status;
    }
    Add(record, subject, batch, std::move(kept));
    return Appended{record.first_sequence, end_};
}

Record ShardLog::NewStart() const {
    const ClockState clock = log_clock_.state();
    Record start;
    start.header.kind = RecordKind::kStart;
    // The next process takes for downtime what the wall clock is ahead of the newest date.
    start.stored = std::max(clock.date, clock_.WallNow());
    start.known = clock.known.value_or(RunningTime{});
    start.pending_from = clock.pending_from;
    return start;
}

/// The records that follow were written after the wall clock had jumped ahead: the next process
/// must not make them older by it.
Status ShardLog::SayJump() {
    if (log_clock_.pending_from() == 0 || log_clock_.pending_from() == said_pending_from_) {
        return Status::Ok();
    }
    Record start = NewStart();
    Status status = EnsureRoom(EncodedBytes(start));
    if (status.ok()) {
        Add(start, nullptr, nullptr, {});
        said_pending_from_ = start.pending_from;
    }
    return status;
}

Status ShardLog::EnsureRoom(std::uint64_t bytes) {
    Status status = BeginRound();
    if (!status.ok()) {
        return status;
    }
    const std::uint64_t position = end_ - open_->base();
    return position + bytes <= options_.segment_bytes ? Status::Ok() : Roll();
}

Status ShardLog::BeginRound() {
    if (round_has_begun_) {
        return Status::Ok();
    }
    Status status = EraseLeftovers();
    if (status.ok()) {
        round_has_begun_ = true;
        round_segment_ = open_->number;
        kind_before_round_ = last_kind_;
        newest_before_round_ = open_->summary.newest;
        budget_before_round_ = budget_;
    }
    return status;
}

bool ShardLog::IsSealed(std::uint32_t number) const {
    return number < (round_has_begun_ ? round_segment_ : open_->number);
}

Status ShardLog::Roll() {
    const std::uint32_t next = open_->number + 1;
    Result<std::shared_ptr<env::File>> file = TakeFile(next);
    if (!file.ok()) {
        disk_was_full_ = file.status().code() == StatusCode::kResourceExhausted;
        return disk_was_full_ ? file.status()
                              : Status::Unavailable("the next segment cannot be made now: " +
                                                    std::string(file.status().message()));
    }
    if (options_.segment_bytes - (end_ - open_->base()) >= RecordHeader::kBytes) {
        Record mark;
        mark.header.flags = RecordHeader::kLastInSegment;
        Add(mark, nullptr, nullptr, {});
    }
    DetachOpenIndexes(*open_);
    round_.NextSegment();
    const std::size_t subjects = open_->memory->size();
    open_ = &segments_.Add(next, std::move(*file));
    open_->memory = std::make_shared<MemoryIndex>(subjects);
    end_ = open_->base();
    return Status::Ok();
}

Result<std::shared_ptr<env::File>> ShardLog::TakeFile(std::uint32_t number) {
    Result<std::shared_ptr<env::File>> file = factory_.Take(number);
    // The sync that covers its first record covers its name.
    directory_is_dirty_ =
        directory_is_dirty_ || (file.ok() && !env::Planted(env::PlantedBug::kFolderNotSynced));
    return file;
}

void ShardLog::Add(Record& record, SubjectState* subject, const BatchView* batch, Slice kept) {
    record.header.offset = end_;
    record.header.committed = synced_;
    record.header.incarnation = incarnation_;
    record.header.running = log_clock_.running();
    round_.Add(record, segments_.seed());
    const std::uint64_t bytes = EncodedBytes(record);
    if (subject != nullptr) {
        undo_.push_back({subject, open_->number, subject->next_sequence()});
        IndexRecord(*subject,
                    open_->number,
                    OpenIndexOf(*subject),
                    record.first_sequence,
                    static_cast<std::uint32_t>(end_ - open_->base()),
                    static_cast<std::uint32_t>(bytes),
                    *batch);
        subject->set_next_sequence(record.first_sequence + record.count);
        batches_.AddNewest(end_, std::move(kept));
    }
    if (record.has_messages() || record.has_action()) {
        open_->summary.newest = record.header.running;
    }
    end_ += bytes;
    open_->summary.used_end = end_;
    last_kind_ = record.header.kind;
}

SubjectIndex& ShardLog::OpenIndexOf(SubjectState& subject) {
    if (subject.open_index == nullptr) {
        subject.open_index = &(*open_->memory)[subject.id()];
    }
    return *subject.open_index;
}

void ShardLog::DetachOpenIndexes(Segment& segment) {
    for (const auto& entry : *segment.memory) {
        subjects_->all()[entry.first]->open_index = nullptr;
    }
}

Status ShardLog::CheckHighWater() {
    if (env::Planted(env::PlantedBug::kNoHighWater)) {
        return Status::Ok();
    }
    // Room is looked for more often than the lack of it.
    const std::chrono::milliseconds interval(high_water_.ok() ? 1'000 : 10);
    const TimePoint now = clock_.Now();
    if (space_was_checked_ && now - space_checked_ < interval) {
        return high_water_;
    }
    space_checked_ = now;
    space_was_checked_ = true;
    Status status;
    const Result<env::DiskSpace> space = files_.Space(options_.directory);
    // A disk that cannot be asked may still have room; when it has none, the write says so.
    if (space.ok() && space.value().total_bytes > 0) {
        const auto total = static_cast<double>(space.value().total_bytes);
        const double used = 100.0 * (total - static_cast<double>(space.value().free_bytes)) / total;
        if (used > options_.disk_high_water_percent) {
            status = Status::ResourceExhausted(
                "the disk of " + options_.directory + " is " +
                std::to_string(static_cast<int>(used)) + " % full, above the mark of " +
                std::to_string(static_cast<int>(options_.disk_high_water_percent)) +
                " %: free some space, or lower the retention");
        }
    }
    OnHighWater(std::move(status));
    return high_water_;
}

void ShardLog::OnHighWater(Status status) {
    if (status.ok() != high_water_.ok()) {
        Tell(env::EventKind::kLimit,
             status.ok() ? "the disk is below its high-water mark again: sends are taken"
                         : "sends are refused, and segments that are due go, needed or not: " +
                               std::string(status.message()));
    }
    high_water_ = std::move(status);
}

WallTime ShardLog::LogNow() {
    ReadClock();
    return log_clock_.date();
}

RunningTime ShardLog::RunningNow() {
    ReadClock();
    return log_clock_.running();
}

void ShardLog::ReadClock() {
    const auto jump = log_clock_.Read(clock_.Now(), clock_.WallNow(), end_);
    if (jump) {
        const std::int64_t ms = jump->count();
        Tell(env::EventKind::kClockJump,
             "the wall clock is " + std::to_string(std::abs(ms)) + " ms " +
                 (ms > 0 ? "ahead of" : "behind") + " what the log expects" +
                 (ms > 0 ? ": once that has stood for " +
                               std::to_string(LogClock::kStandsFor.count()) +
                               " minutes what was written before counts as older by it; set the "
                               "clock right before if it is wrong"
                         : ": downtime does not count until it has caught up"),
             static_cast<std::uint64_t>(std::abs(ms)));
    }
}

void ShardLog::Tell(env::EventKind kind,
                    std::string text,
                    std::uint64_t count,
                    std::uint64_t bytes) {
    events_.OnEvent({kind, options_.directory, std::move(text), count, bytes});
}

Result<ReadReply> ShardLog::Read(SubjectLog& subject, const ReadRequest& request) {
    return reader_.Read(StateOf(subject), request);
}

}  // namespace qmq::store
