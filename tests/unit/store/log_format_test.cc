// The worked example of docs/design/log-format.md, read out of the document.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "server/store/bytes.h"
#include "server/store/file_names.h"
#include "server/store/log_inspector.h"
#include "server/store/record.h"
#include "server/store/segment_scanner.h"
#include "server/store/snapshot_file.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

constexpr LogSeed kSeed{0x12345678};

/// The bytes between "```hex" and "```". Each line's offset is checked on the way.
std::string ExampleBytes() {
    std::ifstream document(QMQ_SOURCE_DIR "/docs/design/log-format.md");
    std::string line;
    while (std::getline(document, line) && line != "```hex") {
    }
    std::string bytes;
    while (std::getline(document, line) && line != "```") {
        std::istringstream words(line.substr(0, line.find('#')));
        std::string word;
        words >> word;
        EXPECT_EQ(std::stoul(word, nullptr, 16), bytes.size()) << line;
        while (words >> word) {
            bytes.push_back(static_cast<char>(std::stoi(word, nullptr, 16)));
        }
    }
    return bytes;
}

WallTime At(std::int64_t ms) {
    return WallTime(std::chrono::milliseconds(ms));
}

Slice ExampleBatch() {
    BatchBuilder builder;
    Message message("orders");
    message.SetId("id-0").SetCreatedTime(At(1'700'000'000'000)).SetBody("hello");
    builder.Add(message, "", At(0));
    return Slice::Own(builder.Finish());
}

constexpr std::uint64_t kSegmentBytes = 65'536;

void WriteFile(env::FileSystem& files, const std::string& name, std::string_view text) {
    ASSERT_TRUE(
        files.Open("/data/" + name, env::OpenMode::kCreate).value()->WriteAt(0, {&text, 1}).ok());
}

/// A store in /data whose log, from `base` on, is `log`.
void WriteStore(env::FileSystem& files, std::string_view log, LogOffset base = 0) {
    ASSERT_TRUE(files.MakeDirectories("/data").ok());
    WriteFile(
        files, "store.json", "{\"format\": 2, \"segment_bytes\": 65536, \"seed\": 305419896}");
    for (std::uint64_t at = 0; at < log.size(); at += kSegmentBytes) {
        WriteFile(files, FileName(base + at, FileKind::kLog), log.substr(at, kSegmentBytes));
    }
}

TEST(LogFormatTest, TheExampleIsWhatTheEncoderWrites) {
    std::string log;
    const auto add = [&](Record record) {
        record.header.offset = log.size();
        record.header.incarnation = 1;
        log += EncodeRecord(record, kSeed);
    };
    Record start;
    start.header.kind = RecordKind::kStart;
    start.stored = At(1'700'000'000'000);
    start.known = std::chrono::milliseconds(1'700'000'000'000);
    add(start);
    const Slice batch = ExampleBatch();
    Record messages;
    messages.header.kind = RecordKind::kMessages;
    messages.header.committed = log.size();
    messages.header.running = RunningTime(5);
    messages.stored = At(1'700'000'000'005);
    messages.count = 1;
    messages.subject = "orders";
    messages.batch = batch.bytes();
    add(messages);
    Record action;
    action.header.kind = RecordKind::kAction;
    action.header.committed = kStartRecordBytes;
    action.header.running = RunningTime(7);
    action.action = "acked 0";
    add(action);
    Record mark;
    mark.header.flags = RecordHeader::kLastInSegment;
    mark.header.committed = log.size();
    mark.header.running = RunningTime(9);
    add(mark);
    EXPECT_EQ(log, ExampleBytes());
}

