#include <algorithm>

#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "tests/unit/broker/keeper_fixture.h"

// What must not go goes not, and what goes is counted as what it is.
namespace qmq::broker::testing {
namespace {

using ::testing::SizeIs;

class KeeperLossTest : public KeeperTest {
protected:
    ~KeeperLossTest() override {
        Crash();
        files_ = memory_.get();
    }

    /// A message that fails as late as `age`, when its segment may be about to go: whether a power
    /// cut right after the segment has gone takes it.
    bool IsLostWhenItFailsAt(std::chrono::milliseconds age) {
        env::SimulatedFileSystem disk(static_cast<std::uint64_t>(age.count()));
        files_ = &disk;
        Open();
        bool lost = false;
        Member member = Join(Patient("orders"), {0, 0});
        Send("orders", {"a"});
        time_.Advance(age);
        member.session->Grant(Plenty());
        time_.Settle();
        if (FirstSequence("orders") == 0 && member.got().size() == 1 &&
            Judge(member, {Retry(0, 30min)}).ok()) {
            for (int i = 0; i < 2'000 && FirstSequence("orders") == 0; ++i) {
                time_.Advance(20ms);
            }
            Crash();
            disk.CutPower();
            Open();
            Member again = Join(Patient("orders", "c2"));
            time_.Advance(2h);
            lost = again.got().empty();
        }
        Crash();
        files_ = memory_.get();
        return lost;
    }
    static bool Damage(env::SimulatedFileSystem& disk, const std::string& bytes) {
        const std::vector<std::string> names = disk.List("/data/shard-0").value();
        for (const std::string& name : names) {
            const std::string path = "/data/shard-0/" + name;
            const std::size_t at = disk.Contents(path).value_or("").find(bytes);
            if (at != std::string::npos) {
                return disk.FlipBit(path, at, 0).ok();
            }
        }
        return false;
    }
    int CountLostMoves() {
        options_.default_durability = Durability::kPageCache;
        options_.flush_interval = std::chrono::milliseconds(60'000);
        int lost = 0;
        for (std::chrono::milliseconds age = 15s; age < 41s; age += 500ms) {
            lost += IsLostWhenItFailsAt(age) ? 1 : 0;
        }
        return lost;
    }

    /// Two that are held, whose keeping finds no room once, at each of the writes in turn: what
    /// comes again when they fail afterwards.
    std::size_t CountRedelivered(std::size_t writes) {
        std::size_t count = 0;
        for (std::size_t write = 1; write <= writes; ++write) {
            memory_ = env::MakeMemoryFileSystem();
            FaultyFiles faulty(*memory_);
            files_ = &faulty;
            Open();
            Member member = Join(Patient("orders"));
            Send("orders", {"a", "b"});
            faulty.full_at_write = faulty.write_count + write;
            time_.Advance(2min);
            static_cast<void>(Judge(member, {Retry(0, 0ms), Retry(1, 0ms)}));
            count += member.got().size() - 2;
            if (write % 2 == 0) {
                CrashAndOpen();
                EXPECT_EQ(Info("orders", "billing").lag_count, member.got().size() - 2);
            }
            Crash();
            files_ = memory_.get();
        }
        return count;
    }
};

// Only moves made before the first question were waited for.
TEST_F(KeeperLossTest, AMoveIsSyncedBeforeItsOriginalGoesWheneverItIsMade) {
    EXPECT_EQ(CountLostMoves(), 0);
}

// All that was held went unasked, though there was room again.
TEST_F(KeeperLossTest, ADiskThatWasFullForAMomentTakesNothingThatIsHeld) {
    options_.store.retention = std::chrono::seconds(60);
    FaultyFiles faulty(*memory_);
    files_ = &faulty;
    Open();
    Member member = Join(Patient("orders"));
    for (int i = 0; i < 300; ++i) {
        Send("orders", {std::string(900, 'x')});
        if (i % 20 == 0) {
            time_.Advance(20ms);
        }
    }
    ASSERT_THAT(member.got(), SizeIs(300));
    time_.Advance(30s);
    ASSERT_TRUE(Send("other", {"young"}).status.ok());
    time_.Advance(29s);
    faulty.write_error = Status::ResourceExhausted("no space left on device");
    EXPECT_FALSE(Send("other", {"refused"}).status.ok());
    faulty.write_error = {};
    time_.Advance(25s);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 300U);
    ExpectNothingLost("orders", "billing");
    Crash();
}

// The store asked about the next segment at once, for whose moves there seemed to be room, and what
// it had dropped before counted as taken by retention.
TEST_F(KeeperLossTest, WhatAFullDiskTakesCountsSoWhateverBecomesOfTheNextSegment) {
    options_.store.retention = std::chrono::seconds(60);
    FaultyFiles faulty(*memory_);
    files_ = &faulty;
    Open();
    Member member = Join(Patient("orders"));
    for (int i = 0; i < 400; ++i) {
        Send("orders", {std::string(900, 'x')});
        if (i % 20 == 0) {
            time_.Advance(20ms);
        }
    }
    ASSERT_THAT(member.got(), SizeIs(400));
    time_.Advance(55s);
    faulty.write_error = Status::ResourceExhausted("no space left on device");
    time_.Advance(30s);
    const GroupInfo info = Info("orders", "billing");
    EXPECT_GT(info.lost_to_full_disk_count, 100U) << "of more than one segment";
    EXPECT_EQ(info.lost_to_retention_count, 0U);
    faulty.write_error = {};
    Crash();
}

// A hole at the end of the log, which a write that failed had left, made damage of it.
TEST_F(KeeperLossTest, WhatAFullDiskTookCountsSoWhateverElseTheNextStartFinds) {
    env::SimulatedFileSystem disk(1);
    FaultyFiles faulty(disk);
    files_ = &faulty;
    options_.store.retention = std::chrono::seconds(60);
    options_.default_durability = Durability::kPageCache;
    options_.flush_interval = std::chrono::milliseconds(60'000);
    Open();
    Member member = Join(Patient("orders"));
    for (int i = 0; i < 400; ++i) {
        Send("orders", {std::string(900, 'x')});
        if (i % 20 == 0) {
            time_.Advance(20ms);
        }
    }
    time_.Advance(55s);
    faulty.write_error = Status::ResourceExhausted("no space left on device");
    time_.Advance(30s);
    const std::uint64_t taken = Info("orders", "billing").lost_to_full_disk_count;
    ASSERT_GT(taken, 0U);
    faulty.write_error = {};
    Send("other", {"first-body"});
    Send("other", {"second-body"});
    const std::size_t told = events_.Count(env::EventKind::kLoss);
    Crash();
    ASSERT_TRUE(Damage(disk, "first-body"));
    Open();
    ASSERT_EQ(events_.Count(env::EventKind::kDamage), 1U);
    EXPECT_EQ(Info("orders", "billing").lost_to_full_disk_count, taken);
    EXPECT_EQ(Info("orders", "billing").lost_to_damage_count, 0U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), told);
    Crash();
    files_ = memory_.get();
}

TEST_F(KeeperLossTest, WhatWasToBeKeptAndFoundNoRoomIsHeldAsBefore) {
    EXPECT_EQ(CountRedelivered(8), 16U);
}

// What abandoned groups held was appended anew for ever.
TEST_F(KeeperLossTest, WhatAnAbandonedGroupHeldEndsAndTheGroupIsForgotten) {
    options_.store.retention = std::chrono::hours(12);
    options_.idle_group_retention = std::chrono::hours(1);
    Open();
    {
        Member member = Join("orders", "billing");
        Send("orders", {"a", "b"});
        member.session->Close();
    }
    time_.Advance(24h * 6);
    EXPECT_EQ(Info("orders", "billing").lag_count, 2U);
    time_.Advance(24h * 4);
    std::size_t groups = 0;
    broker_->ListGroups("orders", [&](Result<std::vector<GroupInfo>> r) { groups = r->size(); });
    time_.Settle();
    EXPECT_EQ(groups, 0U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), 1U);
}

// A single dead letter that was held suspended the limit of its shard.
TEST_F(KeeperLossTest, AHeldDeadLetterTakesHalfOfTheByteLimitAtMostAndGoesCounted) {
    options_.store.retention = std::chrono::hours(72);
    options_.store.retention_bytes = 4 * (64U << 10U);
    const std::string dead = DeadLetterSubject("orders", "billing");
    Open();
    Send(dead, {"a"});
    Member member = Join(Patient(dead));
    ASSERT_THAT(member.got(), SizeIs(1));
    for (int i = 0; i < 1'000; ++i) {
        Send("other", {std::string(900, 'x')});
        if (i % 50 == 0) {
            time_.Advance(11s);
        }
    }
    time_.Advance(5min);
    const std::vector<std::string> names = files_->List("/data/shard-0").value();
    EXPECT_LE(std::count_if(names.begin(),
                            names.end(),
                            [](const std::string& name) { return name.ends_with(".log"); }),
              6);
    EXPECT_EQ(Info(dead, "billing").lost_to_retention_count, 1U);
}

// The sequences that a start leaves out behind an unsynced hole were counted, too.
TEST_F(KeeperLossTest, OnlyMessagesThatThereWereAreCountedWhenRetentionTakesUnreadOnes) {
    env::SimulatedFileSystem disk(1);
    files_ = &disk;
    options_.default_durability = Durability::kPageCache;
    options_.flush_interval = std::chrono::milliseconds(60'000);
    Open();
    Member member = Join(Patient("orders"), {0, 0});
    for (const char* body : {"first-body", "second-body", "third-body"}) {
        Send("orders", {body});
    }
    Crash();
    const std::string path = "/data/shard-0/00000000000000000000.log";
    const std::string bytes = *disk.Contents(path);
    ASSERT_TRUE(disk.FlipBit(path, bytes.find("second-body"), 0).ok());
    Open();
    ASSERT_EQ(FirstSequence("orders"), 0U);
    time_.Advance(5min);
    ASSERT_GT(FirstSequence("orders"), 0U);
    EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, 2U);
    Crash();
    files_ = memory_.get();
}

// It was counted as what retention took.
TEST_F(KeeperLossTest, WhatIsDamagedWhileItIsHeldIsCountedAsDamage) {
    for (const char* body : {"first-body", "second-body"}) {
        env::SimulatedFileSystem disk(1);
        files_ = &disk;
        Open();
        Member member = Join(Patient("orders"));
        Send("orders", {"first-body"});
        Send("orders", {"second-body"});
        Send("orders", {"third-body"});
        ASSERT_TRUE(Ack(member, 2).ok());
        Crash();
        const std::string path = "/data/shard-0/00000000000000000000.log";
        const std::string bytes = *disk.Contents(path);
        ASSERT_TRUE(disk.FlipBit(path, bytes.find(body), 0).ok());
        events_.all.clear();
        Open();
        time_.Advance(2min);
        const GroupInfo info = Info("orders", "billing");
        EXPECT_EQ(info.lost_to_damage_count, 1U) << body;
        EXPECT_EQ(info.lost_to_retention_count, 0U) << body;
        EXPECT_EQ(info.lag_count, 1U) << body;
        EXPECT_EQ(events_.Count(env::EventKind::kLoss), 1U) << body;
        Crash();
        files_ = memory_.get();
    }
}

TEST_F(KeeperLossTest, ALossThatAStartFindsAgainIsCountedAndNotToldAgain) {
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000'000});
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 0).ok());
    time_.Advance(1min);
    ASSERT_EQ(events_.Count(env::EventKind::kLoss), 1U);
    CrashAndOpen();
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, 2U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), 1U);
}

