#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/store/shard_store.h"

namespace qmq::store {

enum class FileKind : std::uint8_t { kLog, kIndex, kSnapshot, kTemporary };

/// "00000000000000065536.log": so a sorted listing is in the order of the log.
std::string FileName(LogOffset offset, FileKind kind);

struct NamedFile {
    LogOffset offset = 0;
    FileKind kind = FileKind::kLog;
};

/// Nothing for names that are not the store's own.
std::optional<NamedFile> ParseFileName(std::string_view name);

inline constexpr std::string_view kLockName = "LOCK";
inline constexpr std::string_view kSettingsName = "store.json";

}  // namespace qmq::store
