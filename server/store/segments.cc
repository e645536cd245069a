#include "server/store/segments.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/store/bytes.h"
#include "server/store/store_settings.h"

namespace qmq::store {

Segment* Segments::Find(std::uint32_t number) {
    const auto found = all_.find(number);
    return found == all_.end() ? nullptr : &found->second;
}

bool Segments::IsDamagedIn(LogOffset begin, LogOffset end) const {
    const std::uint32_t past = all_.empty() ? 0 : all_.rbegin()->first + 1;
    for (std::uint32_t number = NumberOf(begin); number < past && BaseOf(number) < end; ++number) {
        const auto found = all_.find(number);
        if (found == all_.end()) {
            return true;  // Its file is missing.
        }
        const std::vector<DamagedRange>& damaged = found->second.summary.damaged;
        if (std::any_of(damaged.begin(), damaged.end(), [&](const DamagedRange& range) {
                return range.begin < end && range.end > begin;
            })) {
            return true;
        }
    }
    return false;
}

Segment& Segments::Add(std::uint32_t number, std::shared_ptr<env::File> file) {
    Segment& segment = all_[number];
    segment.number = number;
    segment.summary.base = BaseOf(number);
    segment.summary.used_end = segment.summary.base;
    segment.file = std::move(file);
    segment.last_use = ++uses_;
    return segment;
}

Result<std::shared_ptr<env::File>> Segments::FileOf(Segment& segment) {
    segment.last_use = ++uses_;
    if (segment.file == nullptr) {
        Result<std::unique_ptr<env::File>> file =
            files_.Open(PathOf(segment.number, FileKind::kLog), env::OpenMode::kRead);
        if (!file.ok()) {
            return file.status();
        }
        std::shared_ptr<env::File> opened = std::move(*file);
        segment.file = opened;
        CloseLeastUsed();
        return opened;
    }
    return segment.file;
}

void Segments::CloseLeastUsed() {
    std::size_t open = 0;
    std::vector<Segment*> closable;
    for (auto& entry : all_) {
        Segment& segment = entry.second;
        open += segment.file != nullptr ? 1U : 0U;
        // What has no index file yet may still be written to.
        if (segment.file != nullptr && segment.memory == nullptr) {
            closable.push_back(&segment);
        }
    }
    std::sort(closable.begin(), closable.end(), [](const Segment* a, const Segment* b) {
        return a->last_use < b->last_use;
    });
    for (std::size_t i = 0; i < closable.size() && open > kMostOpen; ++i, --open) {
        closable[i]->file = nullptr;
    }
}

IndexNames NamesOf(const MemoryIndex& index, const SubjectTable& subjects) {
    IndexNames names;
    names.reserve(index.size());
    for (const auto& [id, subject] : index) {
        if (!subject.batches.empty()) {
            names.emplace_back(id, subjects.all()[id]->name());
        }
    }
    std::sort(names.begin(), names.end());  // The same log gives the same file.
    return names;
}

Result<BlockPositions> WriteIndexFile(env::FileSystem& files,
                                      const std::string& directory,
                                      LogSeed seed,
                                      const SegmentSummary& summary,
                                      const MemoryIndex& index,
                                      const IndexNames& names) {
    IndexFileWriter writer(seed, summary);
    for (const auto& [id, name] : names) {
        writer.Add(name, index.at(id));
    }
    std::vector<std::uint64_t> blocks;
    const std::string bytes = writer.Finish(blocks);
    Status status = WriteWhole(files, directory, FileName(summary.base, FileKind::kIndex), bytes);
    if (!status.ok()) {
        return status;
    }
    BlockPositions positions;
    for (std::size_t i = 0; i < names.size(); ++i) {
        positions.emplace_back(names[i].first, blocks[i]);
    }
    return positions;
}

void ApplyIndexPositions(SubjectTable& subjects,
                         std::uint32_t segment,
                         const BlockPositions& positions) {
    for (const auto& [id, position] : positions) {
        if (Extent* const extent = subjects.all()[id]->Find(segment)) {
            extent->block = static_cast<std::uint32_t>(position / kAlignment);
        }
    }
}

bool IndexRecord(SubjectState& subject,
                 std::uint32_t segment,
                 SubjectIndex& index,
                 std::uint64_t first_sequence,
                 std::uint32_t position,
                 std::uint32_t record_bytes,
                 const BatchView& batch) {
    if (!index.Add(first_sequence, position, record_bytes, batch)) {
        return false;
    }
    if (subject.extents.empty() || subject.extents.back().segment != segment) {
        subject.extents.push_back({segment, 0, first_sequence, 0, 0});
    }
    Extent& extent = subject.extents.back();
    const std::uint64_t end = index.end_sequence();
    if (end > extent.end_sequence()) {
        extent.span = static_cast<std::uint32_t>(end - extent.first_sequence);
    }
    extent.stored_units += record_bytes / static_cast<std::uint32_t>(kAlignment);
    return true;
}

}  // namespace qmq::store
