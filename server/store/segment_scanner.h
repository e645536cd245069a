#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qmq/slice.h"
#include "qmq/status.h"

#include "server/env/file_system.h"
#include "server/store/record.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// A process that has written to the log.
struct LogWriter {
    std::uint32_t incarnation = 0;  ///< Zero: nobody knows.
    LogOffset begin = 0;            ///< Where its first record lies, or a later place.
};

/// Walks the records of one segment in order and finds its way past damage: behind it, it looks at
/// every multiple of 8 for a record that says of itself that it lies there and whose checksum
/// holds.
///
/// A record of a smaller incarnation than the last record before it is none if it does not know the
/// log synced beyond where that one's process began: it was taken back, and a power cut has brought
/// it up again, the disk not having taken the zeros over it, or a failed sync having lost them. One
/// that does know was written by a later process still, whose number had been another's before
/// synced records were lost. Fillings are left out on both sides: a start puts them over holes, and
/// they say nothing of what is synced.
///
/// Reads through a window, so that a segment costs a few MiB of memory however large it is.
class SegmentScanner {
public:
    /// `writer`: that of the last record before this segment, when it is known.
    SegmentScanner(env::File& file,
                   LogOffset base,
                   std::uint64_t segment_bytes,
                   LogSeed seed,
                   LogWriter writer = {})
        : file_(file), base_(base), segment_bytes_(segment_bytes), seed_(seed), writer_(writer) {}

    enum class StepKind : std::uint8_t {
        kRecord,  ///< `record` is whole; it lies in [position, end).
        kDamage,  ///< [position, end) is no record; at `end` is one.
        kEnd  ///< No record from `position` on. Zeros from `end` on: `end` is `position` when the
              ///< rest was never written.
    };
    struct Step {
        StepKind kind = StepKind::kEnd;
        std::uint64_t position = 0;  ///< In the segment.
        std::uint64_t end = 0;
        Record record;       ///< Its views live until the next call.
        std::string reason;  ///< kDamage and kEnd: what is wrong at `position`.
    };

    /// The next step. After kEnd there is none. Errors are those of reading the file: they say
    /// nothing about what is on the disk.
    Result<Step> Next();
    /// Of the last record so far.
    LogWriter writer() const { return writer_; }

private:
    /// At least `count` bytes from `position`, fewer where the segment or the file ends.
    Result<std::string_view> Bytes(std::uint64_t position, std::uint64_t count);
    /// The record at `position`; kDataLoss when there is none, other errors come from the file.
    Result<Record> RecordAt(std::uint64_t position, bool& unreadable);
    /// As above, whoever wrote it.
    Result<Record> ParseAt(std::uint64_t position, bool& unreadable);
    /// The filling with `header` at `position`, whose zeros are looked at piece by piece.
    Result<Record> FillingAt(std::uint64_t position, const RecordHeader& header, bool& unreadable);
    static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};
    /// Where in `window`, which begins at `window_at`, a record begins.
    Result<std::uint64_t> FindIn(std::string_view window, std::uint64_t window_at);
    Result<Step> FindBehind(std::string reason);

    env::File& file_;
    const LogOffset base_;
    const std::uint64_t segment_bytes_;
    const LogSeed seed_;
    LogWriter writer_;
    std::uint64_t position_ = 0;
    Slice window_;
    std::uint64_t window_begin_ = 0;
};

}  // namespace qmq::store
