#include "plugins/inproc/server/capped_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qmq::inproc {
namespace {

using testing::HasSubstr;

class CappedFilesTest : public testing::Test {
protected:
    Status Allocate(const std::string& path, std::uint64_t bytes) {
        auto file = files_->Open(path, env::OpenMode::kCreate);
        return file.ok() ? file.value()->Allocate(bytes) : file.status();
    }
    std::unique_ptr<env::FileSystem> files_ = CapFiles(env::MakeMemoryFileSystem(), 100);
};

TEST_F(CappedFilesTest, WhatWouldGoBeyondTheCapIsRefusedWithTheOptionsName) {
    ASSERT_TRUE(Allocate("a", 60).ok());
    const Status status = Allocate("b", 41);
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("InprocOptions::memory_bytes"));
    EXPECT_TRUE(Allocate("b", 40).ok());
}

TEST_F(CappedFilesTest, AFileCountsOnceHoweverOftenItIsAllocated) {
    ASSERT_TRUE(Allocate("a", 60).ok());
    ASSERT_TRUE(Allocate("a", 60).ok());
    EXPECT_TRUE(Allocate("a", 100).ok());
    EXPECT_FALSE(Allocate("a", 101).ok());
}

TEST_F(CappedFilesTest, RemovingAndTruncatingMakeRoom) {
    ASSERT_TRUE(Allocate("a", 60).ok());
    ASSERT_TRUE(Allocate("b", 40).ok());
    ASSERT_TRUE(files_->Remove("a").ok());
    ASSERT_TRUE(Allocate("c", 60).ok());
    ASSERT_TRUE((*files_->Open("c", env::OpenMode::kReadWrite))->Truncate(10).ok());
    EXPECT_TRUE(Allocate("d", 50).ok());
    EXPECT_FALSE(Allocate("e", 1).ok());
}

TEST_F(CappedFilesTest, ARenamedFileKeepsItsReservationAndFreesTheOneThatItReplaces) {
    ASSERT_TRUE(Allocate("a", 60).ok());
    ASSERT_TRUE(Allocate("b", 40).ok());
    ASSERT_TRUE(files_->Rename("a", "b").ok());
    EXPECT_TRUE(Allocate("c", 40).ok());
    EXPECT_FALSE(Allocate("d", 1).ok());
    ASSERT_TRUE(files_->Remove("b").ok());
    EXPECT_TRUE(Allocate("d", 60).ok());
}

}  // namespace
}  // namespace qmq::inproc
