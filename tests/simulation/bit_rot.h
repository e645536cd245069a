#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qmq/random.h"

#include "server/env/simulated_file_system.h"
#include "server/store/shard_store.h"
#include "tests/support/audit.h"

namespace qmq::simulation {

/// A disk that forgets what it was given long ago: now and then one bit of a store turns over while
/// no broker runs. What was in the record that it hits is gone, which the audit is told; all else
/// must stay.
///
/// Has a source of chance of its own, so that worlds without rot do not change with it.
class BitRot {
public:
    BitRot(std::uint64_t seed, env::SimulatedFileSystem& disk, testing::Audit& audit);

    /// Turns a bit over in a record with messages, an index file, or the newer of two snapshots.
    /// The fault's name; empty: there was nothing to hit.
    std::string Strike();
    /// Whether what a start reports comes from this.
    bool Explains(const store::RecoveryReport::Corruption& corruption) const;

private:
    struct Hit {
        std::string path;
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
    };
    bool HitRecord(const std::string& directory);
    bool HitFile(const std::string& directory, std::string_view suffix, std::size_t least_files);

    Random random_;
    env::SimulatedFileSystem& disk_;
    testing::Audit& audit_;
    std::vector<Hit> hits_;
};

}  // namespace qmq::simulation
