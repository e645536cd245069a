#include "server/store/log_seed.h"

#include <memory>
#include <optional>
#include <string_view>

#include "server/store/file_names.h"
#include "server/store/record.h"
#include "server/store/segment_index.h"
#include "server/store/snapshot_file.h"
#include "server/store/store_settings.h"

namespace qmq::store {
namespace {

/// Of the front of a segment.
std::optional<LogSeed> SeedOfSegment(env::FileSystem& files,
                                     const std::string& path,
                                     LogOffset base) {
    const auto file = files.Open(path, env::OpenMode::kRead);
    if (!file.ok()) {
        return std::nullopt;
    }
    const Result<Slice> bytes = file.value()->ReadAt(0, kStartRecordBytes);
    return bytes.ok() ? SeedOfStart(bytes.value().bytes(), base) : std::nullopt;
}

std::optional<LogSeed> SeedOfFile(env::FileSystem& files,
                                  const std::string& path,
                                  const NamedFile& file) {
    switch (file.kind) {
        case FileKind::kLog:
            return SeedOfSegment(files, path, file.offset);
        case FileKind::kIndex:
            if (const Result<Slice> bytes = ReadWhole(files, path); bytes.ok()) {
                const auto index = ParseIndexDirectory(bytes.value().bytes(), file.offset);
                return index.ok() ? std::optional(index.value().seed) : std::nullopt;
            }
            return std::nullopt;
        case FileKind::kSnapshot:
            if (const Result<Slice> bytes = ReadWhole(files, path); bytes.ok()) {
                const auto snapshot = ParseSnapshot(bytes.value().bytes());
                return snapshot.ok() ? std::optional(snapshot.value().seed) : std::nullopt;
            }
            return std::nullopt;
        case FileKind::kTemporary:
            return std::nullopt;
    }
    return std::nullopt;
}

}  // namespace

std::string ToString(LogSeed seed) {
    return std::to_string(static_cast<std::uint32_t>(seed));
}

Result<std::vector<SeedWitness>> FindSeeds(env::FileSystem& files, const std::string& directory) {
    const Result<std::vector<std::string>> names = files.List(directory);
    if (!names.ok()) {
        return names.status();
    }
    std::vector<SeedWitness> witnesses;
    for (const std::string& name : names.value()) {
        const std::string path = directory + "/" + name;
        if (const std::optional<NamedFile> file = ParseFileName(name)) {
            if (const std::optional<LogSeed> seed = SeedOfFile(files, path, *file)) {
                witnesses.push_back({path, *seed});
            }
        }
    }
    return witnesses;
}

Status CheckSeed(const std::string& directory, LogSeed stored, const SeedWitness& witness) {
    if (stored == witness.seed) {
        return Status::Ok();
    }
    return Status::FailedPrecondition(
        directory + "/" + std::string(kSettingsName) + " says that the seed of the log is " +
        ToString(stored) + ", and " + witness.path + " says " + ToString(witness.seed) +
        ": with a wrong one every record would look damaged. Put the right number into " +
        std::string(kSettingsName) + ", or move a file of another store away");
}

}  // namespace qmq::store
