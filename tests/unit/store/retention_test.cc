#include <utility>

#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::Each;
using testing::IsEmpty;

class RetentionTest : public testing::Test {
protected:
    /// Some segments' worth of messages, ten seconds apart.
    void Fill(const std::string& subject, int count = 300) {
        for (int i = 0; i < count; ++i) {
            ASSERT_TRUE(test_.Put(subject, {std::string(900, 'x')}).ok());
            test_.clock.elapsed += std::chrono::seconds(10);
            test_.SyncAll();
        }
    }
    /// Retains until nothing more goes; each time one snapshot more may be made.
    void Retain() {
        for (int i = 0; i < 4; ++i) {
            ASSERT_TRUE(test_.store->Retain().ok());
            test_.SyncAll();
        }
    }
    SubjectLog& Log(const std::string& subject) {
        return *test_.store->FindSubject(subject, false);
    }
    std::size_t LogFiles() {
        std::size_t count = 0;
        const std::vector<std::string> names = disk_.List("/data").value();
        for (const std::string& name : names) {
            count += name.ends_with(".log") ? 1U : 0U;
        }
        return count;
    }

    env::SimulatedFileSystem disk_{3};
    TestStore test_{disk_};
};

TEST_F(RetentionTest, SegmentsOlderThanTheRetentionGo) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), 100U);
    EXPECT_LT(Log("orders").first_sequence(), 200U) << "what is younger stays";
    EXPECT_THAT(test_.listener->dropped, Contains("orders"));
    EXPECT_LT(LogFiles(), 4U);
    const auto left = test_.ReadAll("orders");
    EXPECT_EQ(left.begin()->first, Log("orders").first_sequence());
    EXPECT_EQ(left.size() + test_.expired_count, 300U);
    EXPECT_EQ(test_.corrupt_count, 0U);
}

TEST_F(RetentionTest, WhatWasDroppedStaysDroppedAfterARestartAndAPowerCut) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    const std::uint64_t first = Log("orders").first_sequence();
    const auto left = test_.ReadAll("orders");
    test_.Kill();
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_EQ(Log("orders").first_sequence(), first);
    EXPECT_EQ(test_.ReadAll("orders"), left);
    EXPECT_THAT(test_.store->recovery().corruptions, IsEmpty());
}

TEST_F(RetentionTest, TheOldestSegmentsGoWhileTheShardTakesTooMuch) {
    test_.options.retention_bytes = 3 * (64U << 10);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    Retain();
    EXPECT_LE(test_.store->stored_bytes(), test_.options.retention_bytes);
    EXPECT_EQ(test_.ReadAll("orders").rbegin()->first, 299U);
}

TEST_F(RetentionTest, ConsumedSegmentsGoWhenAskedFor) {
    test_.options.drop_consumed = true;
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.listener->consumed["orders"] = 100;
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), 50U);
    EXPECT_LE(Log("orders").first_sequence(), 100U);
}

TEST_F(RetentionTest, NothingConsumedGoesUnlessAskedFor) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.listener->consumed["orders"] = 300;
    Retain();
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
}

TEST_F(RetentionTest, MessagesOfAnIdleShardGoToo) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"old"}).ok());
    test_.SyncAll();
    test_.clock.elapsed += std::chrono::seconds(1'001);
    for (int i = 0; i < 3; ++i) {
        Retain();
        test_.clock.elapsed += std::chrono::seconds(1'001);
    }
    EXPECT_EQ(Log("orders").first_sequence(), 1U);
    EXPECT_EQ(Log("orders").next_sequence(), 1U);
    EXPECT_EQ(LogFiles(), 1U);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(Log("orders").next_sequence(), 1U) << "known from the snapshot";
    EXPECT_EQ(test_.Append("orders", {"new"}).value().first_sequence, 1U);
}

// A message that was refused made the segment young again.
TEST_F(RetentionTest, ARefusedMessageDoesNotKeepAnIdleShardFromForgetting) {
    test_.options.retention = std::chrono::seconds(1'000);
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"old"}).ok());
    test_.clock.elapsed += std::chrono::seconds(1'001);
    ASSERT_TRUE(test_.Append("orders", {"refused"}).ok());
    disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
    ASSERT_EQ(test_.store->Write().code(), StatusCode::kResourceExhausted);
    ASSERT_TRUE(test_.store->Retain().ok());
    EXPECT_GT(test_.store->written(), test_.options.segment_bytes) << "the log has moved on";
}

