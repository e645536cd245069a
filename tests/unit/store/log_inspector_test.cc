#include "server/store/log_inspector.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "server/env/simulated_file_system.h"
#include "server/store/bytes.h"
#include "server/store/record.h"
#include "server/store/store_settings.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kFirstLog = "/data/00000000000000000000.log";

class LogInspectorTest : public testing::Test {
protected:
    void Replace(const std::string& path, std::string_view text) {
        ASSERT_TRUE(disk_.Remove(path).ok());
        const auto file = disk_.Open(path, env::OpenMode::kCreate);
        ASSERT_TRUE(file.value()->WriteAt(0, {&text, 1}).ok());
    }
    void RemoveAll(std::string_view suffix) {
        const std::vector<std::string> names = disk_.List("/data").value();
        for (const std::string& name : names) {
            if (name.ends_with(suffix)) {
                ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
            }
        }
    }
    LogSeed Seed() {
        return ParseSettings(disk_.Contents("/data/store.json").value()).value().seed;
    }
    std::vector<std::string> Problems() {
        const auto verified = VerifyStore(disk_, "/data", AnyAction);
        EXPECT_TRUE(verified.ok()) << verified.status();
        return verified.ok() ? verified.value().problems : std::vector<std::string>();
    }
    env::SimulatedFileSystem disk_{7};
    TestStore test_{disk_};
};

// It was a division by zero.
TEST_F(LogInspectorTest, ASegmentSizeThatCannotBeIsAnError) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    ASSERT_TRUE(test_.Close().ok());  // With a snapshot.
    test_.Kill();
    for (const std::uint64_t bytes : {0U, 4096U, 65'537U}) {
        Replace("/data/store.json", EncodeSettings({bytes, Seed()}));
        EXPECT_EQ(VerifyStore(disk_, "/data", AnyAction).status().code(), StatusCode::kDataLoss);
        Replace("/data/store.json", EncodeSettings({64U << 10, LogSeed(1)}));
    }
}

// It was called sound.
TEST_F(LogInspectorTest, ALogWithoutItsBeginningAndASnapshotIsNotSound) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        test_.clock.elapsed += std::chrono::seconds(10);
        test_.SyncAll();
    }
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(test_.store->Retain().ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    EXPECT_THAT(Problems(), IsEmpty());
    RemoveAll(".snapshot");
    EXPECT_THAT(Problems(), Contains(HasSubstr("no readable snapshot")));
    EXPECT_EQ(test_.Open().code(), StatusCode::kDataLoss);
}

// It was called sound.
TEST_F(LogInspectorTest, ASyncedSegmentThatIsGoneAtTheEndIsMissed) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 70; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    test_.SyncAll();
    test_.Kill();
    RemoveAll(".snapshot");
    EXPECT_THAT(Problems(), IsEmpty());
    ASSERT_TRUE(disk_.Remove("/data/00000000000000065536.log").ok());
    EXPECT_THAT(Problems(), Contains(HasSubstr("files of these segments are missing")));
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_FALSE(test_.store->recovery().corruptions.empty());
}

// It was called a torn tail.
TEST_F(LogInspectorTest, SyncedRecordsThatAreGoneFromTheEndAreMissed) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    ASSERT_TRUE(test_.Close().ok());  // With a snapshot.
    test_.Kill();
    ASSERT_TRUE(disk_.Damage(std::string(kFirstLog), 80, std::string(1'000, '\0')).ok());
    EXPECT_THAT(Problems(), Contains(HasSubstr("synced records are gone")));
}

TEST_F(LogInspectorTest, ALogOfWhichNoRecordIsValidIsNotSound) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    test_.Kill();
    Replace("/data/store.json", EncodeSettings({64U << 10, LogSeed(1)}));
    ASSERT_TRUE(disk_.FlipBit(std::string(kFirstLog), 40, 0).ok());  // No start tells the seed.
    EXPECT_THAT(Problems(), Contains(HasSubstr("no record in the log is valid")));
    EXPECT_EQ(test_.Open().code(), StatusCode::kDataLoss);
}

TEST_F(LogInspectorTest, ASegmentOfAnotherLogIsNotSound) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    test_.Kill();
    Record start;
    start.header.kind = RecordKind::kStart;
    start.header.offset = test_.options.segment_bytes;
    const std::string other = EncodeRecord(start, LogSeed(1));
    ASSERT_TRUE(disk_.Open("/data/00000000000000065536.log", env::OpenMode::kCreate).ok());
    Replace("/data/00000000000000065536.log", other);
    EXPECT_THAT(Problems(), Contains(HasSubstr("00000000000000065536.log")));
    EXPECT_FALSE(test_.Open().ok());
}

