#include <memory_resource>

#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "server/store/log_inspector.h"
#include "server/store/record.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class FailureTest : public testing::Test {
protected:
    env::SimulatedFileSystem disk_{7};
    TestStore test_{disk_};
};

/// Everything that a store does with its disk, while one call to it fails.
class Scenario {
public:
    Scenario(std::uint64_t step, StatusCode code) {
        test_.options.retention = std::chrono::seconds(10);
        disk_.FailStep(step, code);
    }

    bool step_was_reached() const { return disk_.step_has_failed(); }

    void Run() {
        if (!test_.Open().ok()) {
            return;
        }
        for (int i = 0; i < 24; ++i) {
            test_.clock.elapsed += std::chrono::seconds(1);
            Put("a" + std::to_string(i % 2), i);
            if (i % 2 == 0) {
                test_.SyncAll();
                NoteSynced();
            }
            if (i == 20) {
                // Errors of it may be told, and change nothing that was promised.
                static_cast<void>(test_.store->Retain());
                test_.Settle();
            }
            if (SubjectLog* const log = test_.store->FindSubject("a0", false)) {
                ReadRequest request;
                request.from = log->first_sequence();
                request.end = log->next_sequence();
                request.max_messages = 3;
                static_cast<void>(test_.store->Read(*log, request));
            }
        }
        NoteSynced();
        static_cast<void>(test_.Close());
        NoteSynced();
    }

    /// The disk is well again. Says what was promised and is not there.
    std::string Check() {
        test_.Kill();
        disk_.Heal();
        disk_.CutPower();
        const Status status = test_.Open();
        if (!status.ok()) {
            return "does not open: " + status.ToString();
        }
        for (const auto& [subject, sent] : synced_) {
            const auto found = test_.ReadAll(subject);
            SubjectLog* const log = test_.store->FindSubject(subject, false);
            for (const auto& [sequence, body] : sent) {
                const bool is_expired = log != nullptr && sequence < log->first_sequence();
                if (!is_expired && (!found.contains(sequence) || found.at(sequence) != body)) {
                    return subject + " " + std::to_string(sequence) + " is gone";
                }
            }
        }
        for (const auto& corruption : test_.store->recovery().corruptions) {
            if (corruption.committed) {
                return "corrupt: " + corruption.path + " " + corruption.reason;
            }
        }
        // Whatever happened, it works again.
        if (!test_.Put("after", {"x"}).ok() || !test_.Close().ok()) {
            return "does not work any more";
        }
        const auto verified = VerifyStore(disk_, "/data", AnyAction);
        if (!verified.ok() || !verified.value().problems.empty()) {
            return "is not sound: " +
                   (verified.ok() ? verified.value().problems[0] : verified.status().ToString());
        }
        return "";
    }

private:
    void Put(const std::string& subject, int i) {
        const std::string body = std::to_string(i) + std::string(14'000, 'x');
        const auto appended = test_.Append(subject, {body});
        if (!appended.ok()) {
            return;
        }
        if (test_.store->Write().ok()) {
            written_.push_back(
                {subject, appended.value().first_sequence, body, appended.value().end});
        }
    }

    void NoteSynced() {
        for (const Sent& sent : written_) {
            if (sent.end <= test_.store->synced()) {
                synced_[sent.subject][sent.sequence] = sent.body;
            }
        }
    }

    struct Sent {
        std::string subject;
        std::uint64_t sequence;
        std::string body;
        LogOffset end;
    };
    env::SimulatedFileSystem disk_{11};
    TestStore test_{disk_};
    std::vector<Sent> written_;
    std::map<std::string, std::map<std::uint64_t, std::string>> synced_;
};

class EachStepTest : public testing::TestWithParam<StatusCode> {};

TEST_P(EachStepTest, FailsOnceAndNothingThatWasPromisedIsLost) {
    std::uint64_t step = 1;
    for (;; ++step) {
        Scenario scenario(step, GetParam());
        scenario.Run();
        if (!scenario.step_was_reached()) {
            break;
        }
        ASSERT_EQ(scenario.Check(), "") << "step " << step;
    }
    EXPECT_GT(step, 150U) << "the scenario has become too short to show anything";
}

INSTANTIATE_TEST_SUITE_P(Codes,
                         EachStepTest,
                         testing::Values(StatusCode::kDataLoss,
                                         StatusCode::kResourceExhausted,
                                         StatusCode::kInternal));

TEST_F(FailureTest, AFullDiskRefusesAndTakesBackAndGoesOnOnceThereIsRoom) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"before"}).ok());
    ASSERT_TRUE(test_.Append("orders", {"refused", "refused"}).ok());
    ASSERT_TRUE(test_.Append("fresh", {"refused"}).ok());
    disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
    EXPECT_EQ(test_.store->Write().code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("before"));
    EXPECT_THAT(test_.BodiesIn("fresh"), IsEmpty());
    EXPECT_EQ(test_.store->FindSubject("orders", false)->next_sequence(), 1U);
    ASSERT_TRUE(test_.Put("orders", {"after"}).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("before", "after"));
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("before", "after"));
    EXPECT_THAT(test_.listener->failures, IsEmpty());
}

