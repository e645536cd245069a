#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>

#include "server/store/batch_cache.h"
#include "server/store/index_cache.h"
#include "server/store/segments.h"
#include "server/store/shard_store.h"
#include "server/store/subject_table.h"

namespace qmq::store {

/// Finds messages by subject and sequence. What comes from a file is checked before it is handed
/// out: the record's checksum, and that it is the record of that subject and sequence.
class LogReader {
public:
    LogReader(Segments& segments,
              SubjectTable& subjects,
              BatchCache& batches,
              const Clock& clock,
              env::EventListener& events,
              std::uint64_t index_cache_bytes)
        : segments_(segments),
          subjects_(subjects),
          batches_(batches),
          clock_(clock),
          events_(events),
          indexes_(index_cache_bytes) {}

    Result<ReadReply> Read(SubjectState& subject, const ReadRequest& request);

    /// Retention took the segment.
    void DropSegment(std::uint32_t number) { indexes_.DropSegment(number); }

private:
    friend class ReadPass;

    /// The subject's index in the extent's segment. When the index file is missing or damaged, the
    /// segment is scanned and its index is in memory again, to be written anew.
    Result<std::shared_ptr<const SubjectIndex>> IndexOf(const SubjectState& subject,
                                                        const Extent& extent);
    Result<SubjectIndex> LoadIndex(const Extent& extent);
    Status RebuildIndex(Segment& segment);

    /// The batch of a record. kDataLoss when its bytes are damaged or are not those of `entry`;
    /// kUnavailable when the device could not read them and may later.
    Result<Slice> BatchAt(const SubjectState& subject,
                          std::uint32_t segment,
                          const BatchEntry& entry,
                          Slice& window,
                          LogOffset& window_begin);
    Result<Slice> ReadRecord(Segment& segment,
                             const BatchEntry& entry,
                             Slice& window,
                             LogOffset& window_begin);
    Status OnReadError(LogOffset record, const Status& error);
    /// Messages of `subject` are skipped because the log is damaged at `at`: told once.
    void TellDamage(const SubjectState& subject,
                    LogOffset at,
                    std::uint64_t count,
                    std::uint64_t bytes,
                    const Status& why);

    Segments& segments_;
    SubjectTable& subjects_;
    BatchCache& batches_;
    const Clock& clock_;
    env::EventListener& events_;
    IndexCache indexes_;
    struct Trouble {
        TimePoint since;
        int attempts = 0;
    };
    /// Records that the device could not read; few, and gone once read.
    std::unordered_map<LogOffset, Trouble> unreadable_;
    static constexpr std::size_t kMostTold = 4096;
    /// By subject and place; forgotten when there are too many.
    std::set<std::pair<std::uint32_t, LogOffset>> told_;
};

}  // namespace qmq::store
