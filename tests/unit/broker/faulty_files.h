#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/env/file_system.h"

namespace qmq::broker::testing {

/// Files of another file system, with errors that a test switches on.
class FaultyFiles final : public env::FileSystem {
public:
    explicit FaultyFiles(env::FileSystem& under) : under_(under) {}

    Status write_error;     ///< Of `File::WriteAt`.
    Status sync_error;      ///< Of `File::Sync`.
    Status allocate_error;  ///< Of `File::Allocate`.
    std::size_t sync_count = 0;
    std::size_t write_count = 0;
    std::size_t read_count = 0;
    std::size_t failed_read = 0;    ///< The one read that the device fails, by `read_count`.
    std::size_t full_at_write = 0;  ///< The one write that finds no room, by `write_count`.
    double used_percent = 10;

    Result<std::unique_ptr<env::File>> Open(const std::string& path, env::OpenMode mode) override {
        Result<std::unique_ptr<env::File>> file = under_.Open(path, mode);
        if (!file.ok()) {
            return file;
        }
        return std::unique_ptr<env::File>(std::make_unique<FaultyFile>(*this, *std::move(file)));
    }
    Status Remove(const std::string& path) override { return under_.Remove(path); }
    Status Rename(const std::string& from, const std::string& to) override {
        return under_.Rename(from, to);
    }
    Result<bool> Exists(const std::string& path) override { return under_.Exists(path); }
    Result<std::vector<std::string>> List(const std::string& directory) override {
        return under_.List(directory);
    }
    Status MakeDirectories(const std::string& directory) override {
        return under_.MakeDirectories(directory);
    }
    Status SyncDirectory(const std::string& directory) override {
        return under_.SyncDirectory(directory);
    }
    Result<std::unique_ptr<env::FileLock>> Lock(const std::string& path) override {
        return under_.Lock(path);
    }
    Result<env::DiskSpace> Space(const std::string&) override {
        constexpr std::uint64_t kTotal = 1U << 30U;
        const auto used = static_cast<std::uint64_t>(used_percent / 100 * kTotal);
        return env::DiskSpace{kTotal, kTotal - used};
    }

private:
    class FaultyFile final : public env::File {
    public:
        FaultyFile(FaultyFiles& files, std::unique_ptr<env::File> under)
            : files_(files), under_(std::move(under)) {}
        Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
            if (++files_.write_count == files_.full_at_write) {
                return Status::ResourceExhausted("no space left on device");
            }
            // The store takes back a round by writing zeros where its records begin.
            const bool erases =
                parts.size() == 1 && parts[0].find_first_not_of('\0') == std::string_view::npos;
            return files_.write_error.ok() || erases ? under_->WriteAt(offset, parts)
                                                     : files_.write_error;
        }
        Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
            if (++files_.read_count == files_.failed_read) {
                return Status::DataLoss("the device could not read");
            }
            return under_->ReadAt(offset, length);
        }
        Status Sync() override {
            ++files_.sync_count;
            return files_.sync_error.ok() ? under_->Sync() : files_.sync_error;
        }
        Status Allocate(std::uint64_t bytes) override {
            return files_.allocate_error.ok() ? under_->Allocate(bytes) : files_.allocate_error;
        }
        Status Truncate(std::uint64_t bytes) override { return under_->Truncate(bytes); }
        Result<std::uint64_t> Size() override { return under_->Size(); }

    private:
        FaultyFiles& files_;
        std::unique_ptr<env::File> under_;
    };

    env::FileSystem& under_;
};

}  // namespace qmq::broker::testing
