#include "server/broker/options.h"

#include <array>
#include <string>

#include "qmq/crc32c.h"
#include "qmq/subject.h"

namespace qmq::broker {

namespace {

constexpr std::uint64_t kMiB = 1U << 20U;

template <typename Number>
Status CheckRange(std::string_view option, Number value, Number least, Number most) {
    if (value >= least && value <= most) {
        return {};
    }
    return Status::InvalidArgument("broker option " + std::string(option) + " = " +
                                   std::to_string(value) + "; it ranges from " +
                                   std::to_string(least) + " to " + std::to_string(most));
}

Status CheckDurability(std::string_view option, Durability durability) {
    if (durability >= Durability::kMemory && durability <= Durability::kFsync) {
        return {};
    }
    return Status::InvalidArgument("broker option " + std::string(option) + " = " +
                                   std::string(ToString(durability)) +
                                   "; it is memory, page_cache or fsync");
}

/// The name of the hash is a part of it: another hash would look for subjects elsewhere.
std::string Content(const BrokerOptions& options) {
    return "version=1\nshards=" + std::to_string(options.shards) + "\nsubject_hash=crc32c\n";
}

Status WriteOptionsFile(env::FileSystem& files,
                        const std::string& directory,
                        const std::string& content) {
    const std::string path = directory + "/broker.options";
    const std::string temporary = path + ".new";
    {
        Result<std::unique_ptr<env::File>> file = files.Open(temporary, env::OpenMode::kCreate);
        if (!file.ok()) {
            return file.status();
        }
        const std::array<std::string_view, 1> parts{content};
        if (Status status = (*file)->Truncate(0); !status.ok()) {
            return status;
        }
        if (Status status = (*file)->WriteAt(0, parts); !status.ok()) {
            return status;
        }
        if (Status status = (*file)->Sync(); !status.ok()) {
            return status;
        }
    }
    if (Status status = files.Rename(temporary, path); !status.ok()) {
        return status;
    }
    return files.SyncDirectory(directory);
}

Result<std::string> ReadAll(env::FileSystem& files, const std::string& path) {
    Result<std::unique_ptr<env::File>> file = files.Open(path, env::OpenMode::kRead);
    if (!file.ok()) {
        return file.status();
    }
    Result<std::uint64_t> size = (*file)->Size();
    if (!size.ok()) {
        return size.status();
    }
    Result<Slice> bytes =
        (*file)->ReadAt(0, static_cast<std::size_t>(std::min<std::uint64_t>(*size, kMiB)));
    if (!bytes.ok()) {
        return bytes.status();
    }
    return std::string(bytes->bytes());
}

std::string OneLine(std::string text) {
    for (char& c : text) {
        c = c == '\n' ? ' ' : c;
    }
    return text;
}

}  // namespace

Status ValidateOptions(const BrokerOptions& options) {
    if (options.directory.empty()) {
        return Status::InvalidArgument("broker option directory is empty");
    }
    for (Status status :
         {CheckRange<std::uint32_t>("shards", options.shards, 1, 64),
          CheckDurability("default_durability", options.default_durability),
          CheckDurability("best_durability", options.best_durability),
          CheckRange<std::int64_t>(
              "flush_interval (ms)", options.flush_interval.count(), 10, 60'000),
          CheckRange<std::uint32_t>(
              "max_queued_requests", options.max_queued_requests, 1, 1U << 20U),
          CheckRange<std::uint64_t>(
              "max_queued_bytes", options.max_queued_bytes, kMiB, 16'384 * kMiB),
          CheckRange<std::uint32_t>(
              "max_in_flight_per_consumer", options.max_in_flight_per_consumer, 1, 1U << 20U),
          CheckRange<std::uint32_t>(
              "max_set_aside_per_group", options.max_set_aside_per_group, 0, 1U << 20U),
          CheckRange<std::int64_t>("retry_delay (ms)", options.retry_delay.count(), 0, 3'600'000),
          CheckRange<std::int64_t>("idle_group_retention (ms)",
                                   options.idle_group_retention.count(),
                                   60'000,
                                   3'650LL * 24 * 3'600'000)}) {
        if (!status.ok()) {
            return status;
        }
    }
    for (const auto& [pattern, durability] : options.subject_durability) {
        if (Status status = CheckDurability("subject_durability " + pattern, durability);
            !status.ok()) {
            return status;
        }
    }
    return {};
}

Status CheckOptionsFile(env::FileSystem& files, const BrokerOptions& options) {
    if (Status status = files.MakeDirectories(options.directory); !status.ok()) {
        return status;
    }
    const std::string path = options.directory + "/broker.options";
    const std::string wanted = Content(options);
    Result<bool> exists = files.Exists(path);
    if (!exists.ok()) {
        return exists.status();
    }
    if (!*exists) {
        return WriteOptionsFile(files, options.directory, wanted);
    }
    Result<std::string> stored = ReadAll(files, path);
    if (!stored.ok()) {
        return stored.status();
    }
    if (*stored != wanted) {
        return Status::FailedPrecondition(
            path + ": the data was made with \"" + OneLine(*stored) + "\", asked for is \"" +
            OneLine(wanted) +
            "\": these are fixed for the life of the data; use the stored ones, or another folder");
    }
    return {};
}

std::uint32_t ShardOf(std::string_view subject, std::uint32_t shards) {
    return shards == 1 ? 0 : Crc32c(ParseSubject(subject).real_subject) % shards;
}

}  // namespace qmq::broker
