// What every file system promises, checked on the machine's, on memory and on the simulated one.
#include "server/env/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/env/simulated_file_system.h"

namespace qmq::env {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Kind {
    std::string name;
    std::function<std::unique_ptr<FileSystem>()> make;  // Empty: the machine's.
};

class FileSystemTest : public testing::TestWithParam<Kind> {
protected:
    void SetUp() override {
        if (GetParam().make) {
            own_ = GetParam().make();
            root_ = "/root";
            ASSERT_TRUE(files().MakeDirectories(root_).ok());
        } else {
            std::string name =
                (std::filesystem::temp_directory_path() / "qmq_env_test_XXXXXX").string();
            ASSERT_NE(::mkdtemp(name.data()), nullptr);
            root_ = name;
        }
    }
    void TearDown() override {
        if (!own_) {
            std::filesystem::remove_all(root_);
        }
    }
    FileSystem& files() { return own_ ? *own_ : RealFileSystem(); }
    std::unique_ptr<File> Make(const std::string& name) {
        return std::move(*files().Open(root_ + "/" + name, OpenMode::kCreate));
    }
    static Status Write(File& file, std::uint64_t offset, std::vector<std::string_view> parts) {
        return file.WriteAt(offset, parts);
    }
    static std::string Read(File& file, std::uint64_t offset, std::size_t length) {
        const auto bytes = file.ReadAt(offset, length);
        return bytes.ok() ? std::string(bytes.value().bytes()) : bytes.status().ToString();
    }

