// Everything that the store reads from a disk: records, segments with damage, index files and
// snapshots. The first byte chooses; checksums are made right where the fuzzer asks for it, or it
// would never get past them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "qmq/crc32c.h"

#include "server/env/file_system.h"
#include "server/store/bytes.h"
#include "server/store/record.h"
#include "server/store/segment_index.h"
#include "server/store/segment_scanner.h"
#include "server/store/snapshot_file.h"
#include "server/store/store_settings.h"

namespace qmq::store {
namespace {

void Require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/// Gives the record at the front of `bytes` the right offset and checksum.
void Repair(std::string& bytes, LogOffset at) {
    if (bytes.size() < RecordHeader::kBytes) {
        return;
    }
    const std::size_t length = (bytes.size() - RecordHeader::kBytes) / 8 * 8;
    bytes.resize(RecordHeader::kBytes + length);
    Store(bytes.data(), static_cast<std::uint32_t>(length));
    Store(bytes.data() + 8, at);
    Store(bytes.data() + 16, std::uint64_t{0});
    const std::uint32_t start =
        Crc32c(std::string_view(bytes).substr(0, 4), Crc32c(std::string_view("\0\0\0\0", 4)));
    Store(bytes.data() + 4, Crc32c(std::string_view(bytes).substr(8), start));
}

void FuzzRecord(std::string bytes, bool repair) {
    if (repair) {
        Repair(bytes, 4096);
    }
    const Result<Record> record = ParseRecord(bytes, 4096, LogSeed(0));
    if (!record.ok()) {
        return;
    }
    Require(record.value().header.record_bytes() <= bytes.size());
    if (record.value().has_messages()) {
        SubjectIndex index;
        static_cast<void>(index.Add(0, 0, 64, BatchView::Trusted(record.value().batch)));
        for (const MessageEntry& message : index.messages) {
            Require(message.offset < record.value().batch.size());
        }
    }
}

/// A segment of arbitrary bytes: the walk ends, goes forward, and reads nothing twice.
void FuzzSegment(std::string bytes, bool repair) {
    constexpr std::uint64_t kSegmentBytes = 8192;
    if (repair && bytes.size() > 200) {
        std::string record = bytes.substr(64, 96);
        Repair(record, 64);
        bytes.replace(64, record.size(), record);
    }
    const auto files = env::MakeMemoryFileSystem();
    const auto file = files->Open("/segment", env::OpenMode::kCreate);
    const std::string_view part(bytes);
    Require(file.value()->WriteAt(0, {&part, 1}).ok());
    SegmentScanner scanner(*file.value(), 0, kSegmentBytes, LogSeed(0));
    std::uint64_t position = 0;
    for (int steps = 0;; ++steps) {
        Require(steps < 1000);
        const auto step = scanner.Next();
        Require(step.ok() && step.value().position == position);
        if (step.value().kind == SegmentScanner::StepKind::kEnd) {
            Require(step.value().end >= position && step.value().end <= kSegmentBytes);
            break;
        }
        Require(step.value().end > position);
        position = step.value().end;
    }
}

void SealAt(std::string& bytes, std::size_t crc_at, std::size_t after, std::size_t end) {
    if (bytes.size() >= end && end > after) {
        Store(bytes.data() + crc_at, Crc32c(std::string_view(bytes).substr(after, end - after)));
    }
}

void FuzzIndex(std::string bytes, bool repair) {
    if (repair && bytes.size() > kIndexHeaderBytes) {
        bytes.replace(0, 8, "QMQINDX2");
        Store(bytes.data() + 48, static_cast<std::uint64_t>(bytes.size() - kIndexHeaderBytes));
        Store(bytes.data() + 16, std::uint64_t{0});
        SealAt(bytes, 8, 12, bytes.size());
    }
    static_cast<void>(ParseIndexDirectory(bytes, 0));
}

void FuzzBlock(std::string bytes, bool repair) {
    if (repair) {
        SealAt(bytes, 0, 4, bytes.size());
    }
    const auto index = ParseIndexBlock(bytes, 0, 0);
    if (index.ok()) {
        for (std::uint64_t sequence = 0; sequence < 64; ++sequence) {
            const BatchEntry* const entry = index.value().Find(sequence);
            Require(entry == nullptr || entry->end_sequence() > sequence);
        }
    }
}

void FuzzSnapshot(std::string bytes, bool repair) {
    if (repair && bytes.size() > 12) {
        bytes.replace(0, 8, "QMQSNAP2");
        SealAt(bytes, 8, 12, bytes.size());
    }
    const auto snapshot = ParseSnapshot(bytes);
    if (snapshot.ok()) {
        Require(ParseSnapshot(EncodeSnapshot(snapshot.value())).ok());
    }
}

}  // namespace
}  // namespace qmq::store

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    using namespace qmq::store;
    const std::uint8_t choice = data[0];
    std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
    const bool repair = (choice & 128U) != 0;
    switch (choice % 6) {
        case 0:
            FuzzRecord(std::move(bytes), repair);
            break;
        case 1:
            FuzzSegment(std::move(bytes), repair);
            break;
        case 2:
            FuzzIndex(std::move(bytes), repair);
            break;
        case 3:
            FuzzBlock(std::move(bytes), repair);
            break;
        case 4:
            FuzzSnapshot(std::move(bytes), repair);
            break;
        default:
            static_cast<void>(ParseSettings(bytes));
            break;
    }
    return 0;
}