TEST_F(FailureTest, WhatAFullDiskRefusedNeverComesBack) {
    // The write ends somewhere, perhaps behind records that are whole.
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        ASSERT_TRUE(test.Open().ok());
        ASSERT_TRUE(test.Put("orders", {"before"}).ok());
        for (int i = 0; i < 100; ++i) {  // Into the next segment, too.
            ASSERT_TRUE(test.Append("orders", {std::string(900, 'x')}).ok());
        }
        disk.FailNextWrites(1, StatusCode::kResourceExhausted);
        ASSERT_EQ(test.store->Write().code(), StatusCode::kResourceExhausted);
        test.Kill();
        seed % 2 == 0 ? disk.CutPower() : disk.CloseAll();
        ASSERT_TRUE(test.Open().ok());
        const auto left = test.BodiesIn("orders");
        EXPECT_LE(left.size(), 1U) << "seed " << seed;
    }
}

TEST_F(FailureTest, WhileADiskIsTooFullToTakeBackNothingIsCalledRefused) {
    bool was_blocked = false;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        ASSERT_TRUE(test.Open().ok());
        for (int i = 0; i < 10; ++i) {
            ASSERT_TRUE(test.Append("orders", {"maybe"}).ok());
        }
        disk.SetFull(true);
        const Status status = test.store->Write();
        EXPECT_FALSE(status.ok());
        if (status.code() == StatusCode::kResourceExhausted) {
            continue;  // No record of it was whole.
        }
        EXPECT_EQ(status.code(), StatusCode::kUnavailable);
        const auto refused = test.store->AppendAction("x");
        if (refused.ok()) {
            continue;  // The first try to take it back failed, but had done enough.
        }
        was_blocked = true;
        EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
        disk.SetFull(false);
        ASSERT_TRUE(test.Put("orders", {"after"}).ok());
        EXPECT_THAT(test.BodiesIn("orders"), ElementsAre("after"));
        EXPECT_THAT(test.listener->failures, IsEmpty());
    }
    EXPECT_TRUE(was_blocked);
}

TEST_F(FailureTest, WhatAFullDiskTookBackDoesNotComeBackAfterAPowerCut) {
    int taken_back_late = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        ASSERT_TRUE(test.Open().ok());
        for (int i = 0; i < 10; ++i) {
            ASSERT_TRUE(test.Append("orders", {"refused"}).ok());
        }
        disk.SetFull(true);
        Status status = test.store->Write();
        // While it cannot take it back nothing is appended; from then on it counts as refused.
        for (; status.code() == StatusCode::kUnavailable; ++taken_back_late) {
            const auto next = test.store->AppendAction("x");
            status = next.ok() ? Status::Ok() : Status::Unavailable("still there");
        }
        test.Kill();
        disk.CutPower();
        disk.SetFull(false);
        ASSERT_TRUE(test.Open().ok());
        EXPECT_THAT(test.BodiesIn("orders"), IsEmpty()) << "seed " << seed;
    }
    EXPECT_GT(taken_back_late, 0);
}

