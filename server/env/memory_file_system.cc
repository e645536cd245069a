#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <utility>

#include "server/env/file_system.h"

namespace qmq::env {
namespace {

/// The bytes of a file, in chunks that readers share.
///
/// A reader keeps a chunk alive and reads from it without a lock. That is sound because bytes that
/// a reader may hold never change: what lies below a chunk's `used` is only written again after the
/// chunk was copied, when somebody else holds it; what lies above was never given to anybody.
class Contents {
public:
    void Write(std::uint64_t offset, std::string_view bytes) {
        const std::lock_guard lock(mutex_);
        size_ = std::max<std::uint64_t>(size_, offset + bytes.size());
        while (!bytes.empty()) {
            const std::size_t inside = offset % kChunkBytes;
            const std::size_t count = std::min(bytes.size(), kChunkBytes - inside);
            std::memcpy(
                WritableChunk(offset / kChunkBytes, inside, count) + inside, bytes.data(), count);
            bytes.remove_prefix(count);
            offset += count;
        }
    }

    Slice Read(std::uint64_t offset, std::size_t length) {
        const std::lock_guard lock(mutex_);
        length = static_cast<std::size_t>(
            std::min<std::uint64_t>(length, size_ > offset ? size_ - offset : 0));
        const std::size_t inside = offset % kChunkBytes;
        const std::size_t index = offset / kChunkBytes;
        if (inside + length <= kChunkBytes && index < chunks_.size() &&
            chunks_[index].used >= inside + length) {
            return {chunks_[index].bytes, {chunks_[index].bytes.get() + inside, length}};
        }
        return Copy(offset, length);
    }

    void Resize(std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        if (bytes < size_) {
            chunks_.resize((bytes + kChunkBytes - 1) / kChunkBytes);
            const std::size_t inside = bytes % kChunkBytes;
            if (inside != 0 && !chunks_.empty() && chunks_.back().used > inside) {
                char* const chunk =
                    WritableChunk(chunks_.size() - 1, inside, chunks_.back().used - inside);
                std::memset(chunk + inside, 0, chunks_.back().used - inside);
                chunks_.back().used = inside;
            }
        }
        size_ = bytes;
    }

    std::uint64_t size() {
        const std::lock_guard lock(mutex_);
        return size_;
    }

private:
    static constexpr std::size_t kChunkBytes = 1U << 20;
    static constexpr std::size_t kLeastBytes = 4096;

    struct Chunk {
        std::shared_ptr<char[]> bytes;  // Null: never written.
        std::size_t used = 0;           // Zeros behind.
        std::size_t capacity = 0;
    };

    static std::shared_ptr<char[]> MakeZeros(std::size_t bytes) {
        auto* const zeros = static_cast<char*>(std::calloc(bytes, 1));
        if (zeros == nullptr) {
            throw std::bad_alloc();
        }
        return {zeros, std::free};
    }

    /// Room for `count` bytes at `inside` of a chunk that no reader holds there.
    char* WritableChunk(std::size_t index, std::size_t inside, std::size_t count) {
        if (index >= chunks_.size()) {
            chunks_.resize(index + 1);
        }
        Chunk& chunk = chunks_[index];
        const std::size_t needed = inside + count;
        const bool is_shared = inside < chunk.used && chunk.bytes.use_count() > 1;
        if (needed > chunk.capacity || is_shared) {
            // The first chunk grows step by step, since most files are small.
            const std::size_t least = index == 0 ? std::max(needed, kLeastBytes) : kChunkBytes;
            chunk.capacity =
                std::max(chunk.capacity, std::min(kChunkBytes, std::max(2 * chunk.used, least)));
            std::shared_ptr<char[]> grown = MakeZeros(chunk.capacity);
            if (chunk.used > 0) {
                std::memcpy(grown.get(), chunk.bytes.get(), chunk.used);
            }
            chunk.bytes = std::move(grown);
        }
        chunk.used = std::max(chunk.used, needed);
        return chunk.bytes.get();
    }

    Slice Copy(std::uint64_t offset, std::size_t length) const {
        std::string copy(length, '\0');
        for (std::size_t done = 0; done < length;) {
            const std::size_t index = (offset + done) / kChunkBytes;
            const std::size_t inside = (offset + done) % kChunkBytes;
            const std::size_t count = std::min(length - done, kChunkBytes - inside);
            if (index < chunks_.size() && inside < chunks_[index].used) {
                std::memcpy(copy.data() + done,
                            chunks_[index].bytes.get() + inside,
                            std::min(count, chunks_[index].used - inside));
            }
            done += count;
        }
        return Slice::Own(std::move(copy));
    }

