#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

#include "server/env/file_system.h"

namespace qmq::env {
namespace {

/// Says what was tried, where, and what the system answered, with the code that tells the caller
/// what to do.
Status SystemError(std::string_view operation, const std::string& path, int error) {
    std::string message(operation);
    message += " " + path + ": " + std::generic_category().message(error) + " (errno " +
               std::to_string(error) + ")";
    switch (error) {
        case ENOSPC:
        case EDQUOT:
            return Status::ResourceExhausted(message + "; free some space");
        case EACCES:
        case EPERM:
        case EROFS:
            return Status::PermissionDenied(message +
                                            "; give the user of this process the right to it");
        case ENOENT:
            return Status::NotFound(std::move(message));
        case EIO:
            return Status::DataLoss(message + "; the device reports an error, look at its log");
        default:
            return Status::Internal(std::move(message));
    }
}

std::string At(std::string_view operation, std::uint64_t offset) {
    return std::string(operation) + " at " + std::to_string(offset) + " of";
}

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    int get() const { return fd_; }

private:
    int fd_;
};

class RealFile final : public File {
public:
    RealFile(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

    Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
        // Some systems know no more than 1,024 parts a call; a short write goes on where it ended.
        std::size_t part = 0;
        std::size_t inside = 0;
        std::array<iovec, kMaxParts> vectors;
        while (true) {
            const std::size_t count = Gather(parts, part, inside, vectors);
            if (count == 0) {
                return Status::Ok();
            }
            const ssize_t written = ::pwritev(
                fd_.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(offset));
            if (written < 0) {
                if (errno == EINTR) {
                    continue;
                }
                return SystemError(At("write", offset), path_, errno);
            }
            if (written == 0) {
                return Status::Internal(At("write", offset) + " " + path_ +
                                        ": the system took nothing, and gave no reason");
            }
            offset += static_cast<std::uint64_t>(written);
            Advance(parts, part, inside, static_cast<std::size_t>(written));
        }
    }

    Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
        // Not zeroed first: the bytes that count are all written by the system.
        std::shared_ptr<char[]> memory = std::make_shared_for_overwrite<char[]>(length);
        std::size_t got = 0;
        while (got < length) {
            const ssize_t count = ::pread(
                fd_.get(), memory.get() + got, length - got, static_cast<off_t>(offset + got));
            if (count < 0) {
                if (errno == EINTR) {
                    continue;
                }
                return SystemError(At("read", offset + got), path_, errno);
            }
            if (count == 0) {
                break;
            }
            got += static_cast<std::size_t>(count);
        }
        const std::string_view bytes(memory.get(), got);
        return Slice(std::move(memory), bytes);
    }

    Status Sync() override {
        // The system tells an error once, to whichever call comes first: the others are told here.
        const std::lock_guard lock(sync_mutex_);
        if (sync_failure_.ok() && ::fdatasync(fd_.get()) != 0) {
            sync_failure_ = SystemError("sync", path_, errno);
        }
        return sync_failure_;
    }

    Status Allocate(std::uint64_t bytes) override {
        Result<std::uint64_t> size = Size();
        if (!size.ok()) {
            return size.status();
        }
        if (*size >= bytes) {
            return Status::Ok();
        }
        int result = 0;
        do {
            result = ::fallocate(fd_.get(), 0, 0, static_cast<off_t>(bytes));
        } while (result != 0 && errno == EINTR);
        if (result == 0) {
            return Status::Ok();
        }
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            return WriteZeros(*size, bytes);
        }
        return SystemError("allocate " + std::to_string(bytes) + " bytes for", path_, errno);
    }

    Status Truncate(std::uint64_t bytes) override {
        if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) {
            return SystemError("truncate", path_, errno);
        }
        return Status::Ok();
    }

    Result<std::uint64_t> Size() override {
        struct stat info {};
        if (::fstat(fd_.get(), &info) != 0) {
            return SystemError("stat", path_, errno);
        }
        return static_cast<std::uint64_t>(info.st_size);
    }

private:
    static constexpr std::size_t kMaxParts = 1024;
    static_assert(kMaxParts <= IOV_MAX);

    static std::size_t Gather(std::span<const std::string_view> parts,
                              std::size_t part,
                              std::size_t inside,
                              std::array<iovec, kMaxParts>& vectors) {
        std::size_t count = 0;
        for (; part < parts.size() && count < kMaxParts; ++part, inside = 0) {
            const std::string_view rest = parts[part].substr(inside);
            if (!rest.empty()) {
                vectors[count++] = {const_cast<char*>(rest.data()), rest.size()};
            }
        }
        return count;
    }

    static void Advance(std::span<const std::string_view> parts,
                        std::size_t& part,
                        std::size_t& inside,
                        std::size_t written) {
        while (part < parts.size() && written >= parts[part].size() - inside) {
            written -= parts[part].size() - inside;
            inside = 0;
            ++part;
        }
        inside += written;
    }

    /// For file systems without fallocate: room is reserved by using it.
    Status WriteZeros(std::uint64_t from, std::uint64_t to) {
        const std::string zeros(1U << 20, '\0');
        while (from < to) {
            const std::string_view part =
                std::string_view(zeros).substr(0, std::min<std::uint64_t>(zeros.size(), to - from));
            Status status = WriteAt(from, {&part, 1});
            if (!status.ok()) {
                return status;
            }
            from += part.size();
        }
        return Status::Ok();
    }

    Descriptor fd_;
    const std::string path_;
    std::mutex sync_mutex_;
    Status sync_failure_;  // guarded by sync_mutex_
};

