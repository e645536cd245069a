#include "server/store/log_inspector.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "server/store/bytes.h"
#include "server/store/file_names.h"
#include "server/store/segment_index.h"
#include "server/store/segment_scanner.h"
#include "server/store/snapshot_file.h"
#include "server/store/store_settings.h"

namespace qmq::store {
namespace {

struct StoreFiles {
    StoreSettings settings;
    std::vector<LogOffset> logs;
    std::vector<LogOffset> indexes;
    std::vector<LogOffset> snapshots;
    std::vector<std::string> strays;  ///< That begin where no segment can begin.
};

Result<StoreFiles> ListStore(env::FileSystem& files, const std::string& directory) {
    const Result<std::optional<StoreSettings>> settings = ReadSettings(files, directory);
    if (!settings.ok()) {
        return settings.status();
    }
    if (!settings.value()) {
        return Status::NotFound(directory + " holds no store: it has no " +
                                std::string(kSettingsName));
    }
    const Result<std::vector<std::string>> names = files.List(directory);
    if (!names.ok()) {
        return names.status();
    }
    StoreFiles found;
    found.settings = *settings.value();
    for (const std::string& name : names.value()) {
        const std::optional<NamedFile> file = ParseFileName(name);
        if (!file) {
            continue;
        }
        const bool is_of_segment = file->kind == FileKind::kLog || file->kind == FileKind::kIndex;
        if (is_of_segment && file->offset % found.settings.segment_bytes != 0) {
            found.strays.push_back(name);
            continue;
        }
        switch (file->kind) {
            case FileKind::kLog:
                found.logs.push_back(file->offset);
                break;
            case FileKind::kIndex:
                found.indexes.push_back(file->offset);
                break;
            case FileKind::kSnapshot:
                found.snapshots.push_back(file->offset);
                break;
            case FileKind::kTemporary:
                break;
        }
    }
    return found;
}

std::string PathOf(const std::string& directory, LogOffset offset, FileKind kind) {
    return directory + "/" + FileName(offset, kind);
}

/// Walks the segments; tells where one ends too early only once a later one has a record.
class Walk {
public:
    Walk(env::FileSystem& files, const std::string& directory, LogVisitor& visitor)
        : files_(files), directory_(directory), visitor_(visitor) {}

    Status Run(const StoreFiles& store) {
        LogOffset expected = store.logs.empty() ? 0 : store.logs.front();
        for (const LogOffset base : store.logs) {
            if (base > expected && !stopped_) {
                Report(
                    {expected, base, {directory_, 0}, "the files of these segments are missing"});
            }
            expected = base + store.settings.segment_bytes;
            if (!stopped_) {
                Status status = WalkSegment(base, store.settings);
                if (!status.ok()) {
                    return status;
                }
            }
        }
        if (tail_ && tail_->end > tail_->begin && !stopped_) {
            tail_->is_tail = true;
            Report(*tail_);
        }
        return Status::Ok();
    }

private:
    Status WalkSegment(LogOffset base, const StoreSettings& settings) {
        const std::string path = PathOf(directory_, base, FileKind::kLog);
        const auto file = files_.Open(path, env::OpenMode::kRead);
        if (!file.ok()) {
            return file.status();
        }
        SegmentScanner scanner(*file.value(), base, settings.segment_bytes, settings.seed, writer_);
        bool is_sealed = false;
        while (!stopped_) {
            const Result<SegmentScanner::Step> next = scanner.Next();
            if (!next.ok()) {
                return next.status();
            }
            const SegmentScanner::Step& step = next.value();
            if (step.kind == SegmentScanner::StepKind::kEnd) {
                writer_ = scanner.writer();
                OnEnd(base, settings.segment_bytes, step, is_sealed, path);
                break;
            }
            CloseTail(base);
            if (step.kind == SegmentScanner::StepKind::kDamage) {
                Report({base + step.position, base + step.end, {path, step.position}, step.reason});
                continue;
            }
            const RecordHeader& header = step.record.header;
            is_sealed = header.ends_segment();
            stopped_ = !visitor_.OnRecord(step.record, {path, step.position});
        }
        return Status::Ok();
    }