TEST_F(RetentionTest, SegmentsThatAStartStillNeedsStay) {
    test_.options.retention = std::chrono::seconds(1);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    test_.clock.elapsed += std::chrono::seconds(100);
    ASSERT_TRUE(test_.store->Retain().ok());  // Nothing is synced, so there is no snapshot yet.
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.ReadAll("orders").size(), 100U);
}

TEST_F(RetentionTest, StoredBytesOfASubjectFollowItsSegments) {
    test_.options.retention_bytes = 2 * (64U << 10);
    ASSERT_TRUE(test_.Open().ok());
    Fill("a", 10);
    EXPECT_GT(test_.store->stored_bytes(Log("a")), 9'000U);
    Fill("b");
    Retain();
    EXPECT_EQ(test_.store->stored_bytes(Log("a")), 0U);
    EXPECT_LE(test_.store->stored_bytes(Log("b")), test_.store->stored_bytes());
}

/// Time passes, and the owner looks at retention every ten seconds, as it does.
class RetentionClockTest : public RetentionTest {
protected:
    void Pass(std::chrono::seconds time) {
        for (std::chrono::seconds passed{}; passed < time; passed += std::chrono::seconds(10)) {
            test_.clock.elapsed += std::chrono::seconds(10);
            ASSERT_TRUE(test_.store->Retain().ok());
            test_.SyncAll();
        }
    }
    std::size_t JumpsTold() { return test_.events.Of(env::EventKind::kClockJump).size(); }
};

TEST_F(RetentionClockTest, AWallClockThatJumpsAheadAndBackDeletesNothing) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.clock.wall_jump = std::chrono::hours(24 * 4);
    Pass(std::chrono::seconds(45));
    test_.clock.wall_jump = {};
    Pass(std::chrono::hours(1));
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    EXPECT_EQ(JumpsTold(), 1U);
    EXPECT_EQ(test_.store->LogNow(), test_.clock.WallNow());
}

TEST_F(RetentionClockTest, AJumpAheadThatStaysTakesWhatWasThereBeforeAndNothingSince) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.clock.wall_jump = std::chrono::hours(100);
    Fill("young");
    ASSERT_EQ(Log("orders").first_sequence(), 0U) << "72 h pass in no less than 72 minutes";
    Pass(std::chrono::hours(3));
    EXPECT_GT(Log("orders").first_sequence(), 200U);
    EXPECT_EQ(Log("young").first_sequence(), 0U);
    EXPECT_EQ(test_.store->LogNow(), test_.clock.WallNow()) << "but new records have its time";
}

TEST_F(RetentionClockTest, AStartWithAWallClockThatIsAheadDeletesNothing) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.clock.wall_jump = std::chrono::hours(100);
    ASSERT_TRUE(test_.Reopen().ok());
    Pass(std::chrono::minutes(9));
    test_.clock.wall_jump = {};
    Pass(std::chrono::hours(2));
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    EXPECT_EQ(JumpsTold(), 1U);
    ASSERT_TRUE(test_.Append("orders", {"x"}).ok());
}

TEST_F(RetentionClockTest, ADowntimeCountsOnceItHasStoodAndAtABoundedRate) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    test_.clock.elapsed += std::chrono::hours(73);
    ASSERT_TRUE(test_.Open().ok());
    Pass(std::chrono::minutes(60));
    EXPECT_EQ(Log("orders").first_sequence(), 0U) << "72 h pass in no less than 72 minutes";
    Pass(std::chrono::minutes(30));
    EXPECT_GT(Log("orders").first_sequence(), 200U);
}

