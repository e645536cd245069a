#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/env/file_system.h"

namespace qmq::store {

/// Another file system, with hooks before an allocation that needs room and before a rename: they
/// may do what another thread would do just then, and refuse. Counts the files that are open.
class HookedFiles final : public env::FileSystem {
public:
    explicit HookedFiles(env::FileSystem& files) : files_(files) {}

    std::function<Status(const std::string& path)> before_allocate = [](const std::string&) {
        return Status::Ok();
    };
    std::function<Status(const std::string& to)> before_rename = [](const std::string&) {
        return Status::Ok();
    };
    std::atomic<int> open_count{0};

    Result<std::unique_ptr<env::File>> Open(const std::string& path, env::OpenMode mode) override {
        auto file = files_.Open(path, mode);
        if (!file.ok()) {
            return file.status();
        }
        return std::unique_ptr<env::File>(
            std::make_unique<HookedFile>(*this, path, std::move(*file)));
    }
    Status Remove(const std::string& path) override { return files_.Remove(path); }
    Status Rename(const std::string& from, const std::string& to) override {
        Status status = before_rename(to);
        return status.ok() ? files_.Rename(from, to) : status;
    }
    Result<bool> Exists(const std::string& path) override { return files_.Exists(path); }
    Result<std::vector<std::string>> List(const std::string& directory) override {
        return files_.List(directory);
    }
    Status MakeDirectories(const std::string& directory) override {
        return files_.MakeDirectories(directory);
    }
    Status SyncDirectory(const std::string& directory) override {
        return files_.SyncDirectory(directory);
    }
    Result<std::unique_ptr<env::FileLock>> Lock(const std::string& path) override {
        return files_.Lock(path);
    }
    Result<env::DiskSpace> Space(const std::string& directory) override {
        return files_.Space(directory);
    }

private:
    class HookedFile final : public env::File {
    public:
        HookedFile(HookedFiles& owner, std::string path, std::unique_ptr<env::File> file)
            : owner_(owner), path_(std::move(path)), file_(std::move(file)) {
            ++owner_.open_count;
        }
        ~HookedFile() override { --owner_.open_count; }
        Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
            return file_->WriteAt(offset, parts);
        }
        Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
            return file_->ReadAt(offset, length);
        }
        Status Sync() override { return file_->Sync(); }
        Status Allocate(std::uint64_t bytes) override {
            const Result<std::uint64_t> size = file_->Size();
            Status status =
                size.ok() && size.value() >= bytes ? Status::Ok() : owner_.before_allocate(path_);
            return status.ok() ? file_->Allocate(bytes) : status;
        }
        Status Truncate(std::uint64_t bytes) override { return file_->Truncate(bytes); }
        Result<std::uint64_t> Size() override { return file_->Size(); }

    private:
        HookedFiles& owner_;
        const std::string path_;
        const std::unique_ptr<env::File> file_;
    };

    env::FileSystem& files_;
};

}  // namespace qmq::store
