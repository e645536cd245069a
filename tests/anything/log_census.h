#pragma once

#include <string>

#include "server/env/file_system.h"
#include "tests/anything/world.h"

namespace qmq::anything {

/// Counts the actions in the log of one shard by their kinds. The first that cannot be read, for
/// people; empty: all can.
std::string CountActions(env::FileSystem& files, const std::string& directory, Counters& counters);

}  // namespace qmq::anything