TEST_F(RetentionClockTest, WhatIsWrittenBeforeADowntimeIsBelievedIsNotMadeOlderByIt) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("old", 100);
    test_.Kill();
    test_.clock.elapsed += std::chrono::hours(100);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 3; ++i) {  // Sealed before the ten minutes are over.
        Fill("orders", 30);
    }
    Pass(std::chrono::hours(4));
    EXPECT_LT(test_.BodiesIn("old").size(), 65U) << "but for what shares a segment with it";
    EXPECT_EQ(test_.BodiesIn("orders").size(), 90U);
    ASSERT_TRUE(test_.Reopen().ok());
    Pass(std::chrono::hours(4));
    EXPECT_EQ(test_.BodiesIn("orders").size(), 90U) << "also after a start";
}

TEST_F(RetentionClockTest, AWallClockSetBackHoldsNothingUp) {
    test_.options.retention = std::chrono::hours(1);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.clock.wall_jump = -std::chrono::hours(24);
    Pass(std::chrono::hours(1));
    EXPECT_GT(Log("orders").first_sequence(), 200U);
    EXPECT_EQ(JumpsTold(), 1U);
}

TEST_F(RetentionClockTest, SegmentsSealedInTheFutureHoldNothingUp) {
    test_.options.retention = std::chrono::hours(1);
    test_.clock.wall_jump = std::chrono::hours(24 * 365);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders", 150);
    test_.clock.wall_jump = {};
    ASSERT_TRUE(test_.Reopen().ok());
    Fill("orders", 150);
    Pass(std::chrono::hours(1));
    EXPECT_GT(Log("orders").first_sequence(), 200U);
}

/// Chains of processes, as they happen to a broker.
class ClockChainTest : public RetentionClockTest {
protected:
    /// `count` days: so long up with some messages written, then away.
    void Days(int count,
              std::chrono::seconds up,
              std::chrono::seconds down,
              std::chrono::milliseconds jump_a_day = {}) {
        for (int day = 0; day < count; ++day) {
            ASSERT_TRUE(test_.Open().ok());
            Fill("orders", 100);
            Pass(up / 2);
            test_.clock.wall_jump += jump_a_day;
            Pass(up / 2);
            ASSERT_TRUE(test_.Close().ok());
            test_.Kill();
            test_.clock.elapsed += down;
        }
        ASSERT_TRUE(test_.Open().ok());
        Pass(std::chrono::hours(3));
    }
    void FillAtOnce(const std::string& subject) {
        for (int i = 0; i < 300; ++i) {
            ASSERT_TRUE(test_.Put(subject, {std::string(900, 'y')}).ok());
        }
        test_.SyncAll();
    }
    void Pass(std::chrono::seconds time) {
        for (std::chrono::seconds passed{}; passed < time; passed += std::chrono::seconds(30)) {
            test_.clock.elapsed += std::chrono::seconds(30);
            ASSERT_TRUE(test_.store->Retain().ok());
            test_.SyncAll();
        }
    }
};

// A retention of 30 h never took anything, since each start began to believe anew.
TEST_F(ClockChainTest, ABrokerThatIsAwayEachNightDropsByTime) {
    test_.options.retention = std::chrono::hours(30);
    Days(20, std::chrono::hours(15), std::chrono::hours(8));
    EXPECT_GT(Log("orders").first_sequence(), 1'000U);
}

TEST_F(ClockChainTest, ABrokerThatIsRestartedEachDayAndSetByTwoSecondsDropsByTime) {
    test_.options.retention = std::chrono::hours(30);
    Days(20, std::chrono::hours(23), std::chrono::seconds(5), std::chrono::seconds(2));
    EXPECT_GT(Log("orders").first_sequence(), 1'000U);
}

// A process that ended within ten minutes left nothing that said when its messages were written.
TEST_F(ClockChainTest, WhatIsWrittenSoonAfterADowntimeLivesItsRetentionOverARestart) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders", 10);
    test_.Kill();
    test_.clock.elapsed += std::chrono::hours(100);
    ASSERT_TRUE(test_.Open().ok());
    FillAtOnce("young");
    Pass(std::chrono::minutes(5));
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    Pass(std::chrono::hours(71));
    EXPECT_EQ(test_.BodiesIn("young").size(), 300U);
    Pass(std::chrono::hours(2));
    EXPECT_LT(test_.BodiesIn("young").size(), 100U);
}

TEST_F(ClockChainTest, ASuspendAndARestartDoNotMakeYoungMessagesOld) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders", 10);
    test_.clock.wall_jump = std::chrono::hours(100);
    Pass(std::chrono::minutes(1));
    FillAtOnce("young");
    test_.Kill();
    ASSERT_TRUE(test_.Open().ok());
    Pass(std::chrono::hours(3));
    EXPECT_EQ(test_.BodiesIn("young").size(), 300U);
}

