#include "server/env/simulated_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/env/planted_bug.h"

namespace qmq::env {
namespace {

using testing::HasSubstr;

class SimulatedFileSystemTest : public testing::Test {
protected:
    SimulatedFileSystemTest() { EXPECT_TRUE(disk_.MakeDirectories("/d").ok()); }
    static Status Write(File& file, std::uint64_t offset, std::string_view bytes) {
        return file.WriteAt(offset, {&bytes, 1});
    }
    std::unique_ptr<File> Make(SimulatedFileSystem& disk, const std::string& path) {
        return std::move(*disk.Open(path, OpenMode::kCreate));
    }
    SimulatedFileSystem disk_{42};
};

TEST_F(SimulatedFileSystemTest, WhatWasSyncedSurvivesAPowerCut) {
    const auto file = Make(disk_, "/d/a");
    ASSERT_TRUE(Write(*file, 0, "synced").ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(disk_.SyncDirectory("/d").ok());
    disk_.CutPower();
    EXPECT_EQ(disk_.Contents("/d/a").value(), "synced");
}

TEST_F(SimulatedFileSystemTest, WhatWasNotSyncedIsAtTheMercyOfChance) {
    bool lost = false;
    bool kept = false;
    bool torn = false;
    bool name_lost = false;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        SimulatedFileSystem disk(seed);
        ASSERT_TRUE(disk.MakeDirectories("/d").ok());
        const auto file = Make(disk, "/d/a");
        const std::string bytes(2'000, 'x');
        ASSERT_TRUE(Write(*file, 0, bytes).ok());
        disk.CutPower();
        const auto left = disk.Contents("/d/a");
        if (!left.ok()) {
            name_lost = true;
            continue;
        }
        kept = kept || left.value() == bytes;
        lost = lost || left.value().empty();
        torn = torn || (left.value() != bytes && !left.value().empty());
    }
    EXPECT_TRUE(lost && kept && torn && name_lost);
}

TEST_F(SimulatedFileSystemTest, TheSameSeedDoesTheSame) {
    const auto run = [&](std::uint64_t seed) {
        SimulatedFileSystem disk(seed);
        EXPECT_TRUE(disk.MakeDirectories("/d").ok());
        const auto file = Make(disk, "/d/a");
        EXPECT_TRUE(disk.SyncDirectory("/d").ok());
        for (std::uint64_t i = 0; i < 50; ++i) {
            EXPECT_TRUE(
                Write(*file, i * 700, std::string(700, static_cast<char>('a' + i % 26))).ok());
        }
        disk.CutPower();
        return disk.Contents("/d/a").value();
    };
    EXPECT_EQ(run(7), run(7));
    EXPECT_NE(run(7), run(8));
}

TEST_F(SimulatedFileSystemTest, AFailedSyncMayHaveLostWhatReadsStillShow) {
    bool lost = false;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        SimulatedFileSystem disk(seed);
        ASSERT_TRUE(disk.MakeDirectories("/d").ok());
        const auto file = Make(disk, "/d/a");
        ASSERT_TRUE(disk.SyncDirectory("/d").ok());
        ASSERT_TRUE(Write(*file, 0, "data").ok());
        disk.FailNextSyncs(1);
        EXPECT_EQ(file->Sync().code(), StatusCode::kDataLoss);
        EXPECT_EQ(file->ReadAt(0, 4).value().bytes(), "data");
        EXPECT_TRUE(file->Sync().ok()) << "which proves nothing";
        disk.CutPower();
        lost = lost || disk.Contents("/d/a").value() != "data";
    }
    EXPECT_TRUE(lost);
}

TEST_F(SimulatedFileSystemTest, FilesAndLocksOfAProcessThatEndedAreDead) {
    const auto file = Make(disk_, "/d/a");
    const auto lock = disk_.Lock("/d/LOCK");
    disk_.CloseAll();
    EXPECT_EQ(Write(*file, 0, "late").code(), StatusCode::kInternal);
    EXPECT_TRUE(disk_.Lock("/d/LOCK").ok());
}

TEST_F(SimulatedFileSystemTest, AFileThatTwoMakeAtTheSameTimeIsNoticed) {
    auto file = Make(disk_, "/d/a");
    const auto reader = disk_.Open("/d/a", OpenMode::kRead);
    EXPECT_EQ(disk_.made_twice(), "");
    const auto other = Make(disk_, "/d/a");
    EXPECT_EQ(disk_.made_twice(), "/d/a");
}

TEST_F(SimulatedFileSystemTest, AFileMayBeMadeAgainWhenNobodyHasItOpen) {
    Make(disk_, "/d/a").reset();
    const auto again = Make(disk_, "/d/a");
    EXPECT_EQ(disk_.made_twice(), "");
}

TEST_F(SimulatedFileSystemTest, BeforeEachStepTheHookMayUseTheDisk) {
    std::vector<std::string> steps;
    disk_.OnStep([&](std::string_view operation, const std::string& path) {
        steps.push_back(std::string(operation) + " " + path);
        if (operation == "sync folder") {
            (void)Make(disk_, "/d/b");  // As another task does meanwhile.
        }
    });
    const auto file = Make(disk_, "/d/a");
    ASSERT_TRUE(disk_.SyncDirectory("/d").ok());
    EXPECT_THAT(steps, testing::ElementsAre("open /d/a", "sync folder /d", "open /d/b"));
    EXPECT_TRUE(disk_.Exists("/d/b").value());
}

TEST_F(SimulatedFileSystemTest, ChangesOfAFolderFailAsAskedForAndChangeNothing) {
    (void)Make(disk_, "/d/a");
    disk_.FailNextFolderChanges(3);
    EXPECT_EQ(disk_.Rename("/d/a", "/d/b").code(), StatusCode::kDataLoss);
    EXPECT_EQ(disk_.Remove("/d/a").code(), StatusCode::kDataLoss);
    EXPECT_EQ(disk_.SyncDirectory("/d").code(), StatusCode::kDataLoss);
    EXPECT_TRUE(disk_.Exists("/d/a").value());
    EXPECT_TRUE(disk_.Rename("/d/a", "/d/b").ok());
    EXPECT_EQ(disk_.FaultCounts().at("folder_error"), 3U);
}

TEST_F(SimulatedFileSystemTest, ADiskWithACapacityRefusesWhatDoesNotFitAndSaysWhatIsFree) {
    const auto file = Make(disk_, "/d/a");
    ASSERT_TRUE(file->Allocate(600).ok());
    disk_.SetCapacity(1'000);
    EXPECT_EQ(disk_.used_bytes(), 600U);
    EXPECT_EQ(file->Allocate(1'001).code(), StatusCode::kResourceExhausted);
    EXPECT_TRUE(file->Allocate(990).ok());
    EXPECT_EQ(disk_.Space("/d")->free_bytes, 10U);
    EXPECT_EQ(disk_.FaultCounts().at("too_small"), 1U);
    EXPECT_EQ(disk_.FaultCounts().at("above_high_water"), 1U);
}

TEST_F(SimulatedFileSystemTest, FaultsAreDoneAsAskedForAndCounted) {
    const auto file = Make(disk_, "/d/a");
    disk_.SetFull(true);
    EXPECT_EQ(Write(*file, 0, "x").code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(file->Allocate(100).code(), StatusCode::kResourceExhausted);
    disk_.SetFull(false);
    disk_.FailNextWrites(1);
    EXPECT_EQ(Write(*file, 0, "x").code(), StatusCode::kDataLoss);
    disk_.FailReads(true);
    EXPECT_EQ(file->ReadAt(0, 1).status().code(), StatusCode::kDataLoss);
    disk_.Heal();
    disk_.FailStep(2, StatusCode::kInternal);
    EXPECT_TRUE(Write(*file, 0, "x").ok());
    EXPECT_EQ(Write(*file, 0, "x").code(), StatusCode::kInternal);
    EXPECT_TRUE(disk_.step_has_failed());
    disk_.SetCapacity(10);
    EXPECT_EQ(file->Allocate(11).code(), StatusCode::kResourceExhausted);
    EXPECT_TRUE(file->Allocate(10).ok());
    EXPECT_EQ(disk_.Space("/d").value().free_bytes, 0U);
    ASSERT_TRUE(disk_.FlipBit("/d/a", 0, 0).ok());
    EXPECT_EQ(disk_.Contents("/d/a").value()[0], 'y');
    const auto counts = disk_.FaultCounts();
    for (const char* fault :
         {"no_space", "write_error", "read_error", "step_failed", "bit_flipped"}) {
        EXPECT_GT(counts.count(fault), 0U) << fault;
    }
}

TEST(PlantedBugTest, BugsAreFoundByTheirNames) {
    EXPECT_EQ(ParsePlantedBug("ack_before_sync").value(), PlantedBug::kAckBeforeSync);
    EXPECT_EQ(ParsePlantedBug("forget_hand_out_on_restart").value(),
              PlantedBug::kForgetHandOutOnRestart);
    const auto unknown = ParsePlantedBug("kDropAck");
    EXPECT_EQ(unknown.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("drop_ack"));
}

#ifdef QMQ_PLANTED_BUGS
TEST(PlantedBugTest, OneIsOnAtATime) {
    Plant(PlantedBug::kDropAck);
    EXPECT_TRUE(Planted(PlantedBug::kDropAck));
    Plant(PlantedBug::kCutMidLog);
    EXPECT_FALSE(Planted(PlantedBug::kDropAck));
    Plant(PlantedBug::kNone);
    EXPECT_FALSE(Planted(PlantedBug::kCutMidLog));
}
#endif

}  // namespace
}  // namespace qmq::env
