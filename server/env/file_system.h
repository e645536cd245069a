#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qmq/slice.h"
#include "qmq/status.h"

namespace qmq::env {

/// An open file. Calls on one file come from one thread at a time, but for `Sync`, which may run
/// beside the others.
///
/// Errors of every call: kResourceExhausted (disk full, quota), kPermissionDenied, kNotFound,
/// kDataLoss (the device reports an I/O error), kInternal. The message names the path, the
/// operation, where, and what the system said.
class File {
public:
    virtual ~File() = default;

    /// Writes `parts` one after another from `offset`. After an error any part of it may be on the
    /// disk.
    virtual Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) = 0;

    /// Up to `length` bytes from `offset`: fewer only where the file ends.
    virtual Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) = 0;

    /// Makes what was written before the call survive a power cut (data and the size needed to read
    /// it). After an error nothing may be assumed of what was written since the last success, and
    /// trying again proves nothing: that holds for every code, kResourceExhausted too.
    virtual Status Sync() = 0;

    /// Grows the file to `bytes`, with room on the disk reserved, reading as zeros.
    /// kResourceExhausted when there is none.
    virtual Status Allocate(std::uint64_t bytes) = 0;

    virtual Status Truncate(std::uint64_t bytes) = 0;
    virtual Result<std::uint64_t> Size() = 0;
};

/// Held by one process at a time; released on destruction, and by the system when the process dies.
class FileLock {
public:
    virtual ~FileLock() = default;
};

enum class OpenMode : std::uint8_t {
    kRead,       ///< Must exist.
    kReadWrite,  ///< Must exist.
    kCreate      ///< Made empty when it does not exist; kept when it does.
};

struct DiskSpace {
    std::uint64_t total_bytes = 0;
    std::uint64_t free_bytes = 0;
};

/// Where the server keeps its data. Thread-safe. Paths use `/`.
class FileSystem {
public:
    virtual ~FileSystem() = default;

    virtual Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;
    /// Removing what does not exist is kNotFound.
    virtual Status Remove(const std::string& path) = 0;
    /// Replaces `to`, at once or not at all. Durable after `SyncDirectory` of the folder.
    virtual Status Rename(const std::string& from, const std::string& to) = 0;
    virtual Result<bool> Exists(const std::string& path) = 0;
    /// Names in a folder, sorted, without "." and "..".
    virtual Result<std::vector<std::string>> List(const std::string& directory) = 0;
    /// The folder and those above it, where they do not exist yet. They survive a power cut.
    virtual Status MakeDirectories(const std::string& directory) = 0;
    /// Makes creations, renames and removals in it survive a power cut.
    virtual Status SyncDirectory(const std::string& directory) = 0;
    /// kFailedPrecondition when another process holds it; the message names the process id when it
    /// is known.
    virtual Result<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
    virtual Result<DiskSpace> Space(const std::string& directory) = 0;
};

/// The machine's files. Lives as long as the process.
FileSystem& RealFileSystem();

/// Files in memory, gone with the object: for `--memory` and `inproc:`. Reading shares the memory
/// instead of copying where it can.
std::unique_ptr<FileSystem> MakeMemoryFileSystem();

}  // namespace qmq::env