// A clock that was wrong for eleven minutes made all of it older at the next start.
TEST_F(ClockChainTest, AJumpThatWasTakenBackDoesNotDeleteAtTheNextStart) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    Pass(std::chrono::minutes(5));
    test_.clock.wall_jump = std::chrono::hours(100);
    Pass(std::chrono::minutes(11));
    ASSERT_TRUE(test_.Put("other", {"x"}).ok());
    test_.clock.wall_jump = {};
    Pass(std::chrono::hours(1));
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    Pass(std::chrono::hours(2));
    EXPECT_EQ(test_.BodiesIn("orders").size(), 300U);
}

// What kept messages young was in the newest snapshot only.
TEST_F(ClockChainTest, ADamagedSnapshotDoesNotMakeMessagesOlder) {
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    test_.clock.wall_jump = std::chrono::hours(100);  // The machine was suspended.
    FillAtOnce("young");
    Pass(std::chrono::minutes(15));
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    std::string newest;
    const std::vector<std::string> names = disk_.List("/data").value();
    for (const std::string& name : names) {
        newest = name.ends_with(".snapshot") ? std::max(newest, name) : newest;
    }
    ASSERT_TRUE(disk_.FlipBit("/data/" + newest, 20, 0).ok());
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_EQ(test_.store->recovery().corruptions.size(), 1U);
    Pass(std::chrono::minutes(2));
    EXPECT_EQ(test_.BodiesIn("orders").size(), 300U) << "it is believed at a bounded rate anew";
    Pass(std::chrono::hours(10));
    EXPECT_EQ(test_.BodiesIn("young").size(), 300U);
}

/// What the owner is asked before a segment goes.
class MayDropTest : public RetentionTest {
protected:
    void SetUp() override {
        test_.options.retention = std::chrono::seconds(1'000);
        ASSERT_TRUE(test_.Open().ok());
    }
    void AppendCopy(const std::string& subject) {
        ASSERT_TRUE(test_.store
                        ->AppendMove("moved",
                                     *test_.store->FindSubject(subject, true),
                                     MakeBatch({std::string(900, 'y')}))
                        .ok());
    }
    Result<bool> RetainOnce() {
        Result<bool> again = test_.store->Retain();
        EXPECT_TRUE(test_.store->Write().ok());
        return again;
    }
};

TEST_F(MayDropTest, TheOwnerIsAskedWithWhatTheSegmentHolds) {
    Fill("orders", 200);
    std::vector<StoreListener::Going> asked;
    test_.listener->may_drop = [&](std::span<const StoreListener::Going> going) {
        asked.assign(going.begin(), going.end());
        return false;
    };
    EXPECT_TRUE(RetainOnce().value()) << "call again soon";
    ASSERT_EQ(asked.size(), 1U);
    EXPECT_EQ(asked[0].subject, &Log("orders"));
    EXPECT_GT(asked[0].end_sequence, 50U);
    EXPECT_LT(asked[0].end_sequence, 80U);
    for (int i = 0; i < 4; ++i) {
        EXPECT_TRUE(RetainOnce().value());
        test_.SyncAll();
    }
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    test_.listener->may_drop = [](auto) { return true; };
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), 50U);
    EXPECT_FALSE(RetainOnce().value());
}

