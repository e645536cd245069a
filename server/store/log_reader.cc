#include "server/store/log_reader.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"
#include "server/store/record.h"
#include "server/store/segment_scanner.h"

namespace qmq::store {
namespace {

/// Small records are read together with what lies behind them.
constexpr std::uint64_t kReadAheadBytes = 64U << 10;
constexpr std::uint64_t kReadAheadBelow = 16U << 10;
/// A device that fails may recover: only after so many reads over so long is a record taken for
/// lost.
constexpr int kMostReadAttempts = 8;
constexpr std::chrono::seconds kMostTrouble{30};

bool IsDeviceError(const Status& status) {
    return status.code() == StatusCode::kDataLoss;
}

}  // namespace

/// One call of `LogReader::Read`: walks the sequences and gathers runs until something is full.
class ReadPass {
public:
    ReadPass(LogReader& reader, SubjectState& subject, const ReadRequest& request)
        : reader_(reader),
          subject_(subject),
          request_(request),
          end_(std::min(request.end, subject.next_sequence())) {
        reply_.next = request.from;
    }

    Result<ReadReply> Run() {
        while (reply_.next < end_ && !IsFull()) {
            Status status = Step();
            if (!status.ok()) {
                if (reply_.next == request_.from) {
                    return status;
                }
                break;  // What there is goes out; the next read meets the error again.
            }
        }
        return std::move(reply_);
    }

private:
    bool IsFull() const {
        return reply_.full || messages_ >= request_.max_messages ||
               scanned_ >= request_.max_scanned || reply_.runs.size() >= request_.max_runs;
    }

    Status Step() {
        const std::uint64_t next = reply_.next;
        const auto extent = std::partition_point(
            subject_.extents.begin(), subject_.extents.end(), [&](const Extent& candidate) {
                return candidate.end_sequence() <= next;
            });
        if (extent == subject_.extents.end() || extent->first_sequence > next) {
            SkipBefore(extent);
            return Status::Ok();
        }
        const std::uint32_t segment = extent->segment;
        Result<std::shared_ptr<const SubjectIndex>> index = reader_.IndexOf(subject_, *extent);
        if (!index.ok()) {
            if (index.status().code() != StatusCode::kDataLoss) {
                return index.status();
            }
            SkipDamaged(*extent, index.status());
            return Status::Ok();
        }
        const BatchEntry* const entry = (*index)->Find(next);
        if (entry == nullptr) {
            Skip(extent->end_sequence());
        } else if (entry->first_sequence > next) {
            SkipBefore(segment, **index, *entry);
        } else {
            return TakeFrom(segment, **index, *entry);
        }
        return Status::Ok();
    }

    /// No message of the subject lies between the segment before and this one.
    void SkipBefore(std::vector<Extent>::const_iterator extent) {
        const Segments& segments = reader_.segments_;
        const bool is_last = extent == subject_.extents.end();
        const bool is_first = extent == subject_.extents.begin();
        const LogOffset begin =
            is_first ? segments.FirstBase() : segments.BaseOf(std::prev(extent)->segment);
        const LogOffset end = is_last ? ~LogOffset{0} : segments.BaseOf(extent->segment + 1);
        Skip(is_last ? end_ : extent->first_sequence, segments.IsDamagedIn(begin, end));
    }

    /// Nor between the batch before and this one.
    void SkipBefore(std::uint32_t segment, const SubjectIndex& index, const BatchEntry& entry) {
        const LogOffset base = reader_.segments_.BaseOf(segment);
        const bool is_first = &entry == index.batches.data();
        const BatchEntry* const before = is_first ? nullptr : &entry - 1;
        const std::uint64_t begin = is_first ? 0 : before->position + before->record_bytes;
        Skip(entry.first_sequence,
             is_first || reader_.segments_.IsDamagedIn(base + begin, base + entry.position));
    }

    /// Passes over what is not there: gone by retention below the first sequence, above it damaged
    /// or left out.
    void Skip(std::uint64_t to, bool is_damaged = true) {
        to = std::min(std::max(to, reply_.next + 1), end_);
        const std::uint64_t kept = std::clamp(subject_.first_sequence(), reply_.next, to);
        reply_.expired_count += kept - reply_.next;
        (is_damaged ? reply_.corrupt_count : reply_.left_out_count) += to - kept;
        reply_.next = to;
    }

