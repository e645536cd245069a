#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qmq/clock.h"

#include "server/env/file_system.h"
#include "server/store/file_names.h"
#include "server/store/log_seed.h"
#include "server/store/segment_index.h"
#include "server/store/subject_table.h"

namespace qmq::store {

/// A piece of the log: one file of fixed size.
struct Segment {
    std::uint32_t number = 0;
    SegmentSummary summary;
    /// Null when it is not open now.
    std::shared_ptr<env::File> file;
    /// Null once the index file is on the disk.
    std::shared_ptr<MemoryIndex> memory;
    bool index_is_being_written = false;
    std::uint64_t last_use = 0;

    LogOffset base() const { return summary.base; }
};

/// The segments of a shard by number. A segment's number times its size is where it begins in the
/// log.
class Segments {
public:
    Segments(env::FileSystem& files, std::string directory, std::uint64_t segment_bytes)
        : files_(files), directory_(std::move(directory)), segment_bytes_(segment_bytes) {}

    std::uint32_t NumberOf(LogOffset offset) const {
        return static_cast<std::uint32_t>(offset / segment_bytes_);
    }
    LogOffset BaseOf(std::uint32_t number) const { return number * segment_bytes_; }
    std::uint64_t segment_bytes() const { return segment_bytes_; }
    /// Of the log's checksums; once it is known.
    LogSeed seed() const { return seed_; }
    void set_seed(LogSeed seed) { seed_ = seed; }
    const std::string& directory() const { return directory_; }
    env::FileSystem& files() const { return files_; }
    std::string PathOf(std::uint32_t number, FileKind kind) const {
        return directory_ + "/" + FileName(BaseOf(number), kind);
    }

    std::map<std::uint32_t, Segment>& all() { return all_; }
    const std::map<std::uint32_t, Segment>& all() const { return all_; }
    /// Null when there is none.
    Segment* Find(std::uint32_t number);
    Segment& Add(std::uint32_t number, std::shared_ptr<env::File> file);
    /// Whether synced records are known to be damaged or gone from [begin, end) of the log, up to
    /// the end of the last segment at most.
    bool IsDamagedIn(LogOffset begin, LogOffset end) const;
    LogOffset FirstBase() const { return all_.empty() ? 0 : BaseOf(all_.begin()->first); }

    /// The segment's file, opened when it is not.
    Result<std::shared_ptr<env::File>> FileOf(Segment& segment);
    /// Few files stay open: of those that are not written any more, the ones that were used longest
    /// ago are closed. To be called when one was opened, or is not written any more.
    void CloseLeastUsed();

private:
    static constexpr std::size_t kMostOpen = 24;

    env::FileSystem& files_;
    const std::string directory_;
    const std::uint64_t segment_bytes_;
    LogSeed seed_{};
    std::map<std::uint32_t, Segment> all_;
    std::uint64_t uses_ = 0;
};

/// Ids and names of the subjects that have messages in `index`, by id. The names live as long as
/// the table.
using IndexNames = std::vector<std::pair<std::uint32_t, std::string_view>>;
IndexNames NamesOf(const MemoryIndex& index, const SubjectTable& subjects);

/// Where subjects' blocks lie in an index file, by subject id.
using BlockPositions = std::vector<std::pair<std::uint32_t, std::uint64_t>>;

/// Writes the index file of a sealed segment whose records are all synced. Touches nothing of the
/// shard but what is handed in, which does not change any more: it may run on another thread.
Result<BlockPositions> WriteIndexFile(env::FileSystem& files,
                                      const std::string& directory,
                                      LogSeed seed,
                                      const SegmentSummary& summary,
                                      const MemoryIndex& index,
                                      const IndexNames& names);

/// Notes in the subjects' extents where their blocks lie.
void ApplyIndexPositions(SubjectTable& subjects,
                         std::uint32_t segment,
                         const BlockPositions& positions);

/// Puts the messages of a record into the index of its segment and the extents of its subject.
/// False when there is no message to be found in it.
bool IndexRecord(SubjectState& subject,
                 std::uint32_t segment,
                 SubjectIndex& index,
                 std::uint64_t first_sequence,
                 std::uint32_t position,
                 std::uint32_t record_bytes,
                 const BatchView& batch);

}  // namespace qmq::store
