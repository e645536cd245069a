#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/status.h"

#include "server/store/log_clock.h"
#include "server/store/log_seed.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// The shard at one place of its log, so that replay need not begin at the log's beginning.
/// docs/design/log-format.md.
struct Snapshot {
    /// The state is that after all records below. The log was synced up to here before the file was
    /// made: a watermark too.
    LogOffset position = 0;
    std::uint32_t incarnation = 0;
    LogSeed seed{};
    /// The log's clock when it was taken.
    ClockState clock;
    /// Where the sequences of a subject begin that is not known yet: see `ShardLog`.
    std::uint64_t sequence_floor = 0;

    struct Subject {
        std::string name;
        std::uint64_t first_sequence = 0;
        std::uint64_t next_sequence = 0;
        std::vector<SubjectLog::Gap> gaps;
    };
    std::vector<Subject> subjects;
    std::string state;  ///< The owner's.
};

std::string EncodeSnapshot(const Snapshot& snapshot);
/// Every byte is suspect. kDataLoss says what is wrong.
Result<Snapshot> ParseSnapshot(std::string_view bytes);

}  // namespace qmq::store
