#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "qmq/status.h"

#include "server/env/file_system.h"
#include "server/store/log_seed.h"
#include "server/store/shard_store.h"

namespace qmq::store {

/// kInvalidArgument names the first option out of range, its value and the range.
Status ValidateOptions(const StoreOptions& options);

/// What is fixed when a store is made, and recorded in its `store.json`.
struct StoreSettings {
    std::uint64_t segment_bytes = 0;
    LogSeed seed{};
};

std::string EncodeSettings(const StoreSettings& settings);
Result<StoreSettings> ParseSettings(std::string_view text);

/// Nothing in it when the folder has no store yet.
Result<std::optional<StoreSettings>> ReadSettings(env::FileSystem& files,
                                                  const std::string& directory);

/// Reads the settings, or writes them when the store is new; `is_new` says that the folder has no
/// log either: then its seed is `new_seed`. kFailedPrecondition when they differ from `options`;
/// kDataLoss when they are gone, with what they must have been as far as the other files tell.
Result<StoreSettings> CheckSettings(env::FileSystem& files,
                                    const StoreOptions& options,
                                    bool is_new,
                                    LogSeed new_seed);

/// Writes a file whole: under another name first, then synced, renamed, and the folder synced, so
/// that at any moment the old one is there or the new one.
Status WriteWhole(env::FileSystem& files,
                  const std::string& directory,
                  const std::string& name,
                  std::string_view bytes);

/// All of a file. kNotFound when there is none.
Result<Slice> ReadWhole(env::FileSystem& files, const std::string& path);

}  // namespace qmq::store
