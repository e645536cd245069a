#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qmq/status.h"

#include "server/env/file_system.h"

namespace qmq::store {

/// What the checksum of each record of a log begins with: random, and never told to producers, so
/// that no bytes of a message are a record. A copy of a log has the same.
enum class LogSeed : std::uint32_t {};

std::string ToString(LogSeed seed);

/// A place that tells the seed of a log, and where no producer's bytes can lie: a kStart at the
/// beginning of a segment, or the header of a snapshot or of an index file.
struct SeedWitness {
    std::string path;
    LogSeed seed{};
};

/// All of them that are sound. Reads no more than it needs.
Result<std::vector<SeedWitness>> FindSeeds(env::FileSystem& files, const std::string& directory);

/// kFailedPrecondition: `store.json` of `directory` says something else than `witness`. Naming
/// both.
Status CheckSeed(const std::string& directory, LogSeed stored, const SeedWitness& witness);

}  // namespace qmq::store
