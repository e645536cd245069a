#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "qmq/random.h"

#include "server/env/file_system.h"

namespace qmq::env {

/// A disk that lives in memory and behaves as badly as real ones may. One seed decides all of it,
/// so that a run can be repeated.
///
/// What was not synced may be gone after `CutPower`: of each write since the last sync nothing,
/// all, or some sectors of 512 bytes are kept, some of these with a flipped bit, whatever the order
/// of the writes was. Of the changes to a folder that were not synced, the first few are kept. A
/// sync that fails may have lost what it should have written, for good, though reads still show it.
///
/// Thread-safe, but only repeatable when one thread uses it.
class SimulatedFileSystem final : public FileSystem {
public:
    explicit SimulatedFileSystem(std::uint64_t seed);
    ~SimulatedFileSystem() override;

    Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
    Status Remove(const std::string& path) override;
    Status Rename(const std::string& from, const std::string& to) override;
    Result<bool> Exists(const std::string& path) override;
    Result<std::vector<std::string>> List(const std::string& directory) override;
    Status MakeDirectories(const std::string& directory) override;
    Status SyncDirectory(const std::string& directory) override;
    Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
    Result<DiskSpace> Space(const std::string& directory) override;

    /// The process ends: what it has open is closed, its locks are free, nothing is lost. Files
    /// that it still holds fail from now on.
    void CloseAll();
    /// `CloseAll`, and what was not synced is at the mercy of chance.
    void CutPower();

    /// Room for this many bytes from now on, files that exist included. Zero: no limit, as at
    /// first.
    void SetCapacity(std::uint64_t bytes);
    /// What the files take now.
    std::uint64_t used_bytes() const;
    /// Called after each rename, with the lock held: it must not call back.
    void OnRename(std::function<void()> called) { on_rename_ = std::move(called); }
    /// Called before each call does anything, without the lock: time may pass there, and others may
    /// use the disk. `operation` is "write", "sync", "sync folder", "rename", "remove", …
    using StepHook = std::function<void(std::string_view operation, const std::string& path)>;
    void OnStep(StepHook called) { on_step_ = std::move(called); }
    /// Every call that needs room fails with kResourceExhausted: allocations, and writes, even
    /// where room was reserved (as on a file system that copies on write).
    void SetFull(bool full);
    /// The next `count` syncs of files fail, as on a broken device or with another code: one that
    /// allocates late has no room only then.
    void FailNextSyncs(std::uint32_t count, StatusCode code = StatusCode::kDataLoss);
    /// The next `count` writes fail, as a broken device does or with another code; some of each may
    /// have been done.
    void FailNextWrites(std::uint32_t count, StatusCode code = StatusCode::kDataLoss);
    /// The next `count` calls that change a folder (`SyncDirectory`, `Rename`, `Remove`) fail,
    /// and change nothing.
    void FailNextFolderChanges(std::uint32_t count, StatusCode code = StatusCode::kDataLoss);
    /// Reads fail as a broken device does while this is on.
    void FailReads(bool fail);
    /// The call number `step` from now (one: the next) fails, whatever it is. One at a time.
    void FailStep(std::uint64_t step, StatusCode code = StatusCode::kDataLoss);
    /// Whether the step that `FailStep` named has come.
    bool step_has_failed() const;
    /// Ends all that was switched on above.
    void Heal();

    /// Turns one bit over, in what is read now and in what a power cut leaves. kNotFound.
    Status FlipBit(const std::string& path, std::uint64_t byte, unsigned bit);
    /// Overwrites bytes likewise.
    Status Damage(const std::string& path, std::uint64_t offset, std::string_view bytes);
    /// What a file holds now, for tests.
    Result<std::string> Contents(const std::string& path) const;

    /// Calls so far.
    std::uint64_t step_count() const;
    /// How often each kind of fault was done, by its name.
    std::map<std::string, std::uint64_t> FaultCounts() const;
    /// Of these, writes that were refused, for want of room or by a broken device.
    std::uint64_t refused_write_count() const;
    /// Of files that were opened to be made while somebody had them open, the last one.
    std::string made_twice() const;

private:
    std::function<void()> on_rename_ = [] {};
    StepHook on_step_ = [](std::string_view, const std::string&) {};
    class OpenFile;
    class HeldLock;
    struct Write {
        std::uint64_t offset = 0;
        std::string bytes;
        bool is_doomed = false;  // A failed sync has lost it.
    };
    struct Node {
        std::string now;
        std::string durable;
        std::vector<Write> unsynced;
        std::uint64_t allocated = 0;  // What `durable` grows to at the next sync.
        std::weak_ptr<void> holders;  // Whoever has it open.
    };
    /// A name that appears (to a node) or goes (to none).
    struct Change {
        std::string path;
        std::shared_ptr<Node> node;
    };
    using Names = std::map<std::string, std::shared_ptr<Node>>;

    // All of these with mutex_ held.
    Status BeginStep(std::string_view operation, const std::string& path);
    Status BeginFolderChange(std::string_view operation, const std::string& path);
    Status CheckRoom(const std::string& path, std::uint64_t more_bytes);
    std::uint64_t UsedBytes() const;
    std::shared_ptr<Node> Find(const std::string& path) const;
    void Note(const std::string& directory, Change change);
    void Keep(Node& node, const Write& write);
    void LoseUnsynced(Node& node);
    void Count(const std::string& fault) { ++faults_[fault]; }

    Status WriteNode(const std::string& path,
                     Node& node,
                     std::uint64_t offset,
                     std::span<const std::string_view> parts);
    Status SyncNode(const std::string& path, Node& node);

    mutable std::mutex mutex_;
    Random random_;
    Names names_;                                         // As processes see them.
    Names durable_names_;                                 // As a power cut leaves them.
    std::map<std::string, std::vector<Change>> changes_;  // By folder, not yet synced.
    std::set<std::string> directories_;
    std::set<std::string> locks_;
    std::uint64_t generation_ = 0;  // Of processes: open files and locks of an older one are dead.
    std::uint64_t capacity_ = 0;
    bool full_ = false;
    bool fail_reads_ = false;
    std::uint32_t syncs_to_fail_ = 0;
    StatusCode sync_code_ = StatusCode::kDataLoss;
    std::uint32_t writes_to_fail_ = 0;
    StatusCode write_code_ = StatusCode::kDataLoss;
    std::uint32_t folder_changes_to_fail_ = 0;
    StatusCode folder_code_ = StatusCode::kDataLoss;
    std::uint64_t step_ = 0;
    std::uint64_t step_to_fail_ = 0;
    StatusCode step_code_ = StatusCode::kDataLoss;
    bool step_has_failed_ = false;
    std::map<std::string, std::uint64_t> faults_;
    std::uint64_t refused_write_count_ = 0;
    std::string made_twice_;
};

}  // namespace qmq::env