    void SkipDamaged(const Extent& extent, const Status& why) {
        reader_.TellDamage(subject_,
                           reader_.segments_.BaseOf(extent.segment),
                           extent.span,
                           extent.stored_units * kAlignment,
                           why);
        Skip(extent.end_sequence());
    }

    Status TakeFrom(std::uint32_t segment, const SubjectIndex& index, const BatchEntry& entry) {
        batch_.reset();
        const MessageEntry* const messages = index.messages.data() + entry.first_message;
        const std::uint64_t stop = std::min(entry.end_sequence(), end_);
        while (reply_.next < stop && !IsFull()) {
            const auto i = static_cast<std::uint32_t>(reply_.next - entry.first_sequence);
            ++scanned_;
            if (request_.matcher != nullptr && !request_.matcher->MayMatch(messages[i].tag_mask)) {
                EndRun(entry);
                ++reply_.next;
                continue;
            }
            if (!batch_) {
                Result<Slice> batch =
                    reader_.BatchAt(subject_, segment, entry, window_, window_begin_);
                if (!batch.ok()) {
                    if (!IsDeviceError(batch.status())) {
                        return batch.status();
                    }
                    reader_.TellDamage(subject_,
                                       reader_.segments_.BaseOf(segment) + entry.position,
                                       entry.count,
                                       entry.record_bytes,
                                       batch.status());
                    Skip(stop);
                    return Status::Ok();
                }
                batch_ = std::move(*batch);
            }
            Take(messages, i, entry);
        }
        EndRun(entry);
        const LogOffset record = reader_.segments_.BaseOf(segment) + entry.position;
        if (batch_ && reply_.next < entry.end_sequence() &&
            reader_.batches_.Find(record) == nullptr) {
            reader_.batches_.AddRead(record, *batch_);  // The rest of it is asked for next.
        }
        return Status::Ok();
    }

    /// Message `i` of the batch: into the run, unless it does not match or is too much.
    void Take(const MessageEntry* messages, std::uint32_t i, const BatchEntry& entry) {
        const std::string_view body = batch_->bytes().substr(BatchHeader::kBytes);
        const std::size_t begin = messages[i].offset;
        const std::size_t end = i + 1 < entry.count ? messages[i + 1].offset : body.size();
        if (begin >= end || end > body.size()) {
            EndRun(entry);
            Skip(reply_.next + 1);
            return;
        }
        if (request_.matcher != nullptr) {
            const Result<MessageHead> head = ReadHead(body, begin);
            if (!head.ok()) {
                EndRun(entry);
                Skip(reply_.next + 1);
                return;
            }
            if (!request_.matcher->Matches(*head)) {
                EndRun(entry);
                ++reply_.next;
                return;
            }
        }
        if ((messages_ > 0 || request_.strictly) && bytes_ + (end - begin) > request_.max_bytes) {
            reply_.full = true;
            return;
        }
        if (run_count_ == 0) {
            run_first_ = i;
            run_begin_ = begin;
        }
        ++run_count_;
        run_end_ = end;
        ++messages_;
        bytes_ += end - begin;
        ++reply_.next;
    }

    void EndRun(const BatchEntry& entry) {
        if (run_count_ == 0) {
            return;
        }
        MessageRun run;
        run.first_sequence = entry.first_sequence + run_first_;
        run.count = run_count_;
        run.body = batch_->Sub(BatchHeader::kBytes + run_begin_, run_end_ - run_begin_);
        run.header = run_count_ == entry.count
                         ? batch_->Sub(0, BatchHeader::kBytes)
                         : Slice::Own(MakeBatchHeader(run_count_, run.body.bytes()));
        reply_.runs.push_back(std::move(run));
        run_count_ = 0;
    }