TEST_F(LogInspectorTest, ASegmentOfAnotherSizeIsNotSound) {
    ASSERT_TRUE(test_.Open().ok());
    test_.Kill();
    ASSERT_TRUE(disk_.Open("/data/00000000000000004096.log", env::OpenMode::kCreate).ok());
    EXPECT_THAT(Problems(), Contains(HasSubstr("00000000000000004096.log")));
    EXPECT_FALSE(test_.Open().ok());
}

// All of it was read into memory.
TEST(ReadWholeTest, AFileThatIsTooLargeIsNotReadAtAll) {
    const std::string path = testing::TempDir() + "/sparse.snapshot";
    const auto file = env::RealFileSystem().Open(path, env::OpenMode::kCreate);
    ASSERT_TRUE(file.ok()) << file.status();
    const bool is_sparse = file.value()->Truncate(std::uint64_t{1} << 40U).ok();
    const auto read = ReadWhole(env::RealFileSystem(), path);
    ASSERT_TRUE(env::RealFileSystem().Remove(path).ok());
    if (!is_sparse) {
        GTEST_SKIP() << "no file can be so large here";
    }
    EXPECT_EQ(read.status().code(), StatusCode::kDataLoss);
}

// Each was summed to the end of the segment: hours for a large one.
TEST_F(LogInspectorTest, HeadersThatOnlyLookLikeRecordsCostNoHours) {
    constexpr std::uint64_t kSegment = 8U << 20;
    test_.options.segment_bytes = kSegment;
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    for (const std::uint8_t flags : {std::uint8_t{0}, RecordHeader::kFilling}) {
        std::string hostile(kSegment, '\0');
        for (std::uint64_t at = 0; at + RecordHeader::kBytes <= kSegment;
             at += RecordHeader::kBytes) {
            Record record;
            record.header.offset = at;
            record.header.flags = flags;
            record.header.incarnation = 1;
            std::string header = EncodeRecord(record, Seed());
            Store(header.data(),
                  static_cast<std::uint32_t>(kSegment - at - RecordHeader::kBytes) / 8 * 8);
            hostile.replace(at, header.size(), header);
        }
        ASSERT_TRUE(disk_.Damage(std::string(kFirstLog), 0, hostile).ok());
        EXPECT_FALSE(Problems().empty());
    }
}

// Each copied all of the index before it: 60 GB for sixty thousand.
TEST_F(LogInspectorTest, ManyActionsThatCannotBeReadCostNoCopyOfTheIndexEach) {
    constexpr int kCount = 20'000;
    test_.options.segment_bytes = 8U << 20;
    ASSERT_TRUE(test_.Open().ok());
    SubjectLog* const retry = test_.store->FindSubject("retry", true);
    for (int i = 0; i < kCount; ++i) {
        ASSERT_TRUE(test_.store->AppendMove("moved", *retry, MakeBatch({"m"})).ok());
    }
    ASSERT_TRUE(test_.store->Write().ok());
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    const auto verified = VerifyStore(
        disk_, "/data", [](std::string_view) { return Status::DataLoss("cannot be read"); });
    ASSERT_TRUE(verified.ok());
    EXPECT_EQ(verified.value().problems.size(), std::size_t{kCount});
}

}  // namespace
}  // namespace qmq::store