/// Refused rounds lie over each other, then perhaps one that is written; messages differ in their
/// first bytes only, so that the parts of two may make up one.
std::vector<std::string> LeftAfterRefusals(std::uint64_t seed, bool writes_at_last, int first) {
    env::SimulatedFileSystem disk(seed);
    TestStore test(disk);
    EXPECT_TRUE(test.Open().ok());
    for (int i = 0; i < first; ++i) {
        EXPECT_TRUE(test.Put("orders", {std::string(1'000, 'b')}).ok());
    }
    test.SyncAll();
    for (unsigned round = 0; round < 3; ++round) {
        const bool is_written = writes_at_last && round == 2;
        const bool is_zeros = seed % 2 == 0 && round > 0;
        std::string body(seed % 3 == 0 ? 700U + 200U * round : 700U, is_zeros ? '\0' : 'x');
        body.replace(0, 8, is_written ? "written " : "refused ");
        body[8] = static_cast<char>(round + 1);
        for (int i = 0; i < 6; ++i) {
            EXPECT_TRUE(test.Append("orders", {body}).ok());
        }
        if (!is_written) {
            disk.FailNextWrites(1, StatusCode::kResourceExhausted);
        }
        EXPECT_EQ(test.store->Write().code(),
                  is_written ? StatusCode::kOk : StatusCode::kResourceExhausted);
    }
    test.Kill();
    disk.CutPower();
    EXPECT_TRUE(test.Open().ok());
    return test.BodiesIn("orders");
}

TEST_F(FailureTest, WhatWasRefusedStaysAwayWhateverAPowerCutTakesOfTheWritesAroundIt) {
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        for (const bool writes_at_last : {false, true}) {
            // The second begins near the end of a segment, so that the next is taken back, too.
            for (const int first : {1, 58}) {
                EXPECT_THAT(LeftAfterRefusals(seed, writes_at_last, first),
                            Each(Not(HasSubstr("refused"))))
                    << "seed " << seed << " " << writes_at_last << " " << first;
            }
        }
    }
}

TEST_F(FailureTest, NoRoomForTheNextSegmentRefusesTheAppendAndNothingElse) {
    ASSERT_TRUE(test_.Open().ok());
    disk_.SetCapacity(100U << 10);
    Status status;
    int count = 0;
    for (; count < 200 && status.ok(); ++count) {
        status = test_.Put("orders", {std::string(1'000, 'x')});
    }
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_GT(count, 50);
    test_.Settle();
    disk_.SetCapacity(0);
    test_.clock.elapsed += std::chrono::seconds(2);  // The mark is looked at once a second.
    ASSERT_TRUE(test_.Put("orders", {std::string(1'000, 'y')}).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), static_cast<std::size_t>(count));
}

TEST_F(FailureTest, AStartThatHasNoRoomForTheNextSegmentSaysHowMuchItNeeds) {
    ASSERT_TRUE(test_.Open().ok());
    disk_.SetCapacity(100U << 10);
    while (test_.Act(std::string(900, 'x')).ok() || test_.Act("x").ok()) {
    }
    test_.Settle();
    const Status status = test_.Reopen();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("no room for the next 65536 bytes"));
    disk_.SetCapacity(0);
    EXPECT_TRUE(test_.Reopen().ok());
}

TEST_F(FailureTest, AboveTheHighWaterMarkMessagesAreRefusedAndActionsAreNot) {
    ASSERT_TRUE(test_.Open().ok());
    disk_.SetCapacity(66U << 10);
    const auto refused = test_.Append("orders", {"x"});
    EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("% full"));
    EXPECT_TRUE(test_.Act("acked").ok());
    EXPECT_TRUE(
        test_.store->AppendMove("moved", *test_.store->FindSubject("retry", true), MakeBatch({"m"}))
            .ok());
    disk_.SetCapacity(0);
    EXPECT_FALSE(test_.Append("orders", {"x"}).ok()) << "looked at once a second";
    test_.clock.elapsed += std::chrono::seconds(1);
    EXPECT_TRUE(test_.Append("orders", {"x"}).ok());
}

TEST_F(FailureTest, AFailedSyncStopsTheStoreForGood) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    disk_.FailNextSyncs(1);
    test_.SyncAll();
    ASSERT_THAT(test_.listener->failures, SizeIs(1));
    EXPECT_THAT(test_.events.Of(env::EventKind::kStopped), SizeIs(1));
    EXPECT_THAT(test_.listener->syncs, IsEmpty());
    const auto appended = test_.Append("orders", {"y"});
    EXPECT_EQ(appended.status().code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(appended.status().message()), HasSubstr("has stopped writing"));
    EXPECT_EQ(test_.store->AppendAction("a").status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(test_.store->Write().code(), StatusCode::kUnavailable);
    test_.SyncAll();
    EXPECT_THAT(test_.listener->syncs, IsEmpty()) << "a sync is never tried again";
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("x")) << "reading goes on";
    EXPECT_EQ(test_.Close().code(), StatusCode::kUnavailable);
}

TEST_F(FailureTest, WhatAFailedSyncLostIsWrittenAgainByTheNextStart) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::to_string(i)}).ok());
    }
    disk_.FailNextSyncs(1);
    test_.SyncAll();
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), SizeIs(20));
    test_.Kill();
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), SizeIs(20)) << "the start said that they are durable";
}

