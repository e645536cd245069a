// Segments' files have one maker: whatever comes between its steps, no file that is in use loses
// its name.
#include <atomic>
#include <thread>

#include "qmq/random.h"

#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "tests/unit/store/hooked_files.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Status NoRoomForNewFiles(const std::string& path) {
    return path.ends_with(".tmp") ? Status::ResourceExhausted("no space left on device")
                                  : Status::Ok();
}

/// A millisecond passes each time somebody looks.
class HurryingClock final : public Clock {
public:
    TimePoint Now() const override { return TimePoint(std::chrono::milliseconds(++looks_)); }
    WallTime WallNow() const override { return WallTime(std::chrono::milliseconds(++looks_)); }

private:
    mutable std::atomic<std::int64_t> looks_{1'700'000'000'000};
};

class SegmentFactoryTest : public testing::Test {
protected:
    /// More than half of a segment, so that the next one is made ahead.
    void FillHalf() {
        for (int i = 0; i < 40; ++i) {
            ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        }
    }
    /// While the I/O thread makes the next segment the log gets there; then, to the I/O thread,
    /// the disk is full.
    void LogGetsThereWhileTheDiskIsFullForTheOther() {
        int calls = 0;
        files_.before_allocate = [&](const std::string&) {
            if (++calls > 1) {
                return Status::Ok();
            }
            for (int i = 0; i < 40; ++i) {
                EXPECT_TRUE(test_.Put("orders", {std::string(900, 'y')}).ok());
            }
            return Status::ResourceExhausted("no space left on device");
        };
        test_.Settle();
        EXPECT_EQ(calls, 2);
        ASSERT_TRUE(test_.Put("orders", {"precious"}).ok());
        test_.SyncAll();
        files_.before_allocate = [](const std::string&) { return Status::Ok(); };
    }
    std::vector<std::string> Names() { return disk_.List("/data").value(); }

    env::SimulatedFileSystem disk_{5};
    HookedFiles files_{disk_};
    TestStore test_{files_};
};

TEST_F(SegmentFactoryTest, ASegmentThatIsWrittenToKeepsItsNameWhoeverFindsTheDiskFull) {
    ASSERT_TRUE(test_.Open().ok());
    FillHalf();
    LogGetsThereWhileTheDiskIsFullForTheOther();
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), 81U);
    EXPECT_EQ(test_.BodiesIn("orders").back(), "precious");
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
}

#ifdef QMQ_PLANTED_BUGS
class PlantedSegmentFactoryTest : public SegmentFactoryTest {
protected:
    ~PlantedSegmentFactoryTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedSegmentFactoryTest, TwoMakersTakesTheNameOfASegmentInUse) {
    env::Plant(env::PlantedBug::kTwoMakers);
    ASSERT_TRUE(test_.Open().ok());
    FillHalf();
    LogGetsThereWhileTheDiskIsFullForTheOther();
    env::Plant(env::PlantedBug::kNone);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_LT(test_.BodiesIn("orders").size(), 81U);
}

TEST_F(PlantedSegmentFactoryTest, FolderNotSyncedLosesASegmentToAPowerCut) {
    env::Plant(env::PlantedBug::kFolderNotSynced);
    int lost = 0;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        ASSERT_TRUE(test.Open().ok());
        std::size_t count = 0;
        for (; test.store->written() <= test.options.segment_bytes; ++count) {
            ASSERT_TRUE(test.Put("orders", {std::string(900, 'x')}).ok());
        }
        const LogOffset end = test.store->written();
        test.store->Sync();
        while (test.store->synced() < end) {
            ASSERT_TRUE(test.io.RunOne() || test.executor.RunOne());
        }
        test.Kill();
        disk.CutPower();
        ASSERT_TRUE(test.Open().ok());
        lost += test.BodiesIn("orders").size() < count ? 1 : 0;
    }
    EXPECT_GT(lost, 0);
}
#endif