TEST_F(MayDropTest, ASegmentGoesOnlyOnceWhatWasAppendedForItIsSynced) {
    Fill("orders", 200);
    Retain();
    const std::uint64_t first = Log("orders").first_sequence();
    test_.clock.elapsed += std::chrono::seconds(600);
    bool is_first = true;
    test_.listener->may_drop = [&](auto) {
        if (std::exchange(is_first, false)) {
            AppendCopy("copies");
        }
        return true;
    };
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(RetainOnce().value());
        EXPECT_EQ(Log("orders").first_sequence(), first) << "no sync has returned";
    }
    test_.Settle();  // The write has asked for a sync by itself.
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), first);
    EXPECT_EQ(test_.BodiesIn("copies").size(), 1U);
}

// It went at once: the round that was taken back took along that a sync was waited for.
TEST_F(MayDropTest, ARoundThatIsTakenBackDoesNotLetItGoBeforeThatSync) {
    Fill("orders", 200);
    Retain();
    const std::uint64_t first = Log("orders").first_sequence();
    test_.clock.elapsed += std::chrono::seconds(600);
    bool is_first = true;
    test_.listener->may_drop = [&](auto) {
        if (std::exchange(is_first, false)) {
            AppendCopy("copies");
        }
        return true;
    };
    EXPECT_TRUE(RetainOnce().value());
    ASSERT_TRUE(test_.Append("orders", {"dropped"}).ok());
    test_.store->DropRound();
    EXPECT_TRUE(RetainOnce().value());
    EXPECT_EQ(Log("orders").first_sequence(), first) << "no sync has returned";
    test_.Settle();
    Retain();
    EXPECT_GT(Log("orders").first_sequence(), first);
}

TEST_F(MayDropTest, AboveTheHighWaterMarkNobodyIsAskedAndThatIsTold) {
    Fill("orders", 200);
    bool was_asked = false;
    test_.listener->may_drop = [&](auto) {
        was_asked = true;
        return false;
    };
    disk_.SetCapacity(256U << 10);
    test_.clock.elapsed += std::chrono::seconds(2);
    Retain();
    EXPECT_FALSE(was_asked);
    EXPECT_GT(Log("orders").first_sequence(), 0U);
    EXPECT_EQ(test_.events.Of(env::EventKind::kLimit).size(), 1U);
    disk_.SetCapacity(0);
    test_.clock.elapsed += std::chrono::seconds(2);
    ASSERT_TRUE(test_.Append("orders", {"x"}).ok());
    EXPECT_EQ(test_.events.Of(env::EventKind::kLimit).size(), 2U) << "and its end, too";
}

/// The owner needs all of "orders", which is more than the limit, and appends it anew.
class NeededBytesTest : public MayDropTest {
protected:
    static constexpr std::uint64_t kSegment = 64U << 10;
    static constexpr int kNeeded = 400;  // More than six segments of them.