// The sync of what is taken back was tried again when it had no room, and then believed, and with
// it all that was written to the file before: messages that were promised to be durable were lost.
TEST_F(FailureTest, ASyncThatHasNoRoomStopsTheStoreToo) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"written"}).ok());
    ASSERT_TRUE(test_.Append("orders", {"taken back"}).ok());
    disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
    disk_.FailNextSyncs(1, StatusCode::kResourceExhausted);
    EXPECT_EQ(test_.store->Write().code(), StatusCode::kUnavailable);
    EXPECT_EQ(test_.Act("later").code(), StatusCode::kUnavailable);
    test_.SyncAll();
    EXPECT_THAT(test_.listener->failures, SizeIs(1));
    EXPECT_THAT(test_.listener->syncs, IsEmpty());
}

// The open segment was ended although what a full disk had taken back still lay behind its last
// record: its last mark came over the first of these records, and the others stayed behind it.
TEST(TakeBackTest, TheOpenSegmentIsNotEndedWhileWhatWasTakenBackIsThere) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        env::SimulatedFileSystem disk(seed);
        TestStore test(disk);
        test.options.retention = std::chrono::seconds(10);
        ASSERT_TRUE(test.Open().ok());
        for (int i = 0; i < 40; ++i) {  // More than half: the next segment is made ahead.
            ASSERT_TRUE(test.Put("orders", {std::string(900, 'x')}).ok());
        }
        test.SyncAll();
        for (int i = 0; i < 10; ++i) {
            ASSERT_TRUE(test.Append("orders", {std::string(300, 'u')}).ok());
        }
        disk.SetFull(true);
        EXPECT_FALSE(test.store->Write().ok());
        test.clock.elapsed += std::chrono::seconds(20);
        static_cast<void>(test.store->Retain());
        disk.SetFull(false);
        static_cast<void>(test.Close());
        test.Kill();
        const auto verified = VerifyStore(disk, "/data", AnyAction);
        ASSERT_TRUE(verified.ok());
        ASSERT_THAT(verified.value().problems, IsEmpty()) << "seed " << seed;
    }
}

class FullSegmentTest : public FailureTest {
protected:
    /// Fills segment 0 to its last byte, and begins segment 1 while a sync of it is under way.
    void FillAndBeginTheNext() {
        ASSERT_TRUE(test_.Open().ok());
        ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
        constexpr std::uint64_t kFront = RecordHeader::kBytes + 8;  // Of an action's record.
        const std::uint64_t room = test_.options.segment_bytes - test_.store->written();
        ASSERT_TRUE(test_.Act(std::string(room - kFront, 'a')).ok());
        ASSERT_EQ(test_.store->written(), test_.options.segment_bytes);
        test_.store->Sync();
        ASSERT_TRUE(test_.Append("orders", {"refused"}).ok());
    }
    void TakeBack() {
        disk_.FailNextWrites(1, StatusCode::kResourceExhausted);
        ASSERT_EQ(test_.store->Write().code(), StatusCode::kResourceExhausted);
    }
};

