#include "server/store/store_settings.h"

#include <charconv>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "server/store/file_names.h"
#include "server/store/subject_table.h"

namespace qmq::store {
namespace {

using std::chrono::seconds;

template <typename T>
Status CheckRange(std::string_view name, T value, T lowest, T highest) {
    if (value >= lowest && value <= highest) {
        return Status::Ok();
    }
    return Status::InvalidArgument("store option " + std::string(name) + " is " +
                                   std::to_string(value) + ", outside of [" +
                                   std::to_string(lowest) + ", " + std::to_string(highest) + "]");
}

/// The number behind `"name":` in `text`, which is JSON of our own making or somebody's edit of it.
std::optional<std::uint64_t> NumberOf(std::string_view text, std::string_view name) {
    const std::size_t found = text.find("\"" + std::string(name) + "\"");
    if (found == std::string_view::npos) {
        return std::nullopt;
    }
    const std::size_t begin = text.find_first_not_of(" \t\r\n:", found + name.size() + 2);
    if (begin == std::string_view::npos) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(text.data() + begin, text.data() + text.size(), value);
    if (parsed.ec != std::errc()) {
        return std::nullopt;
    }
    return value;
}

constexpr std::uint64_t kFormat = 2;
constexpr std::uint64_t kLeastSegmentBytes = 64U << 10U;
constexpr std::uint64_t kMostSegmentBytes = std::uint64_t{4} << 30U;
constexpr std::uint64_t kSegmentUnit = 4096;
/// More than any file has that is read whole: settings, index files, snapshots.
constexpr std::uint64_t kMostWholeBytes = std::uint64_t{4} << 30U;

}  // namespace

Status ValidateOptions(const StoreOptions& options) {
    constexpr std::int64_t kTenYears = std::int64_t{3650} * 24 * 3600;
    constexpr std::uint64_t kKiB = 1024;
    if (options.directory.empty()) {
        return Status::InvalidArgument("store option directory is empty: name a folder");
    }
    if (options.segment_bytes % kSegmentUnit != 0) {
        return Status::InvalidArgument("store option segment_bytes is " +
                                       std::to_string(options.segment_bytes) +
                                       ": use a multiple of " + std::to_string(kSegmentUnit));
    }
    for (const Status& status :
         {CheckRange<std::uint64_t>(
              "segment_bytes", options.segment_bytes, kLeastSegmentBytes, kMostSegmentBytes),
          CheckRange<std::int64_t>("retention", options.retention.count(), 1, kTenYears),
          CheckRange<double>(
              "disk_high_water_percent", options.disk_high_water_percent, 50.0, 100.0),
          CheckRange<std::uint64_t>("index_cache_bytes",
                                    options.index_cache_bytes,
                                    kKiB * kKiB,
                                    4 * kKiB * kKiB * kKiB)}) {
        if (!status.ok()) {
            return status;
        }
    }
    return Status::Ok();
}

std::string EncodeSettings(const StoreSettings& settings) {
    return "{\n  \"format\": " + std::to_string(kFormat) +
           ",\n  \"segment_bytes\": " + std::to_string(settings.segment_bytes) +
           ",\n  \"seed\": " + ToString(settings.seed) + "\n}\n";
}

Result<StoreSettings> ParseSettings(std::string_view text) {
    const std::optional<std::uint64_t> format = NumberOf(text, "format");
    if (!format) {
        return Status::DataLoss("it has no \"format\"");
    }
    if (*format != kFormat) {
        return Status::FailedPrecondition(
            "its format is " + std::to_string(*format) + ", and this program reads format " +
            std::to_string(kFormat) +
            " only: use the program that made the store, or another folder");
    }
    const std::optional<std::uint64_t> segment_bytes = NumberOf(text, "segment_bytes");
    const std::optional<std::uint64_t> seed = NumberOf(text, "seed");
    if (!segment_bytes || !seed || *seed > std::numeric_limits<std::uint32_t>::max()) {
        return Status::DataLoss("it has no \"segment_bytes\" or no \"seed\" of 32 bits");
    }
    if (*segment_bytes < kLeastSegmentBytes || *segment_bytes > kMostSegmentBytes ||
        *segment_bytes % kSegmentUnit != 0) {
        return Status::DataLoss("its \"segment_bytes\" is " + std::to_string(*segment_bytes) +
                                ", which no store was made with: segments have the size of the "
                                "largest .log file");
    }
    return StoreSettings{*segment_bytes, LogSeed(static_cast<std::uint32_t>(*seed))};
}

Result<std::optional<StoreSettings>> ReadSettings(env::FileSystem& files,
                                                  const std::string& directory) {
    const std::string path = directory + "/" + std::string(kSettingsName);
    const Result<Slice> text = ReadWhole(files, path);
    if (!text.ok()) {
        if (text.status().code() == StatusCode::kNotFound) {
            return std::optional<StoreSettings>();
        }
        return text.status();
    }
    const Result<StoreSettings> settings = ParseSettings(text->bytes());
    if (!settings.ok()) {
        return settings.status().WithContext(path);
    }
    return std::optional<StoreSettings>(*settings);
}

namespace {

/// The size of the first segment's file: all have the same.
std::uint64_t FindSegmentBytes(env::FileSystem& files, const std::string& directory) {
    const std::vector<std::string> names = files.List(directory).value_or({});
    for (const std::string& name : names) {
        const std::optional<NamedFile> named = ParseFileName(name);
        if (!named || named->kind != FileKind::kLog) {
            continue;
        }
        const auto file = files.Open(directory + "/" + name, env::OpenMode::kRead);
        if (file.ok()) {
            return file.value()->Size().value_or(0);
        }
    }
    return 0;
}

/// What to do when a log is there and its settings are not.
Status LostSettings(env::FileSystem& files, const StoreOptions& options) {
    const std::string lost =
        options.directory + " has a log but no " + std::string(kSettingsName) + ": ";
    const Result<std::vector<SeedWitness>> found = FindSeeds(files, options.directory);
    if (!found.ok()) {
        return found.status();
    }
    const std::vector<SeedWitness>& witnesses = found.value();
    if (witnesses.empty()) {
        return Status::DataLoss(
            lost +
            "put back a copy of it. No other file tells the seed of the log: neither a "
            "segment that begins with a start, nor an index file or snapshot is left");
    }
    for (const SeedWitness& witness : witnesses) {
        if (witness.seed != witnesses.front().seed) {
            return Status::DataLoss(lost + witnesses.front().path + " says that its seed is " +
                                    ToString(witnesses.front().seed) + ", and " + witness.path +
                                    " says " + ToString(witness.seed) +
                                    ": move what is of another store away");
        }
    }
    std::uint64_t segment_bytes = FindSegmentBytes(files, options.directory);
    if (segment_bytes < kLeastSegmentBytes) {
        segment_bytes = options.segment_bytes;
    }
    return Status::DataLoss(lost + "write one by what " + witnesses.front().path +
                            " and the size of the segments say: " +
                            EncodeSettings({segment_bytes, witnesses.front().seed}));
}

}  // namespace

Result<StoreSettings> CheckSettings(env::FileSystem& files,
                                    const StoreOptions& options,
                                    bool is_new,
                                    LogSeed new_seed) {
    const Result<std::optional<StoreSettings>> stored = ReadSettings(files, options.directory);
    if (!stored.ok()) {
        return stored.status();
    }
    if (!stored->has_value()) {
        if (!is_new) {
            return LostSettings(files, options);
        }
        const StoreSettings made{options.segment_bytes, new_seed};
        Status status =
            WriteWhole(files, options.directory, std::string(kSettingsName), EncodeSettings(made));
        return status.ok() ? Result<StoreSettings>(made) : status;
    }
    if ((*stored)->segment_bytes != options.segment_bytes) {
        return Status::FailedPrecondition(
            "the store in " + options.directory + " was made with segment_bytes " +
            std::to_string((*stored)->segment_bytes) + ", and " +
            std::to_string(options.segment_bytes) +
            " was asked for: it is fixed for the life of a store; use the stored value");
    }
    return **stored;
}

Status WriteWhole(env::FileSystem& files,
                  const std::string& directory,
                  const std::string& name,
                  std::string_view bytes) {
    const std::string path = directory + "/" + name;
    const std::string temporary = path + ".tmp";
    Result<std::unique_ptr<env::File>> file = files.Open(temporary, env::OpenMode::kCreate);
    Status status = file.status();
    if (status.ok()) {
        // One may be left from a time when this did not end well.
        status = (*file)->Truncate(0);
    }
    if (status.ok()) {
        status = (*file)->WriteAt(0, {&bytes, 1});
    }
    if (status.ok()) {
        status = (*file)->Sync();
    }
    if (status.ok()) {
        status = files.Rename(temporary, path);
    }
    if (!status.ok()) {
        // It may not exist, and what matters is reported already.
        static_cast<void>(files.Remove(temporary));
        return status;
    }
    return files.SyncDirectory(directory);
}

Result<Slice> ReadWhole(env::FileSystem& files, const std::string& path) {
    const Result<std::unique_ptr<env::File>> file = files.Open(path, env::OpenMode::kRead);
    if (!file.ok()) {
        return file.status();
    }
    const Result<std::uint64_t> size = file.value()->Size();
    if (!size.ok()) {
        return size.status();
    }
    if (*size > kMostWholeBytes) {
        return Status::DataLoss(path + " has " + std::to_string(*size) +
                                " bytes, more than such a file can have");
    }
    return file.value()->ReadAt(0, static_cast<std::size_t>(*size));
}

}  // namespace qmq::store
