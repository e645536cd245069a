#include "server/store/segment_index.h"

#include <algorithm>
#include <string>
#include <utility>

#include "qmq/crc32c.h"

#include "server/env/planted_bug.h"
#include "server/store/bytes.h"

namespace qmq::store {
namespace {

constexpr std::string_view kMagic = "QMQINDX2";
constexpr std::size_t kCrcAt = 8;
constexpr std::size_t kAfterCrc = 12;
constexpr std::size_t kBatchEntryBytes = 24;
constexpr std::size_t kMessageEntryBytes = 8;
/// An index can hold no more than a segment of 4 GiB has room for.
constexpr std::uint64_t kMostEntries = (std::uint64_t{4} << 30U) / 8;

/// Room from the start, so that thousands of subjects with some messages each do not all grow
/// theirs by one and two.
constexpr std::size_t kFirstBatches = 8;
constexpr std::size_t kFirstMessages = 32;

Status Damaged(LogOffset base, const std::string& what) {
    return Status::DataLoss("index of the segment at log offset " + std::to_string(base) + ": " +
                            what);
}

std::uint64_t DirectoryEntryBytes(std::string_view name) {
    return RoundUp(40 + name.size());
}

std::uint64_t BlockBytes(std::uint64_t batches, std::uint64_t messages) {
    return kIndexBlockHeaderBytes + batches * kBatchEntryBytes + messages * kMessageEntryBytes;
}

/// Sums everything after the checksum and puts it where it belongs.
void Seal(std::string& bytes, std::size_t begin, std::size_t crc_at, std::size_t after_crc) {
    Store(bytes.data() + begin + crc_at, Crc32c(std::string_view(bytes).substr(begin + after_crc)));
}

void PutBlock(std::string& out, LogOffset base, const SubjectIndex& index) {
    const std::size_t begin = out.size();
    Put(out, std::uint32_t{0});  // The checksum.
    Put(out, static_cast<std::uint32_t>(index.batches.size()));
    Put(out, static_cast<std::uint32_t>(index.messages.size()));
    Put(out, std::uint32_t{0});
    Put(out, base);
    Put(out, index.stored_bytes);
    for (const BatchEntry& batch : index.batches) {
        Put(out, batch.first_sequence);
        Put(out, batch.position);
        Put(out, batch.record_bytes);
        Put(out, batch.count);
        Put(out, batch.first_message);
    }
    for (const MessageEntry& message : index.messages) {
        Put(out, message.offset);
        Put(out, message.tag_mask);
    }
    Seal(out, begin, 0, 4);
}

/// The planted bug: what is asked for message n finds message n + 1.
void ShiftByOne(SubjectIndex& index) {
    for (std::size_t i = 0; i + 1 < index.messages.size(); ++i) {
        index.messages[i].offset = index.messages[i + 1].offset;
    }
    for (std::size_t i = 0; i + 1 < index.batches.size(); ++i) {
        if (index.batches[i].count == 1) {
            index.batches[i].position = index.batches[i + 1].position;
            index.batches[i].record_bytes = index.batches[i + 1].record_bytes;
        }
    }
}

/// Batches in order, dense in `messages`, and each inside the segment.
bool IsConsistent(const SubjectIndex& index) {
    std::uint64_t messages = 0;
    std::uint64_t position = 0;
    for (const BatchEntry& batch : index.batches) {
        if (batch.first_message != messages || batch.count == 0 || batch.position < position ||
            batch.end_sequence() < batch.first_sequence) {
            return false;
        }
        messages += batch.count;
        position = batch.position + std::uint64_t{1};
    }
    return messages == index.messages.size();
}

}  // namespace

bool SubjectIndex::Add(std::uint64_t first_sequence,
                       std::uint32_t position,
                       std::uint32_t record_bytes,
                       const BatchView& batch) {
    BatchEntry entry;
    entry.first_sequence = first_sequence;
    entry.position = position;
    entry.record_bytes = record_bytes;
    entry.first_message = static_cast<std::uint32_t>(messages.size());
    if (batches.empty()) {
        batches.reserve(kFirstBatches);
        messages.reserve(std::max<std::size_t>(kFirstMessages, batch.count()));
    }
    BatchView::Iterator heads = batch.begin_heads();
    while (const std::optional<MessageHead> head = heads.Next()) {
        messages.push_back({head->offset, TagMask(*head)});
    }
    // Not what the header says but what can be found, should the two ever differ.
    entry.count = static_cast<std::uint32_t>(messages.size()) - entry.first_message;
    if (entry.count == 0) {
        return false;
    }
    batches.push_back(entry);
    stored_bytes += record_bytes;
    return true;
}

void SubjectIndex::RemoveLast() {
    messages.resize(batches.back().first_message);
    stored_bytes -= batches.back().record_bytes;
    batches.pop_back();
}

const BatchEntry* SubjectIndex::Find(std::uint64_t sequence) const {
    // The last batch that begins at or below it, when it reaches that far; else the one behind.
    auto behind = std::upper_bound(batches.begin(),
                                   batches.end(),
                                   sequence,
                                   [](std::uint64_t wanted, const BatchEntry& batch) {
                                       return wanted < batch.first_sequence;
                                   });
    if (behind != batches.begin() && sequence < std::prev(behind)->end_sequence()) {
        return &*std::prev(behind);
    }
    return behind == batches.end() ? nullptr : &*behind;
}

void IndexFileWriter::Add(std::string_view name, const SubjectIndex& index) {
    subjects_.emplace_back(name, &index);
}

std::string IndexFileWriter::Finish(std::vector<std::uint64_t>& block_positions) const {
    std::uint64_t directory_bytes = summary_.damaged.size() * 16;
    std::uint64_t total = kIndexHeaderBytes;
    for (const auto& [name, index] : subjects_) {
        directory_bytes += DirectoryEntryBytes(name);
        total += BlockBytes(index->batches.size(), index->messages.size());
    }
    total += directory_bytes;
    std::string out;
    out.reserve(total);
    out.append(kMagic);
    Put(out, std::uint32_t{0});  // The checksum.
    Put(out, static_cast<std::uint32_t>(summary_.damaged.size()));
    Put(out, summary_.base);
    Put(out, summary_.used_end);
    Put(out, std::int64_t{summary_.newest.count()});
    Put(out, static_cast<std::uint64_t>(subjects_.size()));
    Put(out, directory_bytes);
    Put(out, static_cast<std::uint32_t>(seed_));
    Put(out, std::uint32_t{0});
    for (const DamagedRange& range : summary_.damaged) {
        Put(out, range.begin);
        Put(out, range.end);
    }
    std::uint64_t position = kIndexHeaderBytes + directory_bytes;
    block_positions.clear();
    for (const auto& [name, index] : subjects_) {
        block_positions.push_back(position);
        Put(out, position);
        Put(out, index->first_sequence());
        Put(out, index->end_sequence());
        Put(out, index->stored_bytes);
        Put(out, static_cast<std::uint64_t>(name.size()));
        out.append(name);
        PutPadding(out);
        position += BlockBytes(index->batches.size(), index->messages.size());
    }
    Seal(out, 0, kCrcAt, kAfterCrc);
    for (const auto& subject : subjects_) {
        PutBlock(out, summary_.base, *subject.second);
    }
    return out;
}

Result<std::uint64_t> IndexDirectoryBytes(std::string_view header) {
    ByteReader reader(header);
    if (reader.Bytes(kMagic.size()) != kMagic) {
        return Status::DataLoss("it does not begin with " + std::string(kMagic));
    }
    reader.Bytes(40);
    const auto directory_bytes = reader.Take<std::uint64_t>();
    if (!reader.ok() || directory_bytes > (std::uint64_t{1} << 32U)) {
        return Status::DataLoss("its header is cut off or makes no sense");
    }
    return kIndexHeaderBytes + directory_bytes;
}

Result<IndexDirectory> ParseIndexDirectory(std::string_view bytes, LogOffset base) {
    const Result<std::uint64_t> size = IndexDirectoryBytes(bytes);
    if (!size.ok()) {
        return size.status().WithContext("index of the segment at log offset " +
                                         std::to_string(base));
    }
    if (bytes.size() < *size) {
        return Damaged(base, "its directory is cut off");
    }
    bytes = bytes.substr(0, static_cast<std::size_t>(*size));
    ByteReader reader(bytes);
    reader.Bytes(kMagic.size());
    if (reader.Take<std::uint32_t>() != Crc32c(bytes.substr(kAfterCrc)) &&
        !env::Planted(env::PlantedBug::kSkipChecksum)) {
        return Damaged(base, "the checksum of its directory differs");
    }
    IndexDirectory directory;
    const auto damaged = reader.Take<std::uint32_t>();
    directory.summary.base = reader.Take<std::uint64_t>();
    directory.summary.used_end = reader.Take<std::uint64_t>();
    directory.summary.newest = RunningTime(reader.Take<std::int64_t>());
    const auto subjects = reader.Take<std::uint64_t>();
    reader.Bytes(8);  // How long it is.
    directory.seed = LogSeed(reader.Take<std::uint32_t>());
    reader.Bytes(4);
    if (directory.summary.base != base) {
        return Damaged(base,
                       "it is that of the segment at " + std::to_string(directory.summary.base));
    }
    for (std::uint32_t i = 0; i < damaged && reader.ok(); ++i) {
        const auto begin = reader.Take<std::uint64_t>();
        directory.summary.damaged.push_back({begin, reader.Take<std::uint64_t>()});
    }
    for (std::uint64_t i = 0; i < subjects && reader.ok(); ++i) {
        IndexDirectoryEntry entry;
        entry.block_position = reader.Take<std::uint64_t>();
        entry.first_sequence = reader.Take<std::uint64_t>();
        entry.end_sequence = reader.Take<std::uint64_t>();
        entry.stored_bytes = reader.Take<std::uint64_t>();
        entry.name = reader.Bytes(reader.Take<std::uint64_t>());
        reader.Align();
        if (entry.end_sequence <= entry.first_sequence) {
            return Damaged(base, "the range of subject \"" + entry.name + "\" is empty");
        }
        directory.subjects.push_back(std::move(entry));
    }
    if (!reader.ok() || reader.left() != 0) {
        return Damaged(base, "its parts do not fill its directory");
    }
    return directory;
}

Result<std::uint64_t> IndexBlockBytes(std::string_view header) {
    ByteReader reader(header);
    reader.Take<std::uint32_t>();
    const auto batches = reader.Take<std::uint32_t>();
    const auto messages = reader.Take<std::uint32_t>();
    if (!reader.ok() || batches == 0 || batches > kMostEntries || messages > kMostEntries) {
        return Status::DataLoss("the header of an index block is cut off or makes no sense");
    }
    return BlockBytes(batches, messages);
}

Result<SubjectIndex> ParseIndexBlock(std::string_view bytes,
                                     LogOffset base,
                                     std::uint64_t first_sequence) {
    const Result<std::uint64_t> size = IndexBlockBytes(bytes);
    if (!size.ok() || bytes.size() != *size) {
        return Damaged(base, "a block is cut off");
    }
    ByteReader reader(bytes);
    if (reader.Take<std::uint32_t>() != Crc32c(bytes.substr(4)) &&
        !env::Planted(env::PlantedBug::kSkipChecksum)) {
        return Damaged(base, "the checksum of a block differs");
    }
    SubjectIndex index;
    index.batches.resize(reader.Take<std::uint32_t>());
    index.messages.resize(reader.Take<std::uint32_t>());
    reader.Take<std::uint32_t>();
    const auto stored_base = reader.Take<std::uint64_t>();
    index.stored_bytes = reader.Take<std::uint64_t>();
    for (BatchEntry& batch : index.batches) {
        batch.first_sequence = reader.Take<std::uint64_t>();
        batch.position = reader.Take<std::uint32_t>();
        batch.record_bytes = reader.Take<std::uint32_t>();
        batch.count = reader.Take<std::uint32_t>();
        batch.first_message = reader.Take<std::uint32_t>();
    }
    for (MessageEntry& message : index.messages) {
        message.offset = reader.Take<std::uint32_t>();
        message.tag_mask = reader.Take<std::uint32_t>();
    }
    if (!reader.ok() || stored_base != base || index.first_sequence() != first_sequence ||
        !IsConsistent(index)) {
        return Damaged(base, "a block is not the one that was asked for");
    }
    if (env::Planted(env::PlantedBug::kIndexOffByOne)) {
        ShiftByOne(index);
    }
    return index;
}

}  // namespace qmq::store
