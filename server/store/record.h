#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "qmq/clock.h"
#include "qmq/status.h"

#include "server/store/log_seed.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// The front of every record. docs/design/log-format.md is the manual, with an example in hex.
struct RecordHeader {
    static constexpr std::size_t kBytes = 40;
    /// A flag of a kMark: the rest of the segment is unused, and the log goes on in the next one.
    static constexpr std::uint8_t kLastInSegment = 1;
    /// A flag of a kMark: it lies over records that a power cut took before they were synced.
    static constexpr std::uint8_t kFilling = 2;

    std::uint32_t length = 0;  ///< Bytes after the header: a multiple of 8.
    std::uint32_t crc32c = 0;  ///< Of the log's seed, `length`, and everything after this field.
    LogOffset offset = 0;      ///< Where the record lies; elsewhere it is not valid.
    LogOffset committed = 0;   ///< All below was synced when this was written.
    RecordKind kind = RecordKind::kMark;
    std::uint8_t flags = 0;
    std::uint32_t incarnation = 0;
    RunningTime running{};  ///< When it was appended.

    std::uint64_t record_bytes() const { return kBytes + std::uint64_t{length}; }
    bool is_filling() const { return kind == RecordKind::kMark && (flags & kFilling) != 0; }
    bool ends_segment() const { return kind == RecordKind::kMark && (flags & kLastInSegment) != 0; }
};

/// What a record says. The views point into the bytes that it was read from; a record that is to be
/// written borrows them.
struct Record {
    RecordHeader header;
    std::string_view action;  ///< kAction and kMove.

    // kMessages and kMove:
    std::string_view subject;
    WallTime stored{};  ///< kStart too.
    std::uint64_t first_sequence = 0;
    std::uint32_t count = 0;
    std::string_view batch;

    // kStart: as in `ClockState`.
    std::chrono::milliseconds known{};
    LogOffset pending_from = 0;

    std::uint32_t filling_bytes = 0;  ///< kMark: zeros after the header.

    bool has_messages() const {
        return header.kind == RecordKind::kMessages || header.kind == RecordKind::kMove;
    }
    bool has_action() const {
        return header.kind == RecordKind::kAction || header.kind == RecordKind::kMove;
    }
    LogOffset end() const { return header.offset + header.record_bytes(); }
};

/// Bytes of the record that `record` becomes, header included: a multiple of 8.
std::uint64_t EncodedBytes(const Record& record);

/// Bytes of the record before its batch.
std::uint64_t FrontBytes(const Record& record);

/// Writes all of `record` that lies before the batch to `out`, which has `FrontBytes(record)`
/// bytes; after that come the batch and zeros up to a multiple of 8. `header.kind`, `flags`,
/// `offset`, `committed`, `incarnation` and `running` are the caller's; length and checksum are
/// worked out here. A kStart has `seed` in its body, too.
void EncodeFront(const Record& record, LogSeed seed, char* out);

/// The whole record in one string: for tests, tools and rare records.
std::string EncodeRecord(const Record& record, LogSeed seed);

/// The header at the front of `bytes`, when it may be that of a record at `at` of a log: without
/// the checksum. `most_bytes` is the room that the record may take.
std::optional<RecordHeader> PeekHeader(std::string_view bytes,
                                       LogOffset at,
                                       std::uint64_t most_bytes);

/// Whether the fixed part behind `header`, both at the front of `bytes`, says the same of the
/// record's length. What does not is no record: nothing needs to be read or summed by its length.
/// Looks at `kStartRecordBytes` at most.
bool AddsUp(std::string_view bytes, const RecordHeader& header);

/// The header of the filling `record`, of whose zeros there may be GiBs: they are written apart.
std::string EncodeFilling(const Record& record, LogSeed seed);
/// The filling with `header`, which is at the front of `bytes`, when zeros follow it.
Result<Record> ParseFilling(std::string_view bytes, const RecordHeader& header, LogSeed seed);

/// Reads the record that begins at the front of `bytes` and lies at `at` of the log. Every byte is
/// suspect. kDataLoss says what is wrong, with the numbers.
Result<Record> ParseRecord(std::string_view bytes, LogOffset at, LogSeed seed);

/// Bytes of a kStart record.
inline constexpr std::size_t kStartRecordBytes = RecordHeader::kBytes + 40;
/// The seed of a log by the kStart at the front of `bytes`, which lies at `at`, when it is sound by
/// itself. To be believed only of the beginning of a segment, where no producer's bytes can lie.
std::optional<LogSeed> SeedOfStart(std::string_view bytes, LogOffset at);

}  // namespace qmq::store