    void OnEnd(LogOffset base,
               std::uint64_t segment_bytes,
               const SegmentScanner::Step& step,
               bool is_sealed,
               const std::string& path) {
        const bool is_full = segment_bytes - step.position < RecordHeader::kBytes;
        if (is_sealed || is_full) {
            return;
        }
        if (!tail_) {
            tail_ = LogDamage{
                base + step.position, base + step.end, {path, step.position}, step.reason};
        } else if (step.end > step.position) {
            tail_->end = base + step.end;
        }
    }

    /// A record in a later segment proves that the one before it ended too early.
    void CloseTail(LogOffset base) {
        if (tail_ && tail_->begin < base) {
            tail_->end = std::max(tail_->end, base);
            tail_->reason = "later segments go on, and no mark ends this one: " + tail_->reason;
            Report(*tail_);
        }
        tail_.reset();
    }

    void Report(const LogDamage& damage) { stopped_ = !visitor_.OnDamage(damage); }

    env::FileSystem& files_;
    const std::string& directory_;
    LogVisitor& visitor_;
    std::optional<LogDamage> tail_;
    bool stopped_ = false;
    LogWriter writer_;  // Of the last record.
};

class Verifier final : public LogVisitor {
public:
    Verifier(env::FileSystem& files, const std::string& directory, const ActionCheck& check_action)
        : files_(files), directory_(directory), check_action_(check_action) {}

    Result<VerifyReport> Run() {
        const Result<StoreFiles> store = ListStore(files_, directory_);
        if (!store.ok()) {
            return store.status();
        }
        settings_ = store.value().settings;
        report_.segment_count = store.value().logs.size();
        report_.begin = store.value().logs.empty() ? 0 : store.value().logs.front();
        for (const std::string& name : store.value().strays) {
            Problem({directory_ + "/" + name, 0},
                    "no segment of " + std::to_string(settings_.segment_bytes) +
                        " bytes begins there: it is not of this store; move it away");
        }
        for (const LogOffset base : store.value().logs) {
            CheckFront(base);
        }
        Status status = Walk(files_, directory_, *this).Run(store.value());
        if (!status.ok()) {
            return status;
        }
        for (const LogOffset base : store.value().indexes) {
            CheckIndex(base);
        }
        for (const LogOffset position : store.value().snapshots) {
            CheckSnapshot(position);
        }
        CheckBegin(store.value().logs);
        CheckEnd(store.value().logs);
        report_.subject_count = subjects_.size();
        return std::move(report_);
    }

    bool OnRecord(const Record& record, const LogPlace& place) override {
        ++report_.record_count;
        report_.end = record.end();
        watermark_ = std::max(watermark_, record.header.committed);
        const LogOffset base = record.header.offset - place.file_offset;
        const LogOffset next_base = base + settings_.segment_bytes;
        const bool ends_segment = record.header.ends_segment();
        const bool is_full = next_base - record.end() < RecordHeader::kBytes;
        used_end_ = ends_segment || is_full ? next_base : record.end();
        if (ends_segment) {
            last_sealed_ = base;
        }
        bool is_set_aside = false;
        if (record.has_action()) {
            ++report_.action_count;
            if (Status status = check_action_(record.action); !status.ok()) {
                Problem(place, "its action cannot be read: " + status.ToString());
                is_set_aside = status.code() == StatusCode::kDataLoss;
            }
        }
        if (record.has_messages()) {
            OnMessages(record, place, is_set_aside);
        }
        return true;
    }