class RealLock final : public FileLock {
public:
    explicit RealLock(Descriptor fd) : fd_(std::move(fd)) {}

private:
    Descriptor fd_;
};

Status SyncFolder(const std::string& directory) {
    Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) {
        return SystemError("open folder", directory, errno);
    }
    if (::fsync(fd.get()) != 0) {
        return SystemError("sync folder", directory, errno);
    }
    return Status::Ok();
}

std::string ParentOf(const std::string& path) {
    const std::size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) {
        return ".";
    }
    return slash == 0 ? "/" : path.substr(0, slash);
}

/// For a folder that exists: the process that made it may have ended before it synced its name. Not
/// every parent can be synced (no right to read it, another kind of file system): such a one is not
/// where we made a folder. Only an error of the disk counts.
Status SyncParentOf(const std::string& directory) {
    Status status = SyncFolder(ParentOf(directory));
    const bool disk_failed =
        status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kResourceExhausted;
    return disk_failed ? status : Status::Ok();
}

/// "process 1234", from what the holder wrote into the lock file.
std::string Holder(int fd) {
    std::array<char, 32> text{};
    const ssize_t count = ::pread(fd, text.data(), text.size(), 0);
    long pid = 0;
    if (count <= 0 || std::from_chars(text.data(), text.data() + count, pid).ec != std::errc()) {
        return "another process";
    }
    return "process " + std::to_string(pid);
}

class RealFiles final : public FileSystem {
public:
    Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
        int flags = O_CLOEXEC | (mode == OpenMode::kRead ? O_RDONLY : O_RDWR);
        if (mode == OpenMode::kCreate) {
            flags |= O_CREAT;
        }
        Descriptor fd(::open(path.c_str(), flags, 0640));
        if (fd.get() < 0) {
            return SystemError("open", path, errno);
        }
        return std::unique_ptr<File>(std::make_unique<RealFile>(std::move(fd), path));
    }

    Status Remove(const std::string& path) override {
        if (::unlink(path.c_str()) != 0) {
            return SystemError("remove", path, errno);
        }
        return Status::Ok();
    }

    Status Rename(const std::string& from, const std::string& to) override {
        if (::rename(from.c_str(), to.c_str()) != 0) {
            return SystemError("rename to " + to + " the file", from, errno);
        }
        return Status::Ok();
    }

    Result<bool> Exists(const std::string& path) override {
        struct stat info {};
        if (::stat(path.c_str(), &info) == 0) {
            return true;
        }
        if (errno == ENOENT || errno == ENOTDIR) {
            return false;
        }
        return SystemError("look for", path, errno);
    }

    Result<std::vector<std::string>> List(const std::string& directory) override {
        DIR* const folder = ::opendir(directory.c_str());
        if (folder == nullptr) {
            return SystemError("list folder", directory, errno);
        }
        std::vector<std::string> names;
        errno = 0;
        while (const dirent* entry = ::readdir(folder)) {
            const std::string_view name(entry->d_name);
            if (name != "." && name != "..") {
                names.emplace_back(name);
            }
        }
        const int error = errno;
        ::closedir(folder);
        if (error != 0) {
            return SystemError("list folder", directory, error);
        }
        std::sort(names.begin(), names.end());
        return names;
    }

    Status MakeDirectories(const std::string& directory) override {
        struct stat info {};
        if (::stat(directory.c_str(), &info) == 0) {
            return S_ISDIR(info.st_mode) ? SyncParentOf(directory)
                                         : SystemError("make folder", directory, ENOTDIR);
        }
        const std::string parent = ParentOf(directory);
        if (parent != directory && parent != ".") {
            Status status = MakeDirectories(parent);
            if (!status.ok()) {
                return status;
            }
        }
        if (::mkdir(directory.c_str(), 0750) != 0 && errno != EEXIST) {
            return SystemError("make folder", directory, errno);
        }
        // A folder that a power cut takes away takes every file in it along.
        return SyncFolder(parent);
    }

    Status SyncDirectory(const std::string& directory) override { return SyncFolder(directory); }

    Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
        Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
        if (fd.get() < 0) {
            return SystemError("open lock file", path, errno);
        }
        if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK) {
                return SystemError("lock", path, errno);
            }
            return Status::FailedPrecondition(path + " is held by " + Holder(fd.get()) +
                                              ": stop it, or use another data directory");
        }
        const std::string pid = std::to_string(::getpid()) + "\n";
        // Only the text of other processes' error messages depends on this.
        if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
            errno = 0;
        }
        return std::unique_ptr<FileLock>(std::make_unique<RealLock>(std::move(fd)));
    }

    Result<DiskSpace> Space(const std::string& directory) override {
        struct statvfs info {};
        if (::statvfs(directory.c_str(), &info) != 0) {
            return SystemError("ask for the free space of", directory, errno);
        }
        const std::uint64_t unit = info.f_frsize;
        return DiskSpace{info.f_blocks * unit, info.f_bavail * unit};
    }
};

}  // namespace

FileSystem& RealFileSystem() {
    static RealFiles files;
    return files;
}

}  // namespace qmq::env
