#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "qmq/status.h"

#include "server/env/file_system.h"
#include "server/store/record.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// Where something lies on the disk.
struct LogPlace {
    std::string path;
    std::uint64_t file_offset = 0;
};

/// Bytes of the log that are no record.
struct LogDamage {
    LogOffset begin = 0;
    LogOffset end = 0;
    LogPlace place;
    std::string reason;
    /// Nothing valid follows: a torn tail, which the next start cuts, when the log was not synced
    /// so far.
    bool is_tail = false;
};

/// Takes what `InspectLog` finds, in the order of the log. The views in a record live during the
/// call.
class LogVisitor {
public:
    virtual ~LogVisitor() = default;
    /// Ends the walk when it returns false.
    virtual bool OnRecord(const Record& record, const LogPlace& place) = 0;
    virtual bool OnDamage(const LogDamage& damage) = 0;
};

/// Walks all records of a shard's folder without changing anything. A broker may be running on it:
/// then the newest records may seem torn. kNotFound: the folder holds no store.
Status InspectLog(env::FileSystem& files, const std::string& directory, LogVisitor& visitor);

/// What `VerifyStore` found.
struct VerifyReport {
    std::uint64_t segment_count = 0;
    std::uint64_t index_count = 0;
    std::uint64_t snapshot_count = 0;
    std::uint64_t record_count = 0;
    std::uint64_t message_count = 0;
    std::uint64_t action_count = 0;
    std::uint64_t subject_count = 0;
    LogOffset begin = 0;
    LogOffset end = 0;
    /// Log that no record can be read from, and that is no torn tail.
    std::vector<LogDamage> damage;
    std::uint64_t torn_tail_bytes = 0;
    /// Sequences missing between the messages of a subject: the messages of damaged records.
    std::uint64_t missing_message_count = 0;
    /// All that is wrong, a sentence each, with the file and the place; `damage` included. Empty:
    /// the store is sound.
    std::vector<std::string> problems;
};

/// Reads everything in a shard's folder and checks it: the records and the batches in them, that
/// sequences follow each other, the index files against the log, the snapshots, and that all is
/// there which was synced: what a start would refuse or report is a problem. Changes nothing.
/// `check_action` says whether the owner of the log can read an action.
using ActionCheck = std::function<Status(std::string_view)>;
Result<VerifyReport> VerifyStore(env::FileSystem& files,
                                 const std::string& directory,
                                 const ActionCheck& check_action);

/// "messages", "action", "move", "start" or "mark".
std::string_view ToString(RecordKind kind);

/// The folders below `directory`, and itself, that hold a store.
Result<std::vector<std::string>> FindStores(env::FileSystem& files, const std::string& directory);

}  // namespace qmq::store