    bool OnDamage(const LogDamage& damage) override {
        if (damage.is_tail) {
            torn_end_ = damage.end;
            report_.torn_tail_bytes = damage.end - damage.begin;
            return true;
        }
        report_.damage.push_back(damage);
        Problem(damage.place,
                "log offsets " + std::to_string(damage.begin) + " to " +
                    std::to_string(damage.end) + " hold no record: " + damage.reason);
        return true;
    }

private:
    /// What the index of a segment may say of a subject. A start sets aside the records whose
    /// actions it cannot read, messages and all; the process that wrote them knew no better than to
    /// index them. So the first of those are missing, none to all, and the rest is there: one for
    /// each number of missing ones.
    class MayBe {
    public:
        void Add(const Record& record,
                 const LogPlace& place,
                 const BatchView& batch,
                 bool is_set_aside) {
            if (index_.Add(record.first_sequence,
                           static_cast<std::uint32_t>(place.file_offset),
                           static_cast<std::uint32_t>(record.header.record_bytes()),
                           batch)) {
                is_set_aside_.push_back(is_set_aside);
            }
        }
        bool Has(const SubjectIndex& index) const {
            if (index.batches.size() > index_.batches.size()) {
                return false;
            }
            std::size_t missing = index_.batches.size() - index.batches.size();
            auto batch = index.batches.begin();
            auto message = index.messages.begin();
            std::uint64_t stored_bytes = 0;
            for (std::size_t i = 0; i < index_.batches.size(); ++i) {
                if (is_set_aside_[i] && missing > 0) {
                    --missing;
                    continue;
                }
                BatchEntry expected = index_.batches[i];
                const auto messages = index_.messages.begin() + expected.first_message;
                const auto place = message - index.messages.begin();
                expected.first_message = static_cast<std::uint32_t>(place);
                if (batch == index.batches.end() || *batch != expected ||
                    expected.count > index.messages.end() - message ||
                    !std::equal(messages, messages + expected.count, message)) {
                    return false;
                }
                ++batch;
                message += expected.count;
                stored_bytes += expected.record_bytes;
            }
            return message == index.messages.end() && stored_bytes == index.stored_bytes;
        }
        /// All that it has may have been set aside.
        bool may_be_absent() const {
            return std::find(is_set_aside_.begin(), is_set_aside_.end(), false) ==
                   is_set_aside_.end();
        }

    private:
        SubjectIndex index_;
        std::vector<bool> is_set_aside_;  ///< By batch of `index_`.
    };
    struct SubjectSoFar {
        std::uint64_t next_sequence = 0;
        std::map<LogOffset, MayBe> by_segment;
    };

    void OnMessages(const Record& record, const LogPlace& place, bool is_set_aside) {
        report_.message_count += record.count;
        BatchLimits limits;
        limits.max_batch_bytes = record.batch.size();
        limits.max_message_count = record.count;
        const Result<BatchView> batch = BatchView::Parse(record.batch, limits);
        if (!batch.ok()) {
            Problem(place, "the batch does not parse: " + std::string(batch.status().message()));
            return;
        }
        const std::string name(record.subject);
        const auto [found, is_new] = subjects_.try_emplace(name);
        SubjectSoFar& subject = found->second;
        if (!is_new && record.first_sequence < subject.next_sequence) {
            Problem(place,
                    "subject \"" + name + "\": sequence " + std::to_string(record.first_sequence) +
                        " is used a second time");
        } else if (!is_new) {
            report_.missing_message_count += record.first_sequence - subject.next_sequence;
        }
        subject.next_sequence =
            std::max(subject.next_sequence, record.first_sequence + record.count);
        subject.by_segment[record.header.offset - place.file_offset].Add(
            record, place, batch.value(), is_set_aside);
    }