TEST_F(SegmentFactoryTest, WhatIsSyncedInANewSegmentSurvivesAPowerCut) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        ASSERT_TRUE(test.Open().ok());
        std::size_t count = 0;
        for (; test.store->written() <= test.options.segment_bytes; ++count) {
            ASSERT_TRUE(test.Put("orders", {std::string(900, 'x')}).ok());
        }
        const LogOffset end = test.store->written();
        test.store->Sync();
        while (test.store->synced() < end) {
            ASSERT_TRUE(test.io.RunOne() || test.executor.RunOne());
        }
        test.Kill();
        disk.CutPower();
        ASSERT_TRUE(test.Open().ok());
        EXPECT_EQ(test.BodiesIn("orders").size(), count) << "seed " << seed;
    }
}

TEST_F(SegmentFactoryTest, WhatWasMadeAheadInVainServesTheSegmentBehind) {
    ASSERT_TRUE(test_.Open().ok());
    FillHalf();
    int calls = 0;
    files_.before_allocate = [&](const std::string&) {
        if (++calls == 1) {
            for (int i = 0; i < 40; ++i) {
                EXPECT_TRUE(test_.Put("orders", {std::string(900, 'y')}).ok());
            }
        }
        return Status::Ok();
    };
    test_.Settle();
    for (int i = 0; i < 60; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'z')}).ok());
    }
    EXPECT_EQ(calls, 2) << "one for each of two segments";
    ASSERT_TRUE(test_.Close().ok());
    EXPECT_THAT(Names(), Each(Not(HasSubstr(".tmp"))));
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), 140U);
}

TEST_F(SegmentFactoryTest, NoSegmentHasItsNameBeforeItsRoomIsReserved) {
    ASSERT_TRUE(test_.Open().ok());
    files_.before_allocate = [&](const std::string& path) {
        EXPECT_THAT(path, AllOf(HasSubstr(".log."), testing::EndsWith(".tmp")));
        return Status::Ok();
    };
    for (int i = 0; i < 300; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        if (i % 3 == 0) {
            test_.SyncAll();
        }
    }
}

TEST_F(SegmentFactoryTest, AFullDiskIsNotAskedForRoomWithEachAppend) {
    ASSERT_TRUE(test_.Open().ok());
    int calls = 0;
    files_.before_allocate = [&](const std::string&) {
        ++calls;
        return Status::ResourceExhausted("no space left on device");
    };
    int refused = 0;
    for (int i = 0; i < 1'000; ++i) {
        refused += test_.Put("orders", {std::string(900, 'x')}).ok() ? 0 : 1;
        test_.Settle();
        test_.clock.elapsed += std::chrono::milliseconds(1);
    }
    EXPECT_GT(refused, 900);
    EXPECT_LT(calls, 110);
    files_.before_allocate = [](const std::string&) { return Status::Ok(); };
    test_.clock.elapsed += std::chrono::milliseconds(10);
    EXPECT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
}

TEST_F(SegmentFactoryTest, SeveralSegmentsThatWereBegunAndTakenBackAreTakenAgain) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"before"}).ok());
    const auto append = [&] {
        for (int i = 0; i < 200; ++i) {
            ASSERT_TRUE(test_.Append("orders", {std::string(900, 'x')}).ok());
        }
    };
    append();
    disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
    ASSERT_EQ(test_.store->Write().code(), StatusCode::kResourceExhausted);
    files_.before_allocate = NoRoomForNewFiles;
    append();
    ASSERT_TRUE(test_.store->Write().ok()) << "the files are there";
    test_.SyncAll();
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), 201U);
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
}

TEST_F(SegmentFactoryTest, AStartUsesTheEmptySegmentsThatAreThere) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_.Append("orders", {std::string(900, 'x')}).ok());
    }
    disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
    ASSERT_EQ(test_.store->Write().code(), StatusCode::kResourceExhausted);
    ASSERT_TRUE(test_.Reopen().ok());
    files_.before_allocate = NoRoomForNewFiles;
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), 200U);
}

