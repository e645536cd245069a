#include "server/store/shard_log.h"

#include <algorithm>
#include <string>
#include <utility>

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
      segments_(environment.files, options.directory, options.segment_bytes),
      batches_(kNewestBatchesBytes),
      reader_(segments_, *subjects_, batches_, environment.clock, options.index_cache_bytes),
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
    status = CheckSettings(files_, options_, is_new);
    if (!status.ok()) {
        return status;
    }
    Result<RecoveredLog> recovered = Recovery(segments_, *subjects_, listener_).Run();
    if (!recovered.ok()) {
        return recovered.status();
    }
    return Begin(std::move(*recovered));
}

Status ShardLog::Begin(RecoveredLog recovered) {
    recovery_ = std::move(recovered.report);
    snapshots_ = std::move(recovered.snapshots);
    incarnation_ = recovered.incarnation + 1;
    recovery_.incarnation = incarnation_;
    end_ = written_ = synced_ = recovered.end;
    const std::uint32_t number = segments_.NumberOf(end_);
    open_ = segments_.Find(number);
    if (open_ == nullptr || open_->file == nullptr) {
        Result<std::shared_ptr<env::File>> file = MakeSegmentFile(
            files_, segments_.PathOf(number, FileKind::kLog), options_.segment_bytes);
        if (!file.ok()) {
            return file.status();
        }
        open_ = &segments_.Add(number, std::move(*file));
        open_->memory = std::make_shared<MemoryIndex>();
    } else {
        // It may be short: the process may have died between making and growing it.
        Status status = open_->file->Allocate(options_.segment_bytes);
        if (!status.ok()) {
            return status;
        }
    }
    Record start;
    start.header.kind = RecordKind::kStart;
    start.stored = clock_.WallNow();
    const Result<Appended> appended = Append(start, nullptr, nullptr, {});
    if (!appended.ok()) {
        return appended.status();
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
    return Status::Ok();
}

SubjectLog* ShardLog::FindSubject(std::string_view name, bool make) {
    return make ? subjects_->FindOrMake(name) : subjects_->Find(name);
}

void ShardLog::SkipTo(SubjectLog& subject, std::uint64_t next_sequence) {
    SubjectState& state = StateOf(subject);
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
    if (subject != nullptr) {
        record.subject = subject->name();
        record.batch = kept.bytes();
        record.count = batch->count();
        record.first_sequence = subject->next_sequence();
        record.stored = clock_.WallNow();
    }
    if (!leftovers_.empty()) {
        Status status = EraseLeftovers();
        if (!status.ok()) {
            return failure_.ok() ? status : Stopped();
        }
    }
    const std::uint64_t bytes = EncodedBytes(record);
    if (bytes > options_.segment_bytes) {
        return Status::InvalidArgument("a record of " + std::to_string(bytes) +
                                       " bytes does not fit into a segment of " +
                                       std::to_string(options_.segment_bytes) +
                                       ": send smaller batches or make the store with larger "
                                       "segments");
    }
    Status status = EnsureRoom(bytes);
    if (!status.ok()) {
        return status;
    }
    Add(record, subject, batch, std::move(kept));
    return Appended{record.first_sequence, end_};
}

Status ShardLog::EnsureRoom(std::uint64_t bytes) {
    BeginRound();
    const std::uint64_t position = end_ - open_->base();
    return position + bytes <= options_.segment_bytes ? Status::Ok() : Roll();
}

void ShardLog::BeginRound() {
    if (!round_has_begun_) {
        round_has_begun_ = true;
        round_segment_ = open_->number;
        kind_before_round_ = last_kind_;
    }
}

Status ShardLog::Roll() {
    const std::uint32_t next = open_->number + 1;
    Result<std::shared_ptr<env::File>> file = TakeNextFile(next);
    if (!file.ok()) {
        return file.status().code() == StatusCode::kResourceExhausted
                   ? file.status()
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

Result<std::shared_ptr<env::File>> ShardLog::TakeNextFile(std::uint32_t number) {
    if (prepared_ && prepared_->number == number) {
        std::shared_ptr<env::File> file = std::move(prepared_->file);
        prepared_.reset();
        return file;
    }
    // It is not there yet, or could not be made before. Should it be under way just now, both find
    // the same file.
    Result<std::shared_ptr<env::File>> file =
        MakeSegmentFile(files_, segments_.PathOf(number, FileKind::kLog), options_.segment_bytes);
    directory_is_dirty_ = directory_is_dirty_ || file.ok();
    return file;
}

void ShardLog::Add(Record& record, SubjectState* subject, const BatchView* batch, Slice kept) {
    record.header.offset = end_;
    record.header.committed = synced_;
    record.header.incarnation = incarnation_;
    round_.Add(record);
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
        open_->summary.newest = std::max(open_->summary.newest, record.stored);
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
    // Room is looked for more often than the lack of it.
    const std::chrono::milliseconds interval(high_water_.ok() ? 1'000 : 10);
    const TimePoint now = clock_.Now();
    if (space_was_checked_ && now - space_checked_ < interval) {
        return high_water_;
    }
    space_checked_ = now;
    space_was_checked_ = true;
    high_water_ = Status::Ok();
    const Result<env::DiskSpace> space = files_.Space(options_.directory);
    // A disk that cannot be asked may still have room; when it has none, the write says so.
    if (space.ok() && space.value().total_bytes > 0) {
        const auto total = static_cast<double>(space.value().total_bytes);
        const double used = 100.0 * (total - static_cast<double>(space.value().free_bytes)) / total;
        if (used > options_.disk_high_water_percent) {
            high_water_ = Status::ResourceExhausted(
                "the disk of " + options_.directory + " is " +
                std::to_string(static_cast<int>(used)) + " % full, above the mark of " +
                std::to_string(static_cast<int>(options_.disk_high_water_percent)) +
                " %: free some space, or lower the retention");
        }
    }
    return high_water_;
}

Result<ReadReply> ShardLog::Read(SubjectLog& subject, const ReadRequest& request) {
    return reader_.Read(StateOf(subject), request);
}

}  // namespace qmq::store