    void CheckIndex(LogOffset base) {
        const std::string path = PathOf(directory_, base, FileKind::kIndex);
        const Result<Slice> bytes = ReadWhole(files_, path);
        if (!bytes.ok()) {
            Problem({path, 0}, std::string(bytes.status().message()));
            return;
        }
        const Result<IndexDirectory> directory = ParseIndexDirectory(bytes.value().bytes(), base);
        if (!directory.ok()) {
            Problem({path, 0}, std::string(directory.status().message()));
            return;
        }
        ++report_.index_count;
        // It was only written once the whole segment was synced.
        watermark_ = std::max(watermark_, base + settings_.segment_bytes);
        last_sealed_ = std::max(last_sealed_.value_or(0), base);
        CheckSeedOf(path, directory.value().seed);
        std::set<std::string_view> known;
        for (const IndexDirectoryEntry& entry : directory.value().subjects) {
            known.insert(entry.name);
        }
        std::size_t in_log = 0;
        for (const auto& [name, subject] : subjects_) {
            const auto at = subject.by_segment.find(base);
            in_log += at != subject.by_segment.end() &&
                              (!at->second.may_be_absent() || known.contains(name))
                          ? 1U
                          : 0U;
        }
        if (directory.value().subjects.size() != in_log) {
            Problem({path, 0},
                    "it knows " + std::to_string(directory.value().subjects.size()) +
                        " subjects, and the segment has " + std::to_string(in_log));
        }
        for (const IndexDirectoryEntry& entry : directory.value().subjects) {
            CheckBlock(path, base, entry, bytes.value().bytes());
        }
    }

    void CheckBlock(const std::string& path,
                    LogOffset base,
                    const IndexDirectoryEntry& entry,
                    std::string_view bytes) {
        const LogPlace place{path, entry.block_position};
        const std::string what = "subject \"" + entry.name + "\": ";
        if (entry.block_position > bytes.size()) {
            Problem(place, what + "its block lies behind the end of the file");
            return;
        }
        bytes.remove_prefix(static_cast<std::size_t>(entry.block_position));
        const Result<std::uint64_t> size = IndexBlockBytes(bytes);
        if (!size.ok() || size.value() > bytes.size()) {
            Problem(place, what + "its block is cut off");
            return;
        }
        const Result<SubjectIndex> index = ParseIndexBlock(
            bytes.substr(0, static_cast<std::size_t>(size.value())), base, entry.first_sequence);
        if (!index.ok()) {
            Problem(place, what + std::string(index.status().message()));
            return;
        }
        const auto subject = subjects_.find(entry.name);
        const bool is_known =
            subject != subjects_.end() && subject->second.by_segment.contains(base);
        if (!is_known || !subject->second.by_segment.at(base).Has(*index)) {
            Problem(place, what + "its block says something else than the segment");
        }
    }

    void CheckSnapshot(LogOffset position) {
        const std::string path = PathOf(directory_, position, FileKind::kSnapshot);
        const Result<Slice> bytes = ReadWhole(files_, path);
        const Result<Snapshot> snapshot =
            bytes.ok() ? ParseSnapshot(bytes.value().bytes()) : Result<Snapshot>(bytes.status());
        if (!snapshot.ok()) {
            Problem({path, 0}, std::string(snapshot.status().message()));
            return;
        }
        ++report_.snapshot_count;
        CheckSeedOf(path, snapshot.value().seed);
        if (snapshot.value().position != position) {
            Problem({path, 0},
                    "it is that of log offset " + std::to_string(snapshot.value().position));
            return;
        }
        newest_snapshot_ = std::max(newest_snapshot_.value_or(0), position);
        watermark_ = std::max(watermark_, position);
    }

    /// A segment that begins with a start says the seed by itself.
    void CheckFront(LogOffset base) {
        const std::string path = PathOf(directory_, base, FileKind::kLog);
        const auto file = files_.Open(path, env::OpenMode::kRead);
        const Result<Slice> front =
            file.ok() ? file.value()->ReadAt(0, kStartRecordBytes) : Result<Slice>(file.status());
        if (const auto seed =
                front.ok() ? SeedOfStart(front.value().bytes(), base) : std::optional<LogSeed>()) {
            CheckSeedOf(path, *seed);
        }
    }