    void SetUp() override {
        test_.options.retention_bytes = 4 * kSegment;
        ASSERT_TRUE(test_.Open().ok());
        for (int i = 0; i < kNeeded; ++i) {
            ASSERT_TRUE(test_.Put("orders", {std::to_string(1'000 + i) + Padding()}).ok());
        }
        test_.SyncAll();
        test_.listener->may_drop = [this](auto going) { return AppendAnew(going); };
    }
    static std::string Padding() { return std::string(900, 'x'); }
    bool AppendAnew(std::span<const StoreListener::Going> going) {
        int left = 20;
        for (const auto& each : going) {
            const std::string name = each.subject->name();
            if (name == "traffic") {
                continue;
            }
            const auto bodies = test_.ReadAll(name);
            for (auto at = bodies.lower_bound(done_[name]);
                 at != bodies.end() && at->first < each.end_sequence;
                 ++at) {
                if (left-- == 0) {
                    return false;
                }
                SubjectLog& copies = *test_.store->FindSubject("copies", true);
                EXPECT_TRUE(test_.store->AppendMove("moved", copies, MakeBatch({at->second})).ok());
                done_[name] = at->first + 1;
            }
        }
        return true;
    }
    void RetainFor(std::chrono::seconds time) {
        for (std::chrono::seconds passed{}; passed < time; ++passed) {
            test_.clock.elapsed += std::chrono::seconds(1);
            ASSERT_TRUE(RetainOnce().ok());
            test_.SyncAll();
        }
    }
    std::size_t NeededThatAreThere() {
        std::set<std::string> there;
        for (const char* const name : {"orders", "copies"}) {
            for (const std::string& body : test_.BodiesIn(name)) {
                there.insert(body);
            }
        }
        return there.size();
    }
    std::map<std::string, std::uint64_t> done_;
};

TEST_F(NeededBytesTest, MoreThanTheLimitStaysAndIsWrittenAnewAtABoundedRate) {
    const LogOffset before = test_.store->written();
    RetainFor(std::chrono::seconds(120));
    EXPECT_EQ(NeededThatAreThere(), kNeeded);
    EXPECT_GT(test_.store->stored_bytes(), test_.options.retention_bytes);
    // Half of the limit at once, a segment a minute, and what one question may add.
    EXPECT_LT(test_.store->written() - before, (2 + 2 + 1) * kSegment);
    const auto told = test_.events.Of(env::EventKind::kLimit);
    ASSERT_EQ(told.size(), 1U);
    EXPECT_GT(told[0].bytes, test_.options.retention_bytes);
}

TEST_F(NeededBytesTest, OthersBytesGoAndTheLogGrowsToAFewTimesWhatIsNeeded) {
    for (int i = 0; i < 3'000; ++i) {
        ASSERT_TRUE(test_.Put("traffic", {Padding()}).ok());
        ASSERT_TRUE(RetainOnce().ok());
        test_.SyncAll();
    }
    EXPECT_EQ(NeededThatAreThere(), kNeeded);
    EXPECT_LT(test_.store->stored_bytes(), 3 * 7 * kSegment);
    test_.listener->may_drop = [](auto) { return true; };
    RetainFor(std::chrono::seconds(120));
    EXPECT_LE(test_.store->stored_bytes(), test_.options.retention_bytes);
}

TEST_F(NeededBytesTest, AboveTheHighWaterMarkTheLogComesBelowItsLimit) {
    RetainFor(std::chrono::seconds(60));
    disk_.SetCapacity(7 * kSegment);
    RetainFor(std::chrono::seconds(5));
    EXPECT_LE(test_.store->stored_bytes(), test_.options.retention_bytes);
    EXPECT_LT(NeededThatAreThere(), kNeeded);
}

#ifdef QMQ_PLANTED_BUGS
TEST_F(RetentionClockTest, PlantedAbsenceAtOnceBelievesAllOfADowntimeAtOnce) {
    env::Plant(env::PlantedBug::kAbsenceAtOnce);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.Kill();
    test_.clock.elapsed += std::chrono::hours(73);
    ASSERT_TRUE(test_.Open().ok());
    Pass(std::chrono::minutes(9));
    EXPECT_EQ(Log("orders").first_sequence(), 0U);
    Pass(std::chrono::minutes(2));
    env::Plant(env::PlantedBug::kNone);
    EXPECT_GT(Log("orders").first_sequence(), 200U);
}

TEST_F(RetentionClockTest, PlantedTrustWallClockDeletesByOneReading) {
    env::Plant(env::PlantedBug::kTrustWallClock);
    ASSERT_TRUE(test_.Open().ok());
    Fill("orders");
    test_.clock.wall_jump = std::chrono::hours(24 * 4);
    Pass(std::chrono::seconds(45));
    env::Plant(env::PlantedBug::kNone);
    EXPECT_GT(Log("orders").first_sequence(), 200U);
}
#endif

}  // namespace
}  // namespace qmq::store
