#include "server/store/segment_factory.h"

#include <utility>

#include "server/env/planted_bug.h"

namespace qmq::store {
namespace {

bool HasTwoMakers() {
    return env::Planted(env::PlantedBug::kTwoMakers);
}

/// Leaves nothing behind when there is no room: what little it got is better used by others.
Result<std::shared_ptr<env::File>> MakeAt(env::FileSystem& files,
                                          const std::string& path,
                                          std::uint64_t bytes) {
    Result<std::unique_ptr<env::File>> file = files.Open(path, env::OpenMode::kCreate);
    if (!file.ok()) {
        return file.status();
    }
    Status status = (*file)->Allocate(bytes);
    if (!status.ok()) {
        static_cast<void>(files.Remove(path));
        return status;
    }
    return std::shared_ptr<env::File>(std::move(*file));
}

}  // namespace

std::string SegmentFactory::NextPath(std::uint32_t number) {
    const std::string path = segments_.PathOf(number, FileKind::kLog);
    return HasTwoMakers() ? path : path + "." + std::to_string(++made_count_) + ".tmp";
}

void SegmentFactory::MakeAhead(std::uint32_t number, Done done) {
    if (spare_ || is_making_ || put_back_.contains(number) || clock_.Now() < rests_until_) {
        return;
    }
    is_making_ = true;
    auto made = std::make_shared<Made>();
    made->number = number;
    made->path = NextPath(number);
    background_.Run(
        [&files = segments_.files(), made, bytes = segments_.segment_bytes()] {
            Result<std::shared_ptr<env::File>> file = MakeAt(files, made->path, bytes);
            if (!file.ok()) {
                return file.status();
            }
            made->file = std::move(*file);
            return Status::Ok();
        },
        [this, made, done = std::move(done)](const Status& status) mutable {
            is_making_ = false;
            if (status.ok()) {
                spare_ = std::move(*made);
            } else {
                // The log tries for itself when it gets there, and says why it could not.
                rests_until_ = clock_.Now() + kRestsAfterFailure;
            }
            done();
        });
}

Result<std::shared_ptr<env::File>> SegmentFactory::Take(std::uint32_t number) {
    if (auto found = put_back_.extract(number)) {
        // A no-op, but for a file that comes from a copy without its zeros.
        Status status = found.mapped()->Allocate(segments_.segment_bytes());
        if (!status.ok()) {
            put_back_.insert(std::move(found));
            return status;
        }
        return std::move(found.mapped());
    }
    if (clock_.Now() < refuses_until_) {
        return refusal_;
    }
    Result<std::shared_ptr<env::File>> file = MakeNamed(number);
    if (file.status().code() == StatusCode::kResourceExhausted) {
        refusal_ = file.status();
        refuses_until_ = clock_.Now() + kRefusesFor;
    }
    return file;
}

Result<std::shared_ptr<env::File>> SegmentFactory::MakeNamed(std::uint32_t number) {
    env::FileSystem& files = segments_.files();
    if (HasTwoMakers()) {
        if (spare_ && spare_->number == number) {
            return std::move(std::exchange(spare_, std::nullopt)->file);
        }
        return MakeAt(files, segments_.PathOf(number, FileKind::kLog), segments_.segment_bytes());
    }
    if (!spare_) {
        // Should one be under way just now, it serves the segment behind this one.
        std::string path = NextPath(number);
        Result<std::shared_ptr<env::File>> file = MakeAt(files, path, segments_.segment_bytes());
        if (!file.ok()) {
            return file;
        }
        spare_ = Made{number, std::move(path), std::move(*file)};
    }
    Status status = files.Rename(spare_->path, segments_.PathOf(number, FileKind::kLog));
    if (!status.ok()) {
        return status;
    }
    return std::move(std::exchange(spare_, std::nullopt)->file);
}

void SegmentFactory::PutBack(std::uint32_t number, std::shared_ptr<env::File> file) {
    put_back_[number] = std::move(file);
}

void SegmentFactory::DropSpare(Done done) {
    if (!spare_ || HasTwoMakers()) {
        return;
    }
    background_.Run(
        [&files = segments_.files(), path = std::exchange(spare_, std::nullopt)->path] {
            // Else the next start removes it.
            static_cast<void>(files.Remove(path));
            return Status::Ok();
        },
        [done = std::move(done)](const Status&) mutable { done(); });
}

}  // namespace qmq::store