    std::unique_ptr<FileSystem> own_;
    std::string root_;
};

TEST_P(FileSystemTest, PartsAreWrittenOneAfterAnotherAndReadBack) {
    const auto file = Make("a");
    ASSERT_TRUE(Write(*file, 0, {"one ", "", "two ", "three"}).ok());
    ASSERT_TRUE(Write(*file, 4, {"TWO"}).ok());
    EXPECT_EQ(Read(*file, 0, 100), "one TWO three");
    EXPECT_EQ(Read(*file, 4, 3), "TWO");
    EXPECT_EQ(Read(*file, 13, 10), "");
    EXPECT_TRUE(file->Sync().ok());
    EXPECT_EQ(file->Size().value(), 13U);
}

TEST_P(FileSystemTest, MorePartsThanASystemCallTakesAreWrittenAll) {
    const auto file = Make("a");
    std::vector<std::string_view> parts(5'000, "abc");
    ASSERT_TRUE(file->WriteAt(0, parts).ok());
    EXPECT_EQ(file->Size().value(), 15'000U);
    EXPECT_EQ(Read(*file, 14'997, 3), "abc");
}

TEST_P(FileSystemTest, AllocatedRoomReadsAsZerosAndWhatIsThereStays) {
    const auto file = Make("a");
    ASSERT_TRUE(Write(*file, 0, {"data"}).ok());
    ASSERT_TRUE(file->Allocate(3'000'000).ok());
    EXPECT_EQ(file->Size().value(), 3'000'000U);
    EXPECT_EQ(Read(*file, 0, 6), std::string("data\0\0", 6));
    EXPECT_EQ(Read(*file, 2'999'998, 10), std::string(2, '\0'));
    ASSERT_TRUE(file->Allocate(10).ok());
    EXPECT_EQ(file->Size().value(), 3'000'000U);
}

TEST_P(FileSystemTest, ReadsAcrossPiecesAndBytesHeldByAReaderStayAsTheyWere) {
    const auto file = Make("a");
    const std::string big(2'500'000, 'x');
    ASSERT_TRUE(Write(*file, 0, {big}).ok());
    const auto held = file->ReadAt(1'048'570, 12);
    const auto inside = file->ReadAt(100, 5);
    ASSERT_TRUE(Write(*file, 100, {"yyyyy"}).ok());
    EXPECT_EQ(held.value().bytes(), "xxxxxxxxxxxx");
    EXPECT_EQ(inside.value().bytes(), "xxxxx");
    EXPECT_EQ(Read(*file, 99, 7), "xyyyyyx");
}

TEST_P(FileSystemTest, TruncatedBytesReadAsZerosWhenTheFileGrowsAgain) {
    const auto file = Make("a");
    ASSERT_TRUE(Write(*file, 0, {"abcdef"}).ok());
    ASSERT_TRUE(file->Truncate(3).ok());
    ASSERT_TRUE(Write(*file, 5, {"f"}).ok());
    EXPECT_EQ(Read(*file, 0, 10), std::string("abc\0\0f", 6));
}

TEST_P(FileSystemTest, RenamingReplacesAndListingIsSorted) {
    ASSERT_TRUE(Write(*Make("b"), 0, {"new"}).ok());
    ASSERT_TRUE(Write(*Make("a"), 0, {"old"}).ok());
    Make("c");
    ASSERT_TRUE(files().MakeDirectories(root_ + "/d/e").ok());
    EXPECT_THAT(files().List(root_).value(), ElementsAre("a", "b", "c", "d"));
    ASSERT_TRUE(files().Rename(root_ + "/b", root_ + "/a").ok());
    ASSERT_TRUE(files().Remove(root_ + "/c").ok());
    ASSERT_TRUE(files().SyncDirectory(root_).ok());
    EXPECT_THAT(files().List(root_).value(), ElementsAre("a", "d"));
    EXPECT_EQ(Read(**files().Open(root_ + "/a", OpenMode::kRead), 0, 10), "new");
    EXPECT_TRUE(files().Exists(root_ + "/a").value());
    EXPECT_FALSE(files().Exists(root_ + "/b").value());
}

TEST_P(FileSystemTest, WhatIsNotThereIsNotFoundAndTheMessageNamesIt) {
    const std::string path = root_ + "/none";
    for (const Status& status : {files().Open(path, OpenMode::kRead).status(),
                                 files().Open(path, OpenMode::kReadWrite).status(),
                                 files().Remove(path),
                                 files().Rename(path, root_ + "/x"),
                                 files().List(path).status()}) {
        EXPECT_EQ(status.code(), StatusCode::kNotFound);
        EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    }
}

TEST_P(FileSystemTest, OpeningToCreateKeepsWhatIsThere) {
    ASSERT_TRUE(Write(*Make("a"), 0, {"kept"}).ok());
    EXPECT_EQ(Read(*Make("a"), 0, 10), "kept");
}

TEST_P(FileSystemTest, ALockIsHeldOnceAndFreeWhenItGoes) {
    auto lock = files().Lock(root_ + "/LOCK");
    ASSERT_TRUE(lock.ok());
    const auto second = files().Lock(root_ + "/LOCK");
    EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("LOCK"));
    lock->reset();
    EXPECT_TRUE(files().Lock(root_ + "/LOCK").ok());
}

TEST_P(FileSystemTest, SpaceIsAtLeastWhatIsFree) {
    const auto space = files().Space(root_);
    ASSERT_TRUE(space.ok());
    EXPECT_GT(space.value().total_bytes, 0U);
    EXPECT_GE(space.value().total_bytes, space.value().free_bytes);
}

INSTANTIATE_TEST_SUITE_P(
    All,
    FileSystemTest,
    testing::Values(Kind{"real", {}},
                    Kind{"memory", [] { return MakeMemoryFileSystem(); }},
                    Kind{"simulated", [] { return std::make_unique<SimulatedFileSystem>(1); }}),
    [](const auto& each) { return each.param.name; });

TEST(RealFileSystemTest, TheLockNamesTheProcessThatHoldsIt) {
    std::string root = (std::filesystem::temp_directory_path() / "qmq_env_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(root.data()), nullptr);
    const auto lock = RealFileSystem().Lock(root + "/LOCK");
    ASSERT_TRUE(lock.ok());
    const pid_t child = ::fork();
    if (child == 0) {
        const auto refused = RealFileSystem().Lock(root + "/LOCK");
        const std::string wanted = "process " + std::to_string(::getppid());
        ::_exit(refused.status().code() == StatusCode::kFailedPrecondition &&
                        refused.status().message().find(wanted) != std::string_view::npos
                    ? 0
                    : 1);
    }
    int result = 1;
    ASSERT_EQ(::waitpid(child, &result, 0), child);
    EXPECT_EQ(result, 0);
    std::filesystem::remove_all(root);
}

TEST(RealFileSystemTest, AFullDeviceIsResourceExhausted) {
    const auto file = RealFileSystem().Open("/dev/full", OpenMode::kReadWrite);
    if (!file.ok()) {
        GTEST_SKIP() << "no /dev/full here";
    }
    const std::string_view part = "x";
    const Status status = file.value()->WriteAt(0, {&part, 1});
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("/dev/full"));
}

TEST(RealFileSystemTest, AFileWhereAFolderIsWantedIsAnErrorThatSaysSo) {
    const Status status = RealFileSystem().MakeDirectories("/dev/null/folder");
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr("/dev/null"));
}

}  // namespace
}  // namespace qmq::env