// The index of a segment without room for a last mark was written, and forgotten in memory, while
// the round that had begun the next one could still be taken back: the next append crashed.
TEST_F(FullSegmentTest, ARoundThatIsTakenBackBehindItLeavesItUsable) {
    FillAndBeginTheNext();
    test_.Settle();  // The sync returns; the index of segment 0 would be due.
    TakeBack();
    ASSERT_TRUE(test_.Put("orders", {"again"}).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("x", "again"));
    test_.SyncAll();
    EXPECT_TRUE(disk_.Exists("/data/00000000000000000000.index").value());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("x", "again"));
}

TEST_F(FullSegmentTest, AnIndexThatIsDoneAfterTheRoundWasTakenBackDoesNoHarm) {
    FillAndBeginTheNext();
    while (test_.store->synced() < test_.options.segment_bytes) {
        ASSERT_TRUE(test_.io.RunOne() || test_.executor.RunOne());
    }
    TakeBack();
    test_.Settle();
    test_.clock.elapsed += test_.options.retention * 2;
    EXPECT_TRUE(test_.store->Retain().ok());  // Crashed when it moved on from the full segment.
    ASSERT_TRUE(test_.Put("orders", {"again"}).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), Contains("again"));
}

/// Counts what is allocated with it and not yet freed.
class CountingMemory final : public std::pmr::memory_resource {
public:
    CountingMemory() : before_(std::pmr::set_default_resource(this)) {}
    ~CountingMemory() override { std::pmr::set_default_resource(before_); }
    std::uint64_t bytes = 0;

private:
    void* do_allocate(std::size_t count, std::size_t alignment) override {
        bytes += count;
        return std::pmr::new_delete_resource()->allocate(count, alignment);
    }
    void do_deallocate(void* piece, std::size_t count, std::size_t alignment) override {
        bytes -= count;
        std::pmr::new_delete_resource()->deallocate(piece, count, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override {
        return this == &other;
    }
    std::pmr::memory_resource* const before_;
};

// Each refused round left some 600 bytes in the memory of the open segment's index.
TEST(TakeBackTest, RoundsThatAreTakenBackCostNoMemory) {
    CountingMemory memory;
    env::SimulatedFileSystem disk(7);
    TestStore test(disk);
    ASSERT_TRUE(test.Open().ok());
    const std::uint64_t before = memory.bytes;
    for (int i = 0; i < 1'000; ++i) {
        ASSERT_TRUE(test.Append("orders", {"refused"}).ok());
        disk.FailNextWrites(1, StatusCode::kResourceExhausted);
        ASSERT_EQ(test.store->Write().code(), StatusCode::kResourceExhausted);
    }
    EXPECT_LT(memory.bytes - before, 64U << 10);
    // A subject that has nothing in the segment any more is not in its index file.
    for (int i = 0; i < 80; ++i) {
        ASSERT_TRUE(test.Put("others", {std::string(900, 'x')}).ok());
    }
    test.SyncAll();
    ASSERT_TRUE(test.Close().ok());
    test.Kill();
    EXPECT_THAT(VerifyStore(disk, "/data", AnyAction).value().problems, IsEmpty());
}

TEST_F(FailureTest, AWriteErrorStopsTheStoreAndTheRoundIsGone) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Append("orders", {"lost"}).ok());
    disk_.FailNextWrites(1);
    EXPECT_EQ(test_.store->Write().code(), StatusCode::kUnavailable);
    EXPECT_THAT(test_.listener->failures, IsEmpty()) << "never from inside of a call";
    test_.Settle();
    EXPECT_THAT(test_.listener->failures, SizeIs(1));
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept"));
}

TEST_F(FailureTest, AReadErrorIsToldAndPasses) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    ASSERT_TRUE(test_.Reopen().ok());  // Nothing is cached any more.
    SubjectLog* const log = test_.store->FindSubject("orders", false);
    ReadRequest request;
    request.end = 1;
    disk_.FailReads(true);
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(test_.store->Read(*log, request).status().code(), StatusCode::kUnavailable);
    }
    disk_.FailReads(false);
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("x"));
}