TEST(LogFormatTest, AStoreReadsTheExample) {
    const auto files = env::MakeMemoryFileSystem();
    WriteStore(*files, ExampleBytes());
    TestStore test(*files);
    ASSERT_TRUE(test.Open().ok());
    EXPECT_THAT(test.listener->events, ElementsAre("messages orders 0+1", "action acked 0"));
    EXPECT_THAT(test.BodiesIn("orders"), ElementsAre("hello"));
    EXPECT_EQ(test.store->recovery().incarnation, 2U);
    EXPECT_EQ(test.store->recovery().end, 65'536U) << "the mark ends the segment";
    EXPECT_THAT(test.store->recovery().corruptions, IsEmpty());
}

/// Counts the bytes of its longest read.
class CountingFile final : public env::File {
public:
    explicit CountingFile(std::string bytes) : bytes_(std::move(bytes)) {}
    std::size_t longest_read = 0;

    Result<Slice> ReadAt(std::uint64_t offset, std::size_t length) override {
        longest_read = std::max(longest_read, length);
        const std::size_t at = std::min<std::size_t>(offset, bytes_.size());
        return Slice::Own(bytes_.substr(at, length));
    }
    Result<std::uint64_t> Size() override { return std::uint64_t{bytes_.size()}; }
    Status WriteAt(std::uint64_t, std::span<const std::string_view>) override { return Refused(); }
    Status Sync() override { return Refused(); }
    Status Allocate(std::uint64_t) override { return Refused(); }
    Status Truncate(std::uint64_t) override { return Refused(); }

private:
    static Status Refused() { return Status::Unimplemented("read only"); }
    const std::string bytes_;
};

// A filling was read, and made, whole: as much memory as the hole that it lies over.
TEST(LogFormatTest, AFillingCostsNoMemoryHoweverLongItIs) {
    constexpr std::uint64_t kSegment = 8U << 20;
    Record filling;
    filling.header.flags = RecordHeader::kFilling | RecordHeader::kLastInSegment;
    filling.filling_bytes = kSegment - RecordHeader::kBytes;
    const std::string whole = EncodeRecord(filling, kSeed);
    const std::string header = EncodeFilling(filling, kSeed);
    ASSERT_EQ(header, whole.substr(0, RecordHeader::kBytes));
    std::string damaged = whole;
    damaged.back() = 'x';
    for (const std::string& bytes : {whole, header, damaged}) {
        CountingFile file(bytes);
        const auto step = SegmentScanner(file, 0, kSegment, kSeed).Next();
        ASSERT_TRUE(step.ok());
        EXPECT_LE(file.longest_read, 1U << 20);
        const bool is_damaged = bytes.back() == 'x';
        EXPECT_EQ(step.value().kind,
                  is_damaged ? SegmentScanner::StepKind::kEnd : SegmentScanner::StepKind::kRecord);
        EXPECT_EQ(step.value().record.filling_bytes, is_damaged ? 0 : filling.filling_bytes);
    }
}

// A damaged length was followed as far as it went.
TEST(LogFormatTest, ALengthThatDoesNotAddUpIsNotFollowed) {
    constexpr std::uint64_t kSegment = 8U << 20;
    std::string bytes = ExampleBytes();
    Store(bytes.data(), std::uint32_t{kSegment - RecordHeader::kBytes});
    CountingFile file(bytes);
    const auto step = SegmentScanner(file, 0, kSegment, kSeed).Next();
    ASSERT_TRUE(step.ok());
    EXPECT_EQ(step.value().kind, SegmentScanner::StepKind::kDamage);
    EXPECT_EQ(step.value().end, kStartRecordBytes);
    EXPECT_LE(file.longest_read, 1U << 20);
}

/// The log from `base`, record by record.
class LogOfIncarnations {
public:
    explicit LogOfIncarnations(LogOffset base = 0) : base_(base) {}
    LogOfIncarnations& Start(std::uint32_t incarnation) {
        Record start;
        start.header.kind = RecordKind::kStart;
        start.stored = At(1'700'000'000'000);
        start.known = std::chrono::milliseconds(1'700'000'000'000);
        return Add(start, incarnation);
    }
    LogOfIncarnations& Orders(std::uint64_t first_sequence, std::uint32_t incarnation) {
        const Slice batch = ExampleBatch();
        Record messages;
        messages.header.kind = RecordKind::kMessages;
        messages.stored = At(1'700'000'000'000);
        messages.subject = "orders";
        messages.count = 1;
        messages.first_sequence = first_sequence;
        messages.batch = batch.bytes();
        return Add(messages, incarnation);
    }
    LogOfIncarnations& Filling(std::uint32_t bytes, std::uint32_t incarnation) {
        Record filling;
        filling.header.flags = RecordHeader::kFilling;
        filling.filling_bytes = bytes;
        return Add(filling, incarnation);
    }
    /// The mark that ends the segment, and the segment's unused rest.
    LogOfIncarnations& Seal(std::uint32_t incarnation) {
        Record mark;
        mark.header.flags = RecordHeader::kLastInSegment;
        Add(mark, incarnation);
        return Zeros(kSegmentBytes - log_.size() % kSegmentBytes);
    }
    LogOfIncarnations& Zeros(std::size_t bytes) {
        log_.append(bytes, '\0');
        return *this;
    }
    /// What comes from here on knows the log synced up to here.
    LogOfIncarnations& Synced() { return Synced(base_ + log_.size()); }
    LogOfIncarnations& Synced(LogOffset up_to) {
        synced_ = up_to;
        return *this;
    }
    void WriteTo(env::FileSystem& files) const { WriteStore(files, log_, base_); }

private:
    LogOfIncarnations& Add(Record& record, std::uint32_t incarnation) {
        record.header.offset = base_ + log_.size();
        record.header.committed = record.header.is_filling() ? 0 : synced_;
        record.header.incarnation = incarnation;
        log_ += EncodeRecord(record, kSeed);
        return *this;
    }
    LogOffset base_;
    LogOffset synced_ = 0;
    std::string log_;
};

// Its place had been zeroed when the disk was full, a failed sync lost the zeros, the next process
// wrote a record before it, and a power cut brought it up again: a message that was refused was
// there, and the 8 bytes before it counted as damage, at each start anew.
TEST(LogFormatTest, ARecordOfAnEarlierIncarnationBehindALaterOneWasTakenBack) {
    for (const std::size_t between : {0U, 8U, 4'096U}) {
        const auto files = env::MakeMemoryFileSystem();
        LogOfIncarnations()
            .Start(1)
            .Orders(0, 1)
            .Synced()
            .Start(2)
            .Orders(1, 2)
            .Zeros(between)
            .Orders(2, 1)
            .Orders(3, 1)
            .WriteTo(*files);
        TestStore test(*files);
        ASSERT_TRUE(test.Open().ok());
        EXPECT_THAT(test.listener->events,
                    ElementsAre("messages orders 0+1", "messages orders 1+1"));
        EXPECT_THAT(test.store->recovery().corruptions, IsEmpty());
        EXPECT_GT(test.store->recovery().torn_tail_bytes, between);
        EXPECT_EQ(test.store->recovery().incarnation, 3U);
    }
}

// The same at the beginning of the first segment that a start reads: what came before it, only the
// snapshot knows.
class FirstRecordTest : public testing::Test {
protected:
    /// The log's files begin where the snapshot of process 2 is, with a record of process 1.
    void Open(LogOffset committed) {
        LogOfIncarnations(kSegmentBytes).Synced(committed).Orders(7, 1).WriteTo(*files_);
        Snapshot snapshot;
        snapshot.position = kSegmentBytes;
        snapshot.incarnation = 2;
        snapshot.seed = kSeed;
        WriteFile(*files_, FileName(kSegmentBytes, FileKind::kSnapshot), EncodeSnapshot(snapshot));
        ASSERT_TRUE(test_.Open().ok());
        EXPECT_EQ(test_.store->recovery().incarnation, 3U);
    }
    std::unique_ptr<env::FileSystem> files_ = env::MakeMemoryFileSystem();
    TestStore test_{*files_};
};

TEST_F(FirstRecordTest, AnOldOneRightBehindTheSnapshotIsNone) {
    Open(kSegmentBytes - kStartRecordBytes);
    EXPECT_THAT(test_.listener->events, Not(Contains("messages orders 7+1")));
    EXPECT_GT(test_.store->recovery().torn_tail_bytes, 0U);
}

// The snapshot, and all of process 2, were missing when it was written, and were put back.
TEST_F(FirstRecordTest, OneThatKnowsTheLogSyncedUpToTheSnapshotIsValid) {
    Open(kSegmentBytes);
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
    EXPECT_THAT(test_.listener->events, Contains("messages orders 7+1"));
    EXPECT_EQ(test_.store->recovery().torn_tail_bytes, 0U);
}

// The file with the records of process 3 was missing when the one behind it began, which got a
// smaller number; then somebody put it back. All that came later was zeroed.
TEST(LogFormatTest, AProcessThatBeganLaterMayHaveASmallerNumber) {
    for (const std::uint32_t again : {2U, 1U}) {
        const auto files = env::MakeMemoryFileSystem();
        LogOfIncarnations()
            .Start(1)
            .Synced()
            .Start(3)
            .Orders(0, 3)
            .Seal(3)
            .Synced()
            .Start(again)
            .Orders(1, again)
            .Orders(2, again)
            .WriteTo(*files);
        const auto verified = VerifyStore(*files, "/data", AnyAction);
        ASSERT_TRUE(verified.ok()) << verified.status();
        EXPECT_THAT(verified.value().problems, IsEmpty());
        EXPECT_EQ(verified.value().torn_tail_bytes, 0U);
        TestStore test(*files);
        ASSERT_TRUE(test.Open().ok());
        EXPECT_THAT(
            test.listener->events,
            ElementsAre("messages orders 0+1", "messages orders 1+1", "messages orders 2+1"));
        EXPECT_THAT(test.store->recovery().corruptions, IsEmpty());
        EXPECT_EQ(test.store->recovery().torn_tail_bytes, 0U);
    }
}

TEST(LogFormatTest, AFillingOfAnEarlierIncarnationStays) {
    const auto files = env::MakeMemoryFileSystem();
    LogOfIncarnations().Start(1).Synced().Start(3).Filling(64, 2).Orders(4, 3).WriteTo(*files);
    TestStore test(*files);
    ASSERT_TRUE(test.Open().ok());
    EXPECT_THAT(test.store->recovery().corruptions, IsEmpty());
    EXPECT_THAT(test.listener->events, ElementsAre("messages orders 4+1"));
}

TEST(LogFormatTest, AFillingOfALaterIncarnationHidesNothingBehindIt) {
    const auto files = env::MakeMemoryFileSystem();
    LogOfIncarnations().Start(1).Orders(0, 1).Filling(64, 2).Orders(4, 1).Start(2).WriteTo(*files);
    TestStore test(*files);
    ASSERT_TRUE(test.Open().ok());
    EXPECT_THAT(test.listener->events, ElementsAre("messages orders 0+1", "messages orders 4+1"));
}

TEST(LogFormatTest, ZerosAreNoRecord) {
    const std::string zeros(4096, '\0');
    for (const LogOffset at : {LogOffset{0}, LogOffset{8}, LogOffset{1} << 40U}) {
        EXPECT_FALSE(ParseRecord(zeros, at, LogSeed(0)).ok());
    }
}

TEST(LogFormatTest, ARecordElsewhereIsNoRecord) {
    const std::string bytes = ExampleBytes();
    EXPECT_TRUE(ParseRecord(bytes, 0, kSeed).ok());
    EXPECT_FALSE(ParseRecord(bytes, 65'536, kSeed).ok());
}

TEST(LogFormatTest, AMoveHoldsItsActionAndItsMessage) {
    const Slice batch = ExampleBatch();
    Record move;
    move.header.kind = RecordKind::kMove;
    move.header.offset = 4096;
    move.stored = At(7);
    move.first_sequence = 41;
    move.count = 1;
    move.subject = "%RETRY%orders%billing";
    move.action = "moved";
    move.batch = batch.bytes();
    const std::string bytes = EncodeRecord(move, kSeed);
    EXPECT_EQ(bytes.size(), EncodedBytes(move));
    EXPECT_EQ(bytes.size() % kAlignment, 0U);
    const auto read = ParseRecord(bytes, 4096, kSeed);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read.value().action, "moved");
    EXPECT_EQ(read.value().subject, move.subject);
    EXPECT_EQ(read.value().first_sequence, 41U);
    EXPECT_EQ(read.value().batch, batch.bytes());
}

}  // namespace
}  // namespace qmq::store
