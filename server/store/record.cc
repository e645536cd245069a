#include "server/store/record.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "qmq/batch.h"
#include "qmq/crc32c.h"

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"

namespace qmq::store {
namespace {

// Bytes of the fixed part after the header.
constexpr std::size_t kMessageFixedBytes = 32;
constexpr std::size_t kActionFixedBytes = 8;
constexpr std::size_t kStartFixedBytes = 40;
constexpr std::size_t kSeedInStart = 16;
constexpr std::size_t kBatchBytesInMessages = 20;
constexpr std::size_t kSubjectBytesInMessages = 24;
constexpr std::size_t kActionBytesInMessages = 28;

// Where fields lie in the header.
constexpr std::size_t kLengthAt = 0;
constexpr std::size_t kCrcAt = 4;
constexpr std::size_t kOffsetAt = 8;
constexpr std::size_t kCommittedAt = 16;
constexpr std::size_t kRunningAt = 24;
// No header ends in eight zeros: the scanner relies on it.
constexpr std::size_t kKindAt = 32;
constexpr std::size_t kFlagsAt = 33;
constexpr std::size_t kReservedAt = 34;
constexpr std::size_t kIncarnationAt = 36;

bool IsKnown(std::uint8_t kind) {
    return kind >= static_cast<std::uint8_t>(RecordKind::kMessages) &&
           kind <= static_cast<std::uint8_t>(RecordKind::kMark);
}

/// The length is summed apart, before the rest: it decides what the sum covers, so a wrong one must
/// not be able to cover itself.
std::uint32_t StartOfSum(LogSeed seed, std::uint32_t length) {
    const bool is_seeded = !env::Planted(env::PlantedBug::kForgeable);
    std::array<char, 8> bytes;
    Store(bytes.data(), is_seeded ? static_cast<std::uint32_t>(seed) : 0U);
    Store(bytes.data() + 4, length);
    return Crc32c({bytes.data(), bytes.size()});
}

std::string Hex(std::uint32_t value) {
    std::array<char, 11> text;
    std::snprintf(text.data(), text.size(), "0x%08x", value);
    return text.data();
}

Status Damaged(LogOffset at, const std::string& what) {
    return Status::DataLoss("record at log offset " + std::to_string(at) + ": " + what);
}

Status CheckSum(const RecordHeader& header, std::uint32_t computed) {
    if (computed == header.crc32c || env::Planted(env::PlantedBug::kSkipChecksum)) {
        return Status::Ok();
    }
    return Damaged(header.offset,
                   "stored crc " + Hex(header.crc32c) + ", computed " + Hex(computed));
}

Status ParseMessages(ByteReader& reader, Record& record) {
    record.stored = WallTime(std::chrono::milliseconds(reader.Take<std::int64_t>()));
    record.first_sequence = reader.Take<std::uint64_t>();
    record.count = reader.Take<std::uint32_t>();
    const auto batch_bytes = reader.Take<std::uint32_t>();
    const auto subject_bytes = reader.Take<std::uint16_t>();
    reader.Take<std::uint16_t>();
    const auto action_bytes = reader.Take<std::uint32_t>();
    record.subject = reader.Bytes(subject_bytes);
    record.action = reader.Bytes(action_bytes);
    reader.Align();
    record.batch = reader.Bytes(batch_bytes);
    reader.Align();
    if (!reader.ok() || reader.left() != 0) {
        return Damaged(record.header.offset, "its parts do not fill its length");
    }
    if (record.batch.size() < BatchHeader::kBytes || record.count == 0) {
        return Damaged(record.header.offset, "it has no whole batch");
    }
    const BatchView batch = BatchView::Trusted(record.batch);
    if (batch.count() != record.count ||
        batch.header().body_bytes != record.batch.size() - BatchHeader::kBytes) {
        return Damaged(record.header.offset, "its batch has other sizes than it says");
    }
    return Status::Ok();
}

Status ParseBody(std::string_view body, LogSeed seed, Record& record) {
    ByteReader reader(body);
    switch (record.header.kind) {
        case RecordKind::kMessages:
        case RecordKind::kMove:
            return ParseMessages(reader, record);
        case RecordKind::kAction: {
            const auto bytes = reader.Take<std::uint32_t>();
            reader.Take<std::uint32_t>();
            record.action = reader.Bytes(bytes);
            reader.Align();
            break;
        }
        case RecordKind::kStart:
            reader.Take<std::uint64_t>();
            record.stored = WallTime(std::chrono::milliseconds(reader.Take<std::int64_t>()));
            if (LogSeed(reader.Take<std::uint32_t>()) != seed) {
                return Damaged(record.header.offset, "it is of another log");
            }
            reader.Take<std::uint32_t>();
            record.known = std::chrono::milliseconds(reader.Take<std::int64_t>());
            record.pending_from = reader.Take<std::uint64_t>();
            break;
        case RecordKind::kMark:
            record.filling_bytes = record.header.length;
            return Status::Ok();
    }
    if (!reader.ok() || reader.left() != 0) {
        return Damaged(record.header.offset, "its parts do not fill its length");
    }
    return Status::Ok();
}

void EncodeHeader(const Record& record, std::uint32_t length, char* out) {
    const RecordHeader& header = record.header;
    Store(out + kLengthAt, length);
    Store(out + kOffsetAt, header.offset);
    Store(out + kCommittedAt, header.committed);
    Store(out + kKindAt, static_cast<std::uint8_t>(header.kind));
    Store(out + kFlagsAt, header.flags);
    Store(out + kReservedAt, std::uint16_t{0});
    Store(out + kIncarnationAt, header.incarnation);
    Store(out + kRunningAt, std::int64_t{header.running.count()});
}

/// Returns how much it wrote.
std::size_t EncodeFixed(const Record& record, LogSeed seed, char* out) {
    switch (record.header.kind) {
        case RecordKind::kMessages:
        case RecordKind::kMove:
            Store(out, std::int64_t{record.stored.time_since_epoch().count()});
            Store(out + 8, record.first_sequence);
            Store(out + 16, record.count);
            Store(out + kBatchBytesInMessages, static_cast<std::uint32_t>(record.batch.size()));
            Store(out + kSubjectBytesInMessages, static_cast<std::uint16_t>(record.subject.size()));
            Store(out + 26, std::uint16_t{0});
            Store(out + kActionBytesInMessages, static_cast<std::uint32_t>(record.action.size()));
            return kMessageFixedBytes;
        case RecordKind::kAction:
            Store(out, static_cast<std::uint32_t>(record.action.size()));
            Store(out + 4, std::uint32_t{0});
            return kActionFixedBytes;
        case RecordKind::kStart:
            Store(out, std::uint64_t{record.header.incarnation});
            Store(out + 8, std::int64_t{record.stored.time_since_epoch().count()});
            Store(out + kSeedInStart, static_cast<std::uint32_t>(seed));
            Store(out + kSeedInStart + 4, std::uint32_t{0});
            Store(out + 24, std::int64_t{record.known.count()});
            Store(out + 32, record.pending_from);
            return kStartFixedBytes;
        case RecordKind::kMark:
            return 0;
    }
    return 0;
}

std::size_t FixedBytes(RecordKind kind) {
    switch (kind) {
        case RecordKind::kMessages:
        case RecordKind::kMove:
            return kMessageFixedBytes;
        case RecordKind::kAction:
            return kActionFixedBytes;
        case RecordKind::kStart:
            return kStartFixedBytes;
        case RecordKind::kMark:
            return 0;
    }
    return 0;
}

/// The checksum of a filling: of its header, and as many zeros as it says.
std::uint32_t SumOfFilling(std::string_view header, std::uint32_t length, LogSeed seed) {
    static constexpr std::array<char, 4096> kZeros{};
    std::uint32_t crc = Crc32c(header.substr(kOffsetAt, RecordHeader::kBytes - kOffsetAt),
                               StartOfSum(seed, length));
    for (std::size_t left = length; left > 0;) {
        const std::size_t count = std::min(left, kZeros.size());
        crc = Crc32c({kZeros.data(), count}, crc);
        left -= count;
    }
    return crc;
}

}  // namespace

std::uint64_t FrontBytes(const Record& record) {
    return RoundUp(RecordHeader::kBytes + FixedBytes(record.header.kind) + record.subject.size() +
                   record.action.size() + record.filling_bytes);
}

std::uint64_t EncodedBytes(const Record& record) {
    return FrontBytes(record) + RoundUp(record.batch.size());
}

void EncodeFront(const Record& record, LogSeed seed, char* out) {
    constexpr std::string_view kZeros("\0\0\0\0\0\0\0", 7);
    const std::uint64_t front_bytes = FrontBytes(record);
    const auto length = static_cast<std::uint32_t>(EncodedBytes(record) - RecordHeader::kBytes);
    EncodeHeader(record, length, out);
    char* to = out + RecordHeader::kBytes;
    to += EncodeFixed(record, seed, to);
    for (const std::string_view part : {record.subject, record.action}) {
        if (!part.empty()) {
            std::memcpy(to, part.data(), part.size());
            to += part.size();
        }
    }
    std::memset(to, 0, static_cast<std::size_t>(out + front_bytes - to));

    std::uint32_t crc = StartOfSum(seed, length);
    crc = Crc32c({out + kOffsetAt, static_cast<std::size_t>(front_bytes) - kOffsetAt}, crc);
    crc = Crc32c(record.batch, crc);
    crc = Crc32c(kZeros.substr(0, RoundUp(record.batch.size()) - record.batch.size()), crc);
    Store(out + kCrcAt, crc);
}

std::string EncodeRecord(const Record& record, LogSeed seed) {
    std::string bytes(FrontBytes(record), '\0');
    EncodeFront(record, seed, bytes.data());
    bytes.append(record.batch);
    PutPadding(bytes);
    return bytes;
}

std::string EncodeFilling(const Record& record, LogSeed seed) {
    std::string bytes(RecordHeader::kBytes, '\0');
    EncodeHeader(record, record.filling_bytes, bytes.data());
    Store(bytes.data() + kCrcAt, SumOfFilling(bytes, record.filling_bytes, seed));
    return bytes;
}

std::optional<RecordHeader> PeekHeader(std::string_view bytes,
                                       LogOffset at,
                                       std::uint64_t most_bytes) {
    if (bytes.size() < RecordHeader::kBytes || most_bytes < RecordHeader::kBytes) {
        return std::nullopt;
    }
    const auto kind = Load<std::uint8_t>(bytes.data() + kKindAt);
    RecordHeader header;
    header.length = Load<std::uint32_t>(bytes.data() + kLengthAt);
    header.crc32c = Load<std::uint32_t>(bytes.data() + kCrcAt);
    header.offset = Load<std::uint64_t>(bytes.data() + kOffsetAt);
    header.committed = Load<std::uint64_t>(bytes.data() + kCommittedAt);
    header.kind = static_cast<RecordKind>(kind);
    header.flags = Load<std::uint8_t>(bytes.data() + kFlagsAt);
    header.incarnation = Load<std::uint32_t>(bytes.data() + kIncarnationAt);
    header.running = RunningTime(Load<std::int64_t>(bytes.data() + kRunningAt));
    if (header.offset != at || !IsKnown(kind) || header.length % kAlignment != 0 ||
        header.length > most_bytes - RecordHeader::kBytes || header.committed > at) {
        return std::nullopt;
    }
    return header;
}

bool AddsUp(std::string_view bytes, const RecordHeader& header) {
    const std::size_t fixed_bytes = FixedBytes(header.kind);
    if (bytes.size() < RecordHeader::kBytes + fixed_bytes || header.length < fixed_bytes) {
        return false;
    }
    const char* const fixed = bytes.data() + RecordHeader::kBytes;
    switch (header.kind) {
        case RecordKind::kMessages:
        case RecordKind::kMove: {
            const std::uint64_t batch_bytes = Load<std::uint32_t>(fixed + kBatchBytesInMessages);
            const std::uint64_t subject_bytes =
                Load<std::uint16_t>(fixed + kSubjectBytesInMessages);
            const std::uint64_t action_bytes = Load<std::uint32_t>(fixed + kActionBytesInMessages);
            return header.length ==
                   RoundUp(fixed_bytes + subject_bytes + action_bytes) + RoundUp(batch_bytes);
        }
        case RecordKind::kAction:
            return header.length ==
                   RoundUp(fixed_bytes + std::uint64_t{Load<std::uint32_t>(fixed)});
        case RecordKind::kStart:
            return header.length == fixed_bytes;
        case RecordKind::kMark:
            return header.length == 0 || header.is_filling();
    }
    return false;
}

Result<Record> ParseFilling(std::string_view bytes, const RecordHeader& header, LogSeed seed) {
    Status status = CheckSum(header, SumOfFilling(bytes, header.length, seed));
    if (!status.ok()) {
        return status;
    }
    Record record;
    record.header = header;
    record.filling_bytes = header.length;
    return record;
}

Result<Record> ParseRecord(std::string_view bytes, LogOffset at, LogSeed seed) {
    const std::optional<RecordHeader> header = PeekHeader(bytes, at, bytes.size());
    if (!header) {
        return Damaged(at, "no record header is here");
    }
    const auto size = static_cast<std::size_t>(header->record_bytes());
    const std::uint32_t crc =
        Crc32c(bytes.substr(kOffsetAt, size - kOffsetAt), StartOfSum(seed, header->length));
    Status status = CheckSum(*header, crc);
    if (!status.ok()) {
        return status;
    }
    Record record;
    record.header = *header;
    status = ParseBody(bytes.substr(RecordHeader::kBytes, header->length), seed, record);
    if (!status.ok()) {
        return status;
    }
    return record;
}

std::optional<LogSeed> SeedOfStart(std::string_view bytes, LogOffset at) {
    const std::optional<RecordHeader> header = PeekHeader(bytes, at, bytes.size());
    if (!header || header->kind != RecordKind::kStart ||
        header->record_bytes() != kStartRecordBytes || bytes.size() < kStartRecordBytes) {
        return std::nullopt;
    }
    const LogSeed seed{Load<std::uint32_t>(bytes.data() + RecordHeader::kBytes + kSeedInStart)};
    return ParseRecord(bytes, at, seed).ok() ? std::optional(seed) : std::nullopt;
}

}  // namespace qmq::store
