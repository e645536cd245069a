#include "server/env/simulated_file_system.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace qmq::env {
namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kNearlyFullPercent = 95;
constexpr std::uint64_t kUnlimitedBytes = std::uint64_t{1} << 50U;

std::string FolderOf(const std::string& path) {
    return path.substr(0, path.find_last_of('/'));
}

void Overwrite(std::string& data, std::uint64_t offset, std::string_view bytes) {
    if (data.size() < offset + bytes.size()) {
        data.resize(static_cast<std::size_t>(offset + bytes.size()), '\0');
    }
    std::memcpy(data.data() + offset, bytes.data(), bytes.size());
}

std::string Where(std::string_view operation, const std::string& path) {
    return std::string(operation) + " " + path + ": ";
}

}  // namespace

class SimulatedFileSystem::OpenFile final : public File {
public:
    OpenFile(SimulatedFileSystem& disk, std::string path, std::shared_ptr<Node> node)
        : disk_(disk),
          path_(std::move(path)),
          node_(std::move(node)),
          generation_(disk.generation_),
          holder_(node_->holders.lock()) {
        if (!holder_) {
            holder_ = std::make_shared<char>();
            node_->holders = holder_;
        }
    }

    Status WriteAt(std::uint64_t offset, std::span<const std::string_view> parts) override {
        disk_.on_step_("write", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("write");
        return status.ok() ? disk_.WriteNode(path_, *node_, offset, parts) : status;
    }

    Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
        disk_.on_step_("read", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("read");
        if (!status.ok()) {
            return status;
        }
        if (disk_.fail_reads_) {
            disk_.Count("read_error");
            return Status::DataLoss(Where("read", path_) + "simulated I/O error");
        }
        const std::string& data = node_->now;
        return Slice::Own(offset < data.size()
                              ? data.substr(static_cast<std::size_t>(offset), length)
                              : std::string());
    }

    Status Sync() override {
        disk_.on_step_("sync", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("sync");
        return status.ok() ? disk_.SyncNode(path_, *node_) : status;
    }

    Status Allocate(std::uint64_t bytes) override {
        disk_.on_step_("allocate", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("allocate");
        if (!status.ok() || bytes <= node_->now.size()) {
            return status;
        }
        status = disk_.CheckRoom(path_, bytes - node_->now.size());
        if (status.ok()) {
            node_->now.resize(static_cast<std::size_t>(bytes), '\0');
            node_->allocated = bytes;
        }
        return status;
    }

    Status Truncate(std::uint64_t bytes) override {
        disk_.on_step_("truncate", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("truncate");
        if (status.ok()) {
            // Kept simple: shrinking is durable at once. Nothing relies on its being undone.
            node_->now.resize(static_cast<std::size_t>(bytes), '\0');
            node_->durable.resize(std::min(node_->durable.size(), static_cast<std::size_t>(bytes)));
            std::erase_if(node_->unsynced, [&](const Write& write) {
                return write.offset + write.bytes.size() > bytes;
            });
        }
        return status;
    }

    Result<std::uint64_t> Size() override {
        disk_.on_step_("stat", path_);
        const std::lock_guard lock(disk_.mutex_);
        Status status = Check("stat");
        if (!status.ok()) {
            return status;
        }
        return std::uint64_t{node_->now.size()};
    }

private:
    Status Check(std::string_view operation) {
        if (generation_ != disk_.generation_) {
            return Status::Internal(Where(operation, path_) +
                                    "the process that had it open has ended");
        }
        return disk_.BeginStep(operation, path_);
    }

    SimulatedFileSystem& disk_;
    const std::string path_;
    const std::shared_ptr<Node> node_;
    const std::uint64_t generation_;
    std::shared_ptr<void> holder_;
};

class SimulatedFileSystem::HeldLock final : public FileLock {
public:
    HeldLock(SimulatedFileSystem& disk, std::string path)
        : disk_(disk), path_(std::move(path)), generation_(disk.generation_) {}
    ~HeldLock() override {
        const std::lock_guard lock(disk_.mutex_);
        if (generation_ == disk_.generation_) {
            disk_.locks_.erase(path_);
        }
    }

private:
    SimulatedFileSystem& disk_;
    const std::string path_;
    const std::uint64_t generation_;
};

SimulatedFileSystem::SimulatedFileSystem(std::uint64_t seed) : random_(seed) {}
SimulatedFileSystem::~SimulatedFileSystem() = default;

Status SimulatedFileSystem::BeginStep(std::string_view operation, const std::string& path) {
    ++step_;
    if (step_to_fail_ == 0 || step_ < step_to_fail_) {
        return Status::Ok();
    }
    step_to_fail_ = 0;
    step_has_failed_ = true;
    Count("step_failed");
    return Status(step_code_,
                  Where(operation, path) + "simulated failure of step " + std::to_string(step_));
}

Status SimulatedFileSystem::BeginFolderChange(std::string_view operation, const std::string& path) {
    Status status = BeginStep(operation, path);
    if (status.ok() && folder_changes_to_fail_ > 0) {
        --folder_changes_to_fail_;
        Count("folder_error");
        status = Status(folder_code_, Where(operation, path) + "simulated I/O error");
    }
    return status;
}

std::uint64_t SimulatedFileSystem::UsedBytes() const {
    std::uint64_t used = 0;
    for (const auto& [path, node] : names_) {
        used += node->now.size();
    }
    return used;
}

Status SimulatedFileSystem::CheckRoom(const std::string& path, std::uint64_t more_bytes) {
    const bool is_full = full_ || (capacity_ != 0 && UsedBytes() + more_bytes > capacity_);
    if (!is_full) {
        return Status::Ok();
    }
    Count(full_ ? "no_space" : "too_small");
    ++refused_write_count_;
    return Status::ResourceExhausted(Where("write", path) + "simulated disk is full");
}

std::shared_ptr<SimulatedFileSystem::Node> SimulatedFileSystem::Find(
    const std::string& path) const {
    const auto found = names_.find(path);
    return found == names_.end() ? nullptr : found->second;
}

void SimulatedFileSystem::Note(const std::string& directory, Change change) {
    changes_[directory].push_back(std::move(change));
}

Result<std::unique_ptr<File>> SimulatedFileSystem::Open(const std::string& path, OpenMode mode) {
    on_step_("open", path);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("open", path);
    if (!status.ok()) {
        return status;
    }
    std::shared_ptr<Node> node = Find(path);
    if (node == nullptr) {
        if (mode != OpenMode::kCreate) {
            return Status::NotFound(Where("open", path) + "no such file");
        }
        if (!directories_.contains(FolderOf(path))) {
            return Status::NotFound(Where("open", path) + "no such folder");
        }
        status = CheckRoom(path, 0);
        if (!status.ok()) {
            return status;
        }
        node = std::make_shared<Node>();
        names_[path] = node;
        Note(FolderOf(path), {path, node});
    } else if (mode == OpenMode::kCreate && !node->holders.expired()) {
        made_twice_ = path;
    }
    return std::unique_ptr<File>(std::make_unique<OpenFile>(*this, path, std::move(node)));
}

Status SimulatedFileSystem::Remove(const std::string& path) {
    on_step_("remove", path);
    const std::lock_guard lock(mutex_);
    Status status = BeginFolderChange("remove", path);
    if (!status.ok()) {
        return status;
    }
    if (names_.erase(path) == 0) {
        return Status::NotFound(Where("remove", path) + "no such file");
    }
    Note(FolderOf(path), {path, nullptr});
    return Status::Ok();
}

Status SimulatedFileSystem::Rename(const std::string& from, const std::string& to) {
    on_step_("rename", from);
    const std::lock_guard lock(mutex_);
    Status status = BeginFolderChange("rename", from);
    if (!status.ok()) {
        return status;
    }
    std::shared_ptr<Node> node = Find(from);
    if (node == nullptr) {
        return Status::NotFound(Where("rename", from) + "no such file");
    }
    names_.erase(from);
    names_[to] = node;
    // One change: a power cut leaves the old name or the new one.
    Note(FolderOf(to), {to, node});
    Note(FolderOf(to), {from, nullptr});
    on_rename_();
    return Status::Ok();
}

Result<bool> SimulatedFileSystem::Exists(const std::string& path) {
    on_step_("look for", path);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("look for", path);
    if (!status.ok()) {
        return status;
    }
    return names_.contains(path) || directories_.contains(path);
}

Result<std::vector<std::string>> SimulatedFileSystem::List(const std::string& directory) {
    on_step_("list", directory);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("list", directory);
    if (!status.ok()) {
        return status;
    }
    if (!directories_.contains(directory)) {
        return Status::NotFound(Where("list", directory) + "no such folder");
    }
    const std::string prefix = directory + "/";
    std::set<std::string> found;
    const auto add = [&](const std::string& path) {
        if (path.starts_with(prefix)) {
            found.insert(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
        }
    };
    for (const auto& [path, node] : names_) {
        add(path);
    }
    std::for_each(directories_.begin(), directories_.end(), add);
    return std::vector<std::string>(found.begin(), found.end());
}

Status SimulatedFileSystem::MakeDirectories(const std::string& directory) {
    on_step_("make folder", directory);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("make folder", directory);
    if (!status.ok()) {
        return status;
    }
    // Kept simple: folders are durable at once, as `FileSystem` promises for the real ones.
    for (std::size_t slash = directory.find('/', 1); slash != std::string::npos;
         slash = directory.find('/', slash + 1)) {
        directories_.insert(directory.substr(0, slash));
    }
    directories_.insert(directory);
    return Status::Ok();
}

Status SimulatedFileSystem::SyncDirectory(const std::string& directory) {
    on_step_("sync folder", directory);
    const std::lock_guard lock(mutex_);
    Status status = BeginFolderChange("sync folder", directory);
    if (!status.ok()) {
        return status;
    }
    for (Change& change : changes_[directory]) {
        if (change.node == nullptr) {
            durable_names_.erase(change.path);
        } else {
            durable_names_[change.path] = std::move(change.node);
        }
    }
    changes_[directory].clear();
    return Status::Ok();
}

Result<std::unique_ptr<FileLock>> SimulatedFileSystem::Lock(const std::string& path) {
    on_step_("lock", path);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("lock", path);
    if (!status.ok()) {
        return status;
    }
    if (!locks_.insert(path).second) {
        return Status::FailedPrecondition(path + " is held by this process already");
    }
    return std::unique_ptr<FileLock>(std::make_unique<HeldLock>(*this, path));
}

Result<DiskSpace> SimulatedFileSystem::Space(const std::string& directory) {
    on_step_("ask for the space of", directory);
    const std::lock_guard lock(mutex_);
    Status status = BeginStep("ask for the space of", directory);
    if (!status.ok()) {
        return status;
    }
    if (capacity_ == 0) {
        return DiskSpace{kUnlimitedBytes, kUnlimitedBytes};
    }
    const std::uint64_t used = UsedBytes();
    if (used > capacity_ / 100 * kNearlyFullPercent) {
        Count("above_high_water");
    }
    return DiskSpace{capacity_, used < capacity_ ? capacity_ - used : 0};
}

Status SimulatedFileSystem::WriteNode(const std::string& path,
                                      Node& node,
                                      std::uint64_t offset,
                                      std::span<const std::string_view> parts) {
    std::string bytes;
    for (const std::string_view part : parts) {
        bytes.append(part);
    }
    const std::uint64_t end = offset + bytes.size();
    Status status = CheckRoom(path, end > node.now.size() ? end - node.now.size() : 0);
    if (status.ok() && writes_to_fail_ > 0) {
        --writes_to_fail_;
        Count("write_error");
        ++refused_write_count_;
        status = Status(write_code_, Where("write", path) + "simulated write error");
    }
    if (!status.ok()) {
        // Some of it may have been done before it failed.
        bytes.resize(static_cast<std::size_t>(random_.Below(bytes.size() + 1)));
    }
    if (!bytes.empty()) {
        Overwrite(node.now, offset, bytes);
        node.unsynced.push_back({offset, std::move(bytes), false});
    }
    return status;
}

Status SimulatedFileSystem::SyncNode(const std::string& path, Node& node) {
    if (syncs_to_fail_ > 0) {
        --syncs_to_fail_;
        Count("sync_error");
        // The system has marked its pages clean though they never reached the disk.
        for (Write& write : node.unsynced) {
            write.is_doomed = write.is_doomed || random_.Chance(0.5);
        }
        return Status(sync_code_, Where("sync", path) + "simulated sync error");
    }
    if (node.durable.size() < node.allocated) {
        node.durable.resize(static_cast<std::size_t>(node.allocated), '\0');
    }
    for (const Write& write : node.unsynced) {
        if (!write.is_doomed) {
            Overwrite(node.durable, write.offset, write.bytes);
        }
    }
    std::erase_if(node.unsynced, [](const Write& write) { return !write.is_doomed; });
    return Status::Ok();
}

void SimulatedFileSystem::CloseAll() {
    const std::lock_guard lock(mutex_);
    ++generation_;
    locks_.clear();
}

void SimulatedFileSystem::CutPower() {
    const std::lock_guard lock(mutex_);
    ++generation_;
    locks_.clear();
    Count("power_cut");
    for (auto& [directory, changes] : changes_) {
        // Journals of file systems keep the order: some first changes are there, the rest is not.
        std::uint64_t kept = random_.Below(changes.size() + 1);
        if (kept < changes.size()) {
            Count("folder_change_lost");
            // The two halves of a rename stay together.
            const bool splits_rename = kept > 0 && changes[kept].node == nullptr &&
                                       changes[kept - 1].node != nullptr &&
                                       changes[kept].path != changes[kept - 1].path;
            kept += splits_rename ? 1 : 0;
        }
        for (std::uint64_t i = 0; i < kept; ++i) {
            if (changes[i].node == nullptr) {
                durable_names_.erase(changes[i].path);
            } else {
                durable_names_[changes[i].path] = changes[i].node;
            }
        }
    }
    changes_.clear();
    names_ = durable_names_;
    for (auto& [path, node] : names_) {
        LoseUnsynced(*node);
    }
}

void SimulatedFileSystem::LoseUnsynced(Node& node) {
    if (random_.Chance(0.5) && node.durable.size() < node.allocated) {
        node.durable.resize(static_cast<std::size_t>(node.allocated), '\0');
    }
    // Disks differ: one loses all, one hardly anything, one some of it in any order.
    const double keep = std::min(1.0, random_.Unit() * 1.5);
    for (const Write& write : node.unsynced) {
        if (!write.is_doomed && random_.Chance(keep)) {
            Keep(node, write);
        } else {
            Count("write_lost");
        }
    }
    node.unsynced.clear();
    node.now = node.durable;
    node.allocated = node.durable.size();
}

void SimulatedFileSystem::Keep(Node& node, const Write& write) {
    if (random_.Chance(0.6)) {
        Overwrite(node.durable, write.offset, write.bytes);
        return;
    }
    Count("write_torn");
    std::string_view rest(write.bytes);
    for (std::uint64_t at = write.offset; !rest.empty();) {
        const std::size_t count = static_cast<std::size_t>(
            std::min<std::uint64_t>(rest.size(), kSectorBytes - at % kSectorBytes));
        if (random_.Chance(0.5)) {
            std::string sector(rest.substr(0, count));
            if (random_.Chance(0.1)) {
                Count("bit_flipped");
                const std::uint64_t bit = random_.Below(sector.size() * 8);
                sector[bit / 8] = static_cast<char>(sector[bit / 8] ^ (1 << (bit % 8)));
            }
            Overwrite(node.durable, at, sector);
        }
        rest.remove_prefix(count);
        at += count;
    }
}

void SimulatedFileSystem::SetCapacity(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    capacity_ = bytes;
}

std::uint64_t SimulatedFileSystem::used_bytes() const {
    const std::lock_guard lock(mutex_);
    return UsedBytes();
}

void SimulatedFileSystem::SetFull(bool full) {
    const std::lock_guard lock(mutex_);
    full_ = full;
}

void SimulatedFileSystem::FailNextSyncs(std::uint32_t count, StatusCode code) {
    const std::lock_guard lock(mutex_);
    sync_code_ = code;
    syncs_to_fail_ = count;
}

void SimulatedFileSystem::FailNextWrites(std::uint32_t count, StatusCode code) {
    const std::lock_guard lock(mutex_);
    write_code_ = code;
    writes_to_fail_ = count;
}

void SimulatedFileSystem::FailNextFolderChanges(std::uint32_t count, StatusCode code) {
    const std::lock_guard lock(mutex_);
    folder_code_ = code;
    folder_changes_to_fail_ = count;
}

void SimulatedFileSystem::FailReads(bool fail) {
    const std::lock_guard lock(mutex_);
    fail_reads_ = fail;
}

void SimulatedFileSystem::FailStep(std::uint64_t step, StatusCode code) {
    const std::lock_guard lock(mutex_);
    step_to_fail_ = step_ + step;
    step_code_ = code;
    step_has_failed_ = false;
}

bool SimulatedFileSystem::step_has_failed() const {
    const std::lock_guard lock(mutex_);
    return step_has_failed_;
}

void SimulatedFileSystem::Heal() {
    const std::lock_guard lock(mutex_);
    capacity_ = 0;
    full_ = false;
    fail_reads_ = false;
    syncs_to_fail_ = 0;
    writes_to_fail_ = 0;
    folder_changes_to_fail_ = 0;
    step_to_fail_ = 0;
}

Status SimulatedFileSystem::FlipBit(const std::string& path, std::uint64_t byte, unsigned bit) {
    const std::lock_guard lock(mutex_);
    const std::shared_ptr<Node> node = Find(path);
    if (node == nullptr || byte >= node->now.size()) {
        return Status::NotFound(Where("flip a bit of", path) + "no such file or byte");
    }
    Count("bit_flipped");
    for (std::string* const data : {&node->now, &node->durable}) {
        if (byte < data->size()) {
            char& turned = (*data)[static_cast<std::size_t>(byte)];
            turned = static_cast<char>(turned ^ (1 << bit));
        }
    }
    return Status::Ok();
}

Status SimulatedFileSystem::Damage(const std::string& path,
                                   std::uint64_t offset,
                                   std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    const std::shared_ptr<Node> node = Find(path);
    if (node == nullptr) {
        return Status::NotFound(Where("damage", path) + "no such file");
    }
    Count("damaged");
    Overwrite(node->now, offset, bytes);
    Overwrite(node->durable, offset, bytes);
    return Status::Ok();
}

Result<std::string> SimulatedFileSystem::Contents(const std::string& path) const {
    const std::lock_guard lock(mutex_);
    const std::shared_ptr<Node> node = Find(path);
    if (node == nullptr) {
        return Status::NotFound(Where("read", path) + "no such file");
    }
    return node->now;
}

std::uint64_t SimulatedFileSystem::step_count() const {
    const std::lock_guard lock(mutex_);
    return step_;
}

std::map<std::string, std::uint64_t> SimulatedFileSystem::FaultCounts() const {
    const std::lock_guard lock(mutex_);
    return faults_;
}

std::uint64_t SimulatedFileSystem::refused_write_count() const {
    const std::lock_guard lock(mutex_);
    return refused_write_count_;
}

std::string SimulatedFileSystem::made_twice() const {
    const std::lock_guard lock(mutex_);
    return made_twice_;
}

}  // namespace qmq::env