    std::mutex mutex_;
    std::vector<Chunk> chunks_;  // Guarded by mutex_.
    std::uint64_t size_ = 0;     // Guarded by mutex_.
};

class MemoryFile final : public File {
public:
    explicit MemoryFile(std::shared_ptr<Contents> contents) : contents_(std::move(contents)) {}

    Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
        for (const std::string_view part : parts) {
            contents_->Write(offset, part);
            offset += part.size();
        }
        return Status::Ok();
    }
    Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
        return contents_->Read(offset, length);
    }
    Status Sync() override { return Status::Ok(); }
    Status Allocate(std::uint64_t bytes) override {
        if (bytes > contents_->size()) {
            contents_->Resize(bytes);
        }
        return Status::Ok();
    }
    Status Truncate(std::uint64_t bytes) override {
        contents_->Resize(bytes);
        return Status::Ok();
    }
    Result<std::uint64_t> Size() override { return contents_->size(); }

private:
    const std::shared_ptr<Contents> contents_;
};

/// Names that are locked now; shared with the locks, so that either may go first.
struct LockTable {
    std::mutex mutex;
    std::set<std::string> held;  // Guarded by mutex.
};

class MemoryLock final : public FileLock {
public:
    MemoryLock(std::shared_ptr<LockTable> table, std::string path)
        : table_(std::move(table)), path_(std::move(path)) {}
    ~MemoryLock() override {
        const std::lock_guard lock(table_->mutex);
        table_->held.erase(path_);
    }

private:
    const std::shared_ptr<LockTable> table_;
    const std::string path_;
};

class MemoryFiles final : public FileSystem {
public:
    Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
        const std::lock_guard lock(mutex_);
        auto found = files_.find(path);
        if (found == files_.end()) {
            if (mode != OpenMode::kCreate) {
                return Status::NotFound("open " + path + ": no such file in memory");
            }
            found = files_.emplace(path, std::make_shared<Contents>()).first;
        }
        return std::unique_ptr<File>(std::make_unique<MemoryFile>(found->second));
    }

    Status Remove(const std::string& path) override {
        const std::lock_guard lock(mutex_);
        if (files_.erase(path) == 0) {
            return Status::NotFound("remove " + path + ": no such file in memory");
        }
        return Status::Ok();
    }

    Status Rename(const std::string& from, const std::string& to) override {
        const std::lock_guard lock(mutex_);
        const auto found = files_.find(from);
        if (found == files_.end()) {
            return Status::NotFound("rename " + from + ": no such file in memory");
        }
        std::shared_ptr<Contents> contents = std::move(found->second);
        files_.erase(found);
        files_[to] = std::move(contents);
        return Status::Ok();
    }

    Result<bool> Exists(const std::string& path) override {
        const std::lock_guard lock(mutex_);
        return files_.contains(path) || directories_.contains(path);
    }

    Result<std::vector<std::string>> List(const std::string& directory) override {
        const std::lock_guard lock(mutex_);
        if (!directories_.contains(directory)) {
            return Status::NotFound("list folder " + directory + ": no such folder in memory");
        }
        const std::string prefix = directory + "/";
        std::set<std::string> names;
        const auto add = [&](const std::string& path) {
            if (path.starts_with(prefix)) {
                names.insert(
                    path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
            }
        };
        for (auto file = files_.lower_bound(prefix);
             file != files_.end() && file->first.starts_with(prefix);
             ++file) {
            add(file->first);
        }
        std::for_each(directories_.begin(), directories_.end(), add);
        return std::vector<std::string>(names.begin(), names.end());
    }

    Status MakeDirectories(const std::string& directory) override {
        const std::lock_guard lock(mutex_);
        for (std::size_t slash = directory.find('/', 1); slash != std::string::npos;
             slash = directory.find('/', slash + 1)) {
            directories_.insert(directory.substr(0, slash));
        }
        directories_.insert(directory);
        return Status::Ok();
    }

    Status SyncDirectory(const std::string&) override { return Status::Ok(); }

    Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
        const std::lock_guard lock(locks_->mutex);
        if (!locks_->held.insert(path).second) {
            return Status::FailedPrecondition(path + " is held by this process already");
        }
        return std::unique_ptr<FileLock>(std::make_unique<MemoryLock>(locks_, path));
    }

    Result<DiskSpace> Space(const std::string&) override {
        // Memory has no mark of its own here: whoever runs out of it learns so from the system.
        return DiskSpace{std::uint64_t{1} << 62, std::uint64_t{1} << 62};
    }

private:
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Contents>> files_;  // Guarded by mutex_.
    std::set<std::string> directories_;                       // Guarded by mutex_.
    const std::shared_ptr<LockTable> locks_ = std::make_shared<LockTable>();
};

}  // namespace

std::unique_ptr<FileSystem> MakeMemoryFileSystem() {
    return std::make_unique<MemoryFiles>();
}

}  // namespace qmq::env
