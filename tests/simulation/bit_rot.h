#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/clock.h"
#include "qmq/random.h"

#include "server/env/simulated_file_system.h"
#include "server/store/record.h"
#include "server/store/shard_store.h"
#include "tests/support/audit.h"

namespace qmq::simulation {

/// Damages what the disk has synced: a bit of a record of any kind, of an index or of a snapshot
/// turns over, an action becomes one that nobody can read, or a damaged message has a record in it.
/// The audit is told what that excuses; a start may call nothing else damaged.
class BitRot {
public:
    BitRot(std::uint64_t seed, env::SimulatedFileSystem& disk, testing::Audit& audit);

    /// Turns one bit over somewhere in /data; whether a broker runs is all one. The name of the
    /// fault for the counts, or empty when there was nothing to damage. `last_refusal`: when the
    /// disk last refused a write.
    std::string Strike(TimePoint last_refusal);

    /// Whether it, or a part of it, was damaged here.
    bool Explains(const store::RecoveryReport::Corruption& corruption) const;

private:
    struct Hit {
        std::string path;
        std::uint64_t begin = 0;  // In the file.
        std::uint64_t end = 0;
    };
    bool HitRecord(const std::string& directory, store::RecordKind kind);
    bool Garble(const std::string& directory);
    bool Forge(const std::string& directory);
    bool HitFile(const std::string& directory, std::string_view suffix, std::size_t least_files);
    void TellDamaged(const std::vector<std::string>& ids, bool is_tail);

    Random random_;
    env::SimulatedFileSystem& disk_;
    testing::Audit& audit_;
    std::vector<Hit> hits_;
    TimePoint last_refusal_{};
};

}  // namespace qmq::simulation
