#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/env/file_system.h"

namespace qmq::inproc {

/// `files` with a limit: an `Allocate` that would reserve more than `cap_bytes` altogether is
/// kResourceExhausted, as on a disk that is full. Counts what files reserve, which for the broker
/// is its segments.
std::unique_ptr<env::FileSystem> CapFiles(std::unique_ptr<env::FileSystem> files,
                                          std::uint64_t cap_bytes);

}  // namespace qmq::inproc