TEST_F(FailureTest, AReadErrorThatStaysMakesTheMessageCorrupt) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"x"}).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    SubjectLog* const log = test_.store->FindSubject("orders", false);
    ReadRequest request;
    request.end = 1;
    disk_.FailReads(true);
    for (int i = 0; i < 10; ++i) {
        static_cast<void>(test_.store->Read(*log, request));
        test_.clock.elapsed += std::chrono::seconds(5);
    }
    const auto reply = test_.store->Read(*log, request);
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.value().next, 1U);
    EXPECT_EQ(reply.value().corrupt_count, 1U);
}

TEST_F(FailureTest, ARecordDamagedWhileTheStoreRunsIsSkippedAndCounted) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"b"}).ok());
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    // The first message record follows the start record of 56 bytes.
    ASSERT_TRUE(disk_.FlipBit("/data/00000000000000000000.log", 120, 0).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("b"));
    EXPECT_EQ(test_.corrupt_count, 1U);
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("b"));
    const auto told = test_.events.Of(env::EventKind::kDamage);
    ASSERT_THAT(told, SizeIs(1)) << "once, however often it is read";
    EXPECT_EQ(told[0].count, 1U);
    EXPECT_THAT(told[0].place, HasSubstr("orders"));
}

TEST_F(FailureTest, WhatIsFoundDamagedAtAStartIsTold) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a"}).ok());
    test_.SyncAll();
    ASSERT_TRUE(disk_.FlipBit("/data/00000000000000000000.log", 120, 0).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    const auto told = test_.events.Of(env::EventKind::kDamage);
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_GT(told[0].bytes, 64U);
}

TEST_F(FailureTest, ARecordThatFitsNoSegmentIsRefusedAtOnce) {
    ASSERT_TRUE(test_.Open().ok());
    const auto refused = test_.Append("orders", {std::string(70'000, 'x')});
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(test_.store->AppendAction(std::string(70'000, 'x')).status().code(),
              StatusCode::kInvalidArgument);
    ASSERT_TRUE(test_.Put("orders", {"fits"}).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("fits"));
}

#ifdef QMQ_PLANTED_BUGS
class PlantedFailureTest : public FailureTest {
protected:
    ~PlantedFailureTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedFailureTest, NoHighWaterTakesMessagesHoweverFullTheDiskIs) {
    env::Plant(env::PlantedBug::kNoHighWater);
    ASSERT_TRUE(test_.Open().ok());
    disk_.SetCapacity(66U << 10);
    EXPECT_TRUE(test_.Append("orders", {"x"}).ok());
}

TEST_F(PlantedFailureTest, NoRewriteLosesWhatAFailedSyncLost) {
    env::Plant(env::PlantedBug::kNoRewrite);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::to_string(i)}).ok());
    }
    disk_.FailNextSyncs(1);
    test_.SyncAll();
    ASSERT_TRUE(test_.Reopen().ok());
    test_.Kill();
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_LT(test_.BodiesIn("orders").size(), 20U);
}

TEST_F(PlantedFailureTest, SyncCoversAllPromisesWhatIsWrittenMeanwhile) {
    env::Plant(env::PlantedBug::kSyncCoversAll);
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a"}).ok());
    test_.store->Sync();
    while (test_.io.RunOne()) {
    }
    ASSERT_TRUE(test_.Put("orders", {"b"}).ok());
    const LogOffset end = test_.store->written();
    test_.executor.RunAll();
    EXPECT_GE(test_.store->synced(), end);
}
#endif

TEST_F(FailureTest, AMoveOfBytesThatAreNoBatchIsRefused) {
    ASSERT_TRUE(test_.Open().ok());
    SubjectLog* const log = test_.store->FindSubject("retry", true);
    EXPECT_EQ(
        test_.store->AppendMove("a", *log, Slice::Borrow("no batch, that is sure")).status().code(),
        StatusCode::kInvalidArgument);
    EXPECT_EQ(log->next_sequence(), 0U);
}

}  // namespace
}  // namespace qmq::store