    LogReader& reader_;
    SubjectState& subject_;
    const ReadRequest& request_;
    const std::uint64_t end_;
    ReadReply reply_;
    std::uint32_t messages_ = 0;
    std::uint32_t scanned_ = 0;
    std::uint64_t bytes_ = 0;
    std::optional<Slice> batch_;  // Of the entry at hand, once it was needed.
    // The run at hand: messages and bytes of `batch_`'s body.
    std::uint32_t run_count_ = 0;
    std::uint32_t run_first_ = 0;
    std::size_t run_begin_ = 0;
    std::size_t run_end_ = 0;
    // What was last read from a file, which may hold the next records too.
    Slice window_;
    LogOffset window_begin_ = 0;
};

Result<ReadReply> LogReader::Read(SubjectState& subject, const ReadRequest& request) {
    return ReadPass(*this, subject, request).Run();
}

Result<std::shared_ptr<const SubjectIndex>> LogReader::IndexOf(const SubjectState& subject,
                                                               const Extent& extent) {
    Segment* const segment = segments_.Find(extent.segment);
    if (segment == nullptr) {
        return Status::DataLoss("segment " + std::to_string(extent.segment) + " is gone");
    }
    if (segment->memory == nullptr) {
        if (std::shared_ptr<const SubjectIndex> known =
                indexes_.Find(extent.segment, subject.id())) {
            return known;
        }
        Result<SubjectIndex> loaded = LoadIndex(extent);
        if (loaded.ok()) {
            auto index = std::make_shared<const SubjectIndex>(std::move(*loaded));
            indexes_.Add(extent.segment, subject.id(), index);
            return std::shared_ptr<const SubjectIndex>(std::move(index));
        }
        if (!IsDeviceError(loaded.status()) && loaded.status().code() != StatusCode::kNotFound) {
            return loaded.status();
        }
        Status status = RebuildIndex(*segment);
        if (!status.ok()) {
            return status;
        }
    }
    const auto found = segment->memory->find(subject.id());
    if (found == segment->memory->end()) {
        return Status::DataLoss("no record of the subject is left in the segment");
    }
    return std::shared_ptr<const SubjectIndex>(segment->memory, &found->second);
}

Result<SubjectIndex> LogReader::LoadIndex(const Extent& extent) {
    const Result<std::unique_ptr<env::File>> file = segments_.files().Open(
        segments_.PathOf(extent.segment, FileKind::kIndex), env::OpenMode::kRead);
    if (!file.ok()) {
        return file.status();
    }
    const std::uint64_t position = extent.block * kAlignment;
    Result<Slice> bytes = file.value()->ReadAt(position, kIndexBlockHeaderBytes);
    if (!bytes.ok()) {
        return bytes.status();
    }
    const Result<std::uint64_t> size = IndexBlockBytes(bytes->bytes());
    const Result<std::uint64_t> file_size = file.value()->Size();
    if (!size.ok() || !file_size.ok() || position + size.value() > file_size.value()) {
        return Status::DataLoss("the index block makes no sense");
    }
    bytes = file.value()->ReadAt(position, static_cast<std::size_t>(size.value()));
    if (!bytes.ok()) {
        return bytes.status();
    }
    return ParseIndexBlock(bytes->bytes(), segments_.BaseOf(extent.segment), extent.first_sequence);
}

Status LogReader::RebuildIndex(Segment& segment) {
    const Result<std::shared_ptr<env::File>> file = segments_.FileOf(segment);
    if (!file.ok()) {
        // A segment whose file is gone is lost, whatever the index says.
        return file.status().code() == StatusCode::kNotFound
                   ? Status::DataLoss(std::string(file.status().message()))
                   : file.status();
    }
    auto index = std::make_shared<MemoryIndex>();
    SegmentScanner scanner(
        *file.value(), segment.base(), segments_.segment_bytes(), segments_.seed());
    while (true) {
        const Result<SegmentScanner::Step> step = scanner.Next();
        if (!step.ok()) {
            return Status::Unavailable(std::string(step.status().message()));
        }
        // All of it was synced once, so what is no record any more is damaged.
        const bool is_end = step->kind == SegmentScanner::StepKind::kEnd;
        const LogOffset begin = segment.base() + step->position;
        const LogOffset end = is_end ? segment.summary.used_end : segment.base() + step->end;
        if (step->kind != SegmentScanner::StepKind::kRecord && begin < end &&
            !segment.summary.IsDamaged(begin)) {
            segment.summary.damaged.push_back({begin, end});
        }
        if (is_end) {
            break;
        }
        const Record& record = step->record;
        if (step->kind != SegmentScanner::StepKind::kRecord || !record.has_messages() ||
            segment.summary.IsDamaged(record.header.offset)) {
            continue;
        }
        if (SubjectState* const subject = subjects_.Find(record.subject)) {
            (*index)[subject->id()].Add(record.first_sequence,
                                        static_cast<std::uint32_t>(step->position),
                                        static_cast<std::uint32_t>(record.header.record_bytes()),
                                        BatchView::Trusted(record.batch));
        }
    }
    segment.memory = std::move(index);
    indexes_.DropSegment(segment.number);
    return Status::Ok();
}

Result<Slice> LogReader::BatchAt(const SubjectState& subject,
                                 std::uint32_t segment_number,
                                 const BatchEntry& entry,
                                 Slice& window,
                                 LogOffset& window_begin) {
    const LogOffset at = segments_.BaseOf(segment_number) + entry.position;
    if (const Slice* const known = batches_.Find(at)) {
        return *known;
    }
    Segment* const segment = segments_.Find(segment_number);
    if (segment == nullptr) {
        return Status::DataLoss("segment " + std::to_string(segment_number) + " is gone");
    }
    const Result<Slice> bytes = ReadRecord(*segment, entry, window, window_begin);
    if (!bytes.ok()) {
        return OnReadError(at, bytes.status());
    }
    const Result<Record> record = ParseRecord(bytes.value().bytes(), at, segments_.seed());
    if (!record.ok()) {
        return record.status();
    }
    const Record& found = record.value();
    const bool is_it = found.has_messages() && found.subject == subject.name() &&
                       found.first_sequence == entry.first_sequence && found.count == entry.count;
    if (!is_it && !env::Planted(env::PlantedBug::kIndexOffByOne)) {
        return Status::DataLoss("record at log offset " + std::to_string(at) + " is of subject \"" +
                                std::string(found.subject) + "\" from sequence " +
                                std::to_string(found.first_sequence) + ", not of \"" +
                                subject.name() + "\" from " + std::to_string(entry.first_sequence));
    }
    unreadable_.erase(at);
    const auto offset = static_cast<std::size_t>(found.batch.data() - bytes.value().data());
    return bytes.value().Sub(offset, found.batch.size());
}

Result<Slice> LogReader::ReadRecord(Segment& segment,
                                    const BatchEntry& entry,
                                    Slice& window,
                                    LogOffset& window_begin) {
    const LogOffset at = segment.base() + entry.position;
    const bool inside = !window.empty() && at >= window_begin &&
                        at + entry.record_bytes <= window_begin + window.size();
    if (!inside) {
        Result<std::shared_ptr<env::File>> file = segments_.FileOf(segment);
        if (!file.ok()) {
            return file.status();
        }
        std::uint64_t wanted = entry.record_bytes;
        if (wanted < kReadAheadBelow) {
            wanted = std::min(kReadAheadBytes, segments_.segment_bytes() - entry.position);
        }
        Result<Slice> read = (*file)->ReadAt(entry.position, static_cast<std::size_t>(wanted));
        if (!read.ok()) {
            return read.status();
        }
        if (read->size() < entry.record_bytes) {
            return Status::NotFound("the segment ends inside of the record");
        }
        window = std::move(*read);
        window_begin = at;
    }
    return window.Sub(static_cast<std::size_t>(at - window_begin), entry.record_bytes);
}

void LogReader::TellDamage(const SubjectState& subject,
                           LogOffset at,
                           std::uint64_t count,
                           std::uint64_t bytes,
                           const Status& why) {
    if (told_.size() >= kMostTold) {
        told_.clear();
    }
    if (told_.emplace(subject.id(), at).second) {
        events_.OnEvent({env::EventKind::kDamage,
                         segments_.directory() + ", subject " + subject.name(),
                         std::to_string(count) + " messages cannot be read and are passed over: " +
                             std::string(why.message()),
                         count,
                         bytes});
    }
}

Status LogReader::OnReadError(LogOffset record, const Status& error) {
    if (error.code() == StatusCode::kNotFound) {
        return Status::DataLoss(std::string(error.message()));
    }
    if (IsDeviceError(error)) {
        const TimePoint now = clock_.Now();
        Trouble& trouble = unreadable_.try_emplace(record, Trouble{now}).first->second;
        if (++trouble.attempts >= kMostReadAttempts && now - trouble.since >= kMostTrouble) {
            return error;
        }
    }
    return Status::Unavailable("record at log offset " + std::to_string(record) +
                               " cannot be read now: " + std::string(error.message()));
}

}  // namespace qmq::store
