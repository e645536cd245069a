#include "plugins/inproc/server/capped_files.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace qmq::inproc {
namespace {

/// How much each file has reserved. Thread-safe.
class Reservations {
public:
    explicit Reservations(std::uint64_t cap_bytes) : cap_bytes_(cap_bytes) {}

    Status Reserve(const std::string& path, std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        std::uint64_t& reserved = by_path_[path];
        if (bytes > reserved && total_bytes_ - reserved + bytes > cap_bytes_) {
            return Status::ResourceExhausted(
                "the messages in memory take " + std::to_string(total_bytes_) + " of " +
                std::to_string(cap_bytes_) +
                " bytes (InprocOptions::memory_bytes): consumers have to ack some first");
        }
        if (bytes > reserved) {
            total_bytes_ += bytes - reserved;
            reserved = bytes;
        }
        return Status::Ok();
    }
    void Shrink(const std::string& path, std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        if (const auto found = by_path_.find(path);
            found != by_path_.end() && found->second > bytes) {
            total_bytes_ -= found->second - bytes;
            found->second = bytes;
        }
    }
    void Remove(const std::string& path) {
        Shrink(path, 0);
        const std::lock_guard lock(mutex_);
        by_path_.erase(path);
    }
    void Rename(const std::string& from, const std::string& to) {
        Remove(to);
        const std::lock_guard lock(mutex_);
        if (auto node = by_path_.extract(from)) {
            node.key() = to;
            by_path_.insert(std::move(node));
        }
    }

private:
    const std::uint64_t cap_bytes_;
    std::mutex mutex_;
    std::uint64_t total_bytes_ = 0;                 // guarded by mutex_
    std::map<std::string, std::uint64_t> by_path_;  // guarded by mutex_
};

class CappedFile final : public env::File {
public:
    CappedFile(std::unique_ptr<env::File> file,
               std::string path,
               std::shared_ptr<Reservations> reservations)
        : file_(std::move(file)), path_(std::move(path)), reservations_(std::move(reservations)) {}

    Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
        return file_->WriteAt(offset, parts);
    }
    Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
        return file_->ReadAt(offset, length);
    }
    Status Sync() override { return file_->Sync(); }
    Status Allocate(std::uint64_t bytes) override {
        if (Status reserved = reservations_->Reserve(path_, bytes); !reserved.ok()) {
            return reserved.WithContext(path_);
        }
        return file_->Allocate(bytes);
    }
    Status Truncate(std::uint64_t bytes) override {
        reservations_->Shrink(path_, bytes);
        return file_->Truncate(bytes);
    }
    Result<std::uint64_t> Size() override { return file_->Size(); }

private:
    const std::unique_ptr<env::File> file_;
    const std::string path_;
    const std::shared_ptr<Reservations> reservations_;
};

class CappedFiles final : public env::FileSystem {
public:
    CappedFiles(std::unique_ptr<env::FileSystem> files, std::uint64_t cap_bytes)
        : files_(std::move(files)), reservations_(std::make_shared<Reservations>(cap_bytes)) {}

    Result<std::unique_ptr<env::File>> Open(const std::string& path, env::OpenMode mode) override {
        auto file = files_->Open(path, mode);
        if (!file.ok()) {
            return file.status();
        }
        return std::unique_ptr<env::File>(
            std::make_unique<CappedFile>(std::move(file).value(), path, reservations_));
    }
    Status Remove(const std::string& path) override {
        Status removed = files_->Remove(path);
        if (removed.ok()) {
            reservations_->Remove(path);
        }
        return removed;
    }
    Status Rename(const std::string& from, const std::string& to) override {
        Status renamed = files_->Rename(from, to);
        if (renamed.ok()) {
            reservations_->Rename(from, to);
        }
        return renamed;
    }
    Result<bool> Exists(const std::string& path) override { return files_->Exists(path); }
    Result<std::vector<std::string>> List(const std::string& directory) override {
        return files_->List(directory);
    }
    Status MakeDirectories(const std::string& directory) override {
        return files_->MakeDirectories(directory);
    }
    Status SyncDirectory(const std::string& directory) override {
        return files_->SyncDirectory(directory);
    }
    Result<std::unique_ptr<env::FileLock>> Lock(const std::string& path) override {
        return files_->Lock(path);
    }
    Result<env::DiskSpace> Space(const std::string& directory) override {
        return files_->Space(directory);
    }

private:
    const std::unique_ptr<env::FileSystem> files_;
    const std::shared_ptr<Reservations> reservations_;
};

}  // namespace

std::unique_ptr<env::FileSystem> CapFiles(std::unique_ptr<env::FileSystem> files,
                                          std::uint64_t cap_bytes) {
    return std::make_unique<CappedFiles>(std::move(files), cap_bytes);
}

}  // namespace qmq::inproc