TEST_F(SegmentFactoryTest, RoomThatComesAndGoesLosesNothingWithThreads) {
    const auto memory = env::MakeMemoryFileSystem();
    HookedFiles files(*memory);
    std::atomic<std::uint64_t> calls{0};
    files.before_allocate = [&](const std::string&) {
        Random random(++calls);
        return random.Chance(0.7) ? Status::ResourceExhausted("no space left on device")
                                  : Status::Ok();
    };
    StoreOptions options;
    options.directory = "/data";
    options.segment_bytes = 64U << 10;
    const HurryingClock clock;
    std::vector<std::string> taken;
    {
        ThreadPool pool({.threads = 1});
        ThreadPool io({.threads = 2});
        Strand strand(pool, Strand::Mode::kInline, Task());
        TestListener listener;
        std::unique_ptr<ShardStore> store;
        while (store == nullptr) {
            auto opened = ShardStore::Open(options, {files, clock, strand, io}, listener);
            store = opened.ok() ? std::move(*opened) : nullptr;
        }
        for (int i = 0; i < 20'000 && taken.size() < 6'000; ++i) {
            std::string body = std::to_string(i) + std::string(2'000, 'x');
            const Slice batch = MakeBatch({body});
            const auto view = BatchView::Parse(batch.bytes(), options.limits);
            std::atomic<bool> done{false};
            strand.Post([&] {
                const auto appended =
                    store->AppendMessages(*store->FindSubject("s", true), batch, view.value());
                if (appended.ok() && store->Write().ok()) {
                    store->Sync();
                    taken.push_back(std::move(body));
                }
                done = true;
            });
            while (!done) {
                std::this_thread::yield();
            }
        }
        std::atomic<bool> gone{false};
        strand.Post([&] {
            store.reset();
            gone = true;
        });
        while (!gone) {
            std::this_thread::yield();
        }
    }
    ASSERT_GT(taken.size(), 500U);
    files.before_allocate = [](const std::string&) { return Status::Ok(); };
    TestStore test(files);
    ASSERT_TRUE(test.Open().ok());
    EXPECT_EQ(test.BodiesIn("s"), taken);
}

/// A segment that is gone although synced records of it are spoken of.
class MissingSegmentTest : public SegmentFactoryTest {
protected:
    void Lose(std::string_view suffix) {
        std::string last;
        for (const std::string& name : Names()) {
            last = name.ends_with(suffix) ? name : last;
        }
        ASSERT_TRUE(disk_.Remove("/data/" + last).ok());
    }
    void FillTwoSegments() {
        ASSERT_TRUE(test_.Open().ok());
        for (int i = 0; i < 70; ++i) {
            ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        }
        test_.SyncAll();
    }
    void ExpectReported() {
        ASSERT_TRUE(test_.Open().ok());
        const auto& corruptions = test_.store->recovery().corruptions;
        ASSERT_EQ(corruptions.size(), 1U);
        EXPECT_TRUE(corruptions[0].committed);
        EXPECT_EQ(corruptions[0].begin, 65'536U);
        EXPECT_EQ(corruptions[0].end, 131'072U);
        EXPECT_THAT(corruptions[0].reason, HasSubstr("missing"));
        EXPECT_GE(test_.Append("orders", {"new"}).value().first_sequence, 70U)
            << "no sequence of the lost messages is used again";
    }
};

TEST_F(MissingSegmentTest, TheLastSegmentThatIsGoneIsMissedBecauseOfTheSnapshotAboveIt) {
    FillTwoSegments();
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    Lose(".log");
    ExpectReported();
}

TEST_F(MissingSegmentTest, TheLastSegmentThatIsGoneIsMissedBecauseOfTheIndexBeforeIt) {
    FillTwoSegments();
    test_.Kill();
    Lose(".log");
    for (const std::string& name : Names()) {
        if (name.ends_with(".snapshot")) {
            ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
        }
    }
    ExpectReported();
}

TEST_F(MissingSegmentTest, ASegmentThatWasNeverSyncedIsNotMissed) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 60; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    test_.SyncAll();
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    test_.Kill();
    Lose(".log");
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
}

}  // namespace
}  // namespace qmq::store