    /// As a start does: it refuses a log whose beginning is gone without a snapshot, and misses
    /// what lies between the newest snapshot and the first segment.
    void CheckBegin(const std::vector<LogOffset>& logs) {
        if (logs.empty() || newest_snapshot_.value_or(0) >= logs.front()) {
            return;
        }
        if (newest_snapshot_) {
            Missing(*newest_snapshot_, logs.front(), "the files of these segments are missing");
        } else {
            Problem({directory_, 0},
                    "there is no readable snapshot, and the log begins at " +
                        std::to_string(logs.front()) +
                        ": what its consumer groups have acked cannot be told");
        }
    }

    /// As a start does: what was synced must be there.
    void CheckEnd(const std::vector<LogOffset>& logs) {
        const bool is_garbage = torn_end_ > kStartRecordBytes;
        if (report_.record_count == 0 && watermark_ == 0 && is_garbage) {
            Problem({directory_, 0},
                    "no record in the log is valid with the seed " + ToString(settings_.seed) +
                        " that store.json says");
        }
        const LogOffset next = logs.empty() ? 0 : logs.back() + settings_.segment_bytes;
        if (!logs.empty() &&
            (watermark_ > next || (watermark_ == next && last_sealed_ == logs.back()))) {
            Missing(next,
                    std::max(watermark_, next + settings_.segment_bytes),
                    "the files of these segments are missing");
        } else if (used_end_ < watermark_) {
            Missing(used_end_, watermark_, "synced records are gone");
        }
    }

    void Missing(LogOffset begin, LogOffset end, const std::string& what) {
        OnDamage({begin, end, {directory_, 0}, what});
    }

    void CheckSeedOf(const std::string& path, LogSeed seed) {
        if (Status status = CheckSeed(directory_, settings_.seed, {path, seed}); !status.ok()) {
            Problem({path, 0}, std::string(status.message()));
        }
    }

    void Problem(const LogPlace& place, const std::string& what) {
        report_.problems.push_back(place.path + " at " + std::to_string(place.file_offset) + ": " +
                                   what);
    }

    env::FileSystem& files_;
    const std::string& directory_;
    const ActionCheck& check_action_;
    StoreSettings settings_;
    VerifyReport report_;
    // As in recovery:
    LogOffset watermark_ = 0;
    LogOffset used_end_ = 0;
    std::optional<LogOffset> last_sealed_;  ///< Its base.
    std::optional<LogOffset> newest_snapshot_;
    LogOffset torn_end_ = 0;
    std::map<std::string, SubjectSoFar, std::less<>> subjects_;
};

}  // namespace

Status InspectLog(env::FileSystem& files, const std::string& directory, LogVisitor& visitor) {
    const Result<StoreFiles> store = ListStore(files, directory);
    if (!store.ok()) {
        return store.status();
    }
    return Walk(files, directory, visitor).Run(store.value());
}

Result<VerifyReport> VerifyStore(env::FileSystem& files,
                                 const std::string& directory,
                                 const ActionCheck& check_action) {
    return Verifier(files, directory, check_action).Run();
}

std::string_view ToString(RecordKind kind) {
    switch (kind) {
        case RecordKind::kMessages:
            return "messages";
        case RecordKind::kAction:
            return "action";
        case RecordKind::kMove:
            return "move";
        case RecordKind::kStart:
            return "start";
        case RecordKind::kMark:
            return "mark";
    }
    return "unknown";
}

Result<std::vector<std::string>> FindStores(env::FileSystem& files, const std::string& directory) {
    const Result<std::vector<std::string>> names = files.List(directory);
    if (!names.ok()) {
        return names.status();
    }
    std::vector<std::string> stores;
    std::vector<std::string> candidates{directory};
    for (const std::string& name : names.value()) {
        candidates.push_back(directory + "/" + name);
    }
    for (const std::string& candidate : candidates) {
        const Result<bool> exists = files.Exists(candidate + "/" + std::string(kSettingsName));
        if (exists.ok() && exists.value()) {
            stores.push_back(candidate);
        }
    }
    return stores;
}

}  // namespace qmq::store
