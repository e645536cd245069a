#include "server/store/segment_scanner.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/store/bytes.h"

namespace qmq::store {
namespace {

constexpr std::uint64_t kWindowBytes = 1U << 20;
/// A device that fails once may answer the next time; one that fails thrice is broken.
constexpr int kReadAttempts = 3;

bool IsZero(std::string_view bytes) {
    return bytes.empty() ||
           (bytes[0] == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

/// One past the last byte that is not zero.
std::size_t UsedBytes(std::string_view bytes) {
    constexpr std::size_t kStep = 256;
    while (bytes.size() >= kStep && IsZero(bytes.substr(bytes.size() - kStep))) {
        bytes.remove_suffix(kStep);
    }
    while (!bytes.empty() && bytes.back() == '\0') {
        bytes.remove_suffix(1);
    }
    return bytes.size();
}

}  // namespace

Result<std::string_view> SegmentScanner::Bytes(std::uint64_t position, std::uint64_t count) {
    count = std::min(count, segment_bytes_ - position);
    const bool inside =
        position >= window_begin_ && position + count <= window_begin_ + window_.size();
    if (!inside) {
        const auto wanted = static_cast<std::size_t>(
            std::min(std::max(count, kWindowBytes), segment_bytes_ - position));
        Result<Slice> read = file_.ReadAt(position, wanted);
        for (int attempt = 1; attempt < kReadAttempts && !read.ok(); ++attempt) {
            read = file_.ReadAt(position, wanted);
        }
        if (!read.ok()) {
            return read.status();
        }
        window_ = std::move(*read);
        window_begin_ = position;
    }
    return window_.bytes().substr(static_cast<std::size_t>(position - window_begin_));
}

Result<Record> SegmentScanner::RecordAt(std::uint64_t position, bool& unreadable) {
    Result<Record> record = ParseAt(position, unreadable);
    if (!record.ok() || record->header.is_filling()) {
        return record;
    }
    const RecordHeader& header = record->header;
    if (header.incarnation < writer_.incarnation && header.committed <= writer_.begin) {
        return Status::DataLoss("record at log offset " + std::to_string(header.offset) +
                                " is of incarnation " + std::to_string(header.incarnation) +
                                " and knows nothing of incarnation " +
                                std::to_string(writer_.incarnation) + ", which began at " +
                                std::to_string(writer_.begin) + ": it is an old one");
    }
    return record;
}

Result<Record> SegmentScanner::ParseAt(std::uint64_t position, bool& unreadable) {
    unreadable = true;
    Result<std::string_view> bytes = Bytes(position, kStartRecordBytes);
    if (!bytes.ok()) {
        return bytes.status();
    }
    const std::uint64_t room = segment_bytes_ - position;
    if (const auto header = PeekHeader(*bytes, base_ + position, room)) {
        if (!AddsUp(*bytes, *header)) {
            unreadable = false;
            return Status::DataLoss("record at log offset " + std::to_string(base_ + position) +
                                    ": its parts do not fill its length");
        }
        if (header->is_filling()) {
            return FillingAt(position, *header, unreadable);
        }
        bytes = Bytes(position, header->record_bytes());
        if (!bytes.ok()) {
            return bytes.status();
        }
    }
    unreadable = false;
    return ParseRecord(*bytes, base_ + position, seed_);
}

Result<Record> SegmentScanner::FillingAt(std::uint64_t position,
                                         const RecordHeader& header,
                                         bool& unreadable) {
    const std::uint64_t end = position + header.record_bytes();
    for (std::uint64_t at = position + RecordHeader::kBytes; at < end;) {
        const Result<std::string_view> bytes = Bytes(at, 1);
        if (!bytes.ok()) {
            return bytes.status();
        }
        if (bytes->empty()) {
            break;  // A file that is too short reads as zeros.
        }
        const std::string_view zeros = bytes->substr(0, static_cast<std::size_t>(end - at));
        if (!IsZero(zeros)) {
            unreadable = false;
            return Status::DataLoss("record at log offset " + std::to_string(header.offset) +
                                    ": what it says is filled is not zero");
        }
        at += zeros.size();
    }
    const Result<std::string_view> bytes = Bytes(position, RecordHeader::kBytes);
    if (!bytes.ok()) {
        return bytes.status();
    }
    unreadable = false;
    return ParseFilling(*bytes, header, seed_);
}

Result<SegmentScanner::Step> SegmentScanner::Next() {
    if (position_ >= segment_bytes_) {
        Step step;
        step.position = step.end = segment_bytes_;
        return step;
    }
    bool unreadable = false;
    Result<Record> record = RecordAt(position_, unreadable);
    if (record.ok()) {
        const RecordHeader& header = record->header;
        if (!header.is_filling() && header.incarnation != writer_.incarnation) {
            writer_ = {header.incarnation, header.offset};
        }
        Step step;
        step.kind = StepKind::kRecord;
        step.position = position_;
        step.record = *record;
        step.end = position_ + record->header.record_bytes();
        position_ = step.end;
        return step;
    }
    if (unreadable) {
        return record.status();
    }
    return FindBehind(std::string(record.status().message()));
}

Result<std::uint64_t> SegmentScanner::FindIn(std::string_view window, std::uint64_t window_at) {
    constexpr std::size_t kOffsetAt = 8;
    for (std::size_t inside = 0; inside + RecordHeader::kBytes <= window.size();
         inside += kAlignment) {
        const std::uint64_t at = window_at + inside;
        if (Load<std::uint64_t>(window.data() + inside + kOffsetAt) != base_ + at ||
            at == position_) {
            continue;
        }
        bool unreadable = false;
        const Result<Record> record = RecordAt(at, unreadable);
        if (unreadable) {
            return record.status();
        }
        if (record.ok()) {
            return at;
        }
    }
    return kNowhere;
}

Result<SegmentScanner::Step> SegmentScanner::FindBehind(std::string reason) {
    // A header may lie across two windows: what the first could not look at, the second does.
    constexpr std::uint64_t kOverlap = RecordHeader::kBytes - kAlignment;
    Step step;
    step.position = step.end = position_;
    step.reason = std::move(reason);
    for (std::uint64_t at = position_; at < segment_bytes_;) {
        const Result<std::string_view> bytes = Bytes(at, kWindowBytes);
        if (!bytes.ok()) {
            return bytes.status();
        }
        const Slice held = window_;  // Looking at a long candidate moves the window.
        if (!IsZero(*bytes)) {
            // A header does not end in eight zeros, so none reaches into the zeros behind.
            const std::string_view used = bytes->substr(0, RoundUp(UsedBytes(*bytes)));
            step.end = std::max(step.end, at + used.size());
            const Result<std::uint64_t> found = FindIn(used, at);
            if (!found.ok()) {
                return found.status();
            }
            if (*found != kNowhere) {
                step.kind = StepKind::kDamage;
                step.end = position_ = *found;
                return step;
            }
        }
        if (bytes->size() < std::min(kWindowBytes, segment_bytes_ - at) ||
            at + bytes->size() >= segment_bytes_) {
            break;  // The end; a file that is too short reads as zeros.
        }
        at += bytes->size() / kAlignment * kAlignment - kOverlap;
    }
    step.end = std::min(RoundUp(step.end), segment_bytes_);
    position_ = segment_bytes_;
    return step;
}

}  // namespace qmq::store