#ifdef QMQ_PLANTED_BUGS
TEST_F(KeeperLossTest, RelocationNotTakenBackLosesWhatIsHeld) {
    env::Plant(env::PlantedBug::kRelocationNotTakenBack);
    EXPECT_LT(CountRedelivered(8), 16U);
    env::Plant(env::PlantedBug::kNone);
}

TEST_F(KeeperLossTest, MovesNotSyncedLosesWhatFailsWhenItsSegmentGoes) {
    env::Plant(env::PlantedBug::kMovesNotSynced);
    EXPECT_GT(CountLostMoves(), 0);
    env::Plant(env::PlantedBug::kNone);
}
#endif

// It made room for its holder, and nobody was told.
TEST_F(KeeperLossTest, WhoHeldWhatIsGivenUpIsHandedTheNext) {
    env::SimulatedFileSystem disk(1);
    files_ = &disk;
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"first-body"});
    Send("orders", {"second-body"});
    Send("orders", {"third-body"});
    ASSERT_TRUE(Ack(member, 0).ok());
    ASSERT_TRUE(Ack(member, 2).ok());
    SubscribeRequest request = Patient("orders");
    request.resume = ResumePoint{member.sink->subscribed->incarnation, 3};
    Crash();
    ASSERT_TRUE(Damage(disk, "second-body"));
    options_.max_in_flight_per_consumer = 1;
    Open();
    Member again = Join(request);
    ASSERT_EQ(Info("orders", "billing").in_flight_count, 1U);
    time_.Advance(1s);
    Send("other", {std::string(50'000, 'x')});  // Most of the first segment.
    time_.Advance(14s);
    Send("orders", {"fourth-body" + std::string(20'000, 'x')});  // In the second one.
    EXPECT_THAT(again.got(), SizeIs(0));
    time_.Advance(9s);  // The first segment is due to go, and the second one not yet.
    ASSERT_EQ(Info("orders", "billing").lost_to_damage_count, 1U);
    EXPECT_THAT(again.got(), SizeIs(1));
    Crash();
    files_ = memory_.get();
}

}  // namespace
}  // namespace qmq::broker::testing
