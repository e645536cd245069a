#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "server/store/log_inspector.h"
#include "server/store/record.h"
#include "server/store/store_settings.h"
#include "tests/unit/store/hooked_files.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Where a record lies on the simulated disk.
struct RecordPlace {
    RecordKind kind;
    std::string path;
    std::uint64_t position;
    std::uint64_t bytes;
    std::uint64_t end() const { return position + bytes; }  // In the log, of its first segment.
};

class PlaceFinder final : public LogVisitor {
public:
    bool OnRecord(const Record& record, const LogPlace& place) override {
        places.push_back(
            {record.header.kind, place.path, place.file_offset, record.header.record_bytes()});
        return true;
    }
    bool OnDamage(const LogDamage&) override { return true; }
    std::vector<RecordPlace> places;
};

class RecoveryTest : public testing::Test {
protected:
    std::vector<RecordPlace> Records() {
        PlaceFinder finder;
        EXPECT_TRUE(InspectLog(disk_, "/data", finder).ok());
        return finder.places;
    }
    std::vector<std::string> Names() { return disk_.List("/data").value(); }
    /// The last record with messages.
    RecordPlace LastMessages() {
        RecordPlace last{};
        for (const RecordPlace& place : Records()) {
            if (place.kind == RecordKind::kMessages) {
                last = place;
            }
        }
        return last;
    }
    LogSeed Seed() {
        return ParseSettings(disk_.Contents("/data/store.json").value()).value().seed;
    }
    static std::uint64_t EncodedBytesOf(std::string_view action) {
        Record record;
        record.header.kind = RecordKind::kAction;
        record.action = action;
        return EncodedBytes(record);
    }
    /// What waits behind the sync does not run.
    void RunUntilSynced() {
        while (test_.listener->syncs.empty() && (test_.io.RunOne() || test_.executor.RunOne())) {
        }
        ASSERT_THAT(test_.listener->syncs, ElementsAre(Ge(LastMessages().end())));
    }
    void ExpectDamageOfTheLastIsNoTornTail() {
        test_.Kill();
        const RecordPlace last = LastMessages();
        ASSERT_TRUE(disk_.FlipBit(last.path, last.position + 70, 3).ok());
        ASSERT_TRUE(test_.Open().ok());
        ASSERT_EQ(report().corruptions.size(), 1U);
        EXPECT_TRUE(report().corruptions[0].committed);
        EXPECT_GT(test_.store->FindSubject("orders", false)->next_sequence(), 1U)
            << "the sequence of the lost message is not given to another";
    }
    const RecoveryReport& report() { return test_.store->recovery(); }

    env::SimulatedFileSystem disk_{1};
    TestStore test_{disk_};
};

TEST_F(RecoveryTest, ATailTornAtAnyByteIsCutAndAllBeforeItStays) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"torn"}).ok());
    const RecordPlace last = LastMessages();
    const std::string whole = disk_.Contents(last.path).value();
    for (std::uint64_t torn = 0; torn < last.bytes; ++torn) {
        test_.Kill();
        disk_.CloseAll();
        // The file as it was, but for what of the last record did not reach the disk.
        std::string damaged = whole;
        std::fill(damaged.begin() + static_cast<std::ptrdiff_t>(last.position + torn),
                  damaged.begin() + static_cast<std::ptrdiff_t>(last.position + last.bytes),
                  '\0');
        ASSERT_TRUE(disk_.Damage(last.path, 0, damaged).ok());
        ASSERT_TRUE(test_.Open().ok()) << torn;
        // The record ends in padding, and a record without its last zeros is whole.
        const bool is_whole = damaged == whole;
        EXPECT_EQ(test_.BodiesIn("orders").size(), is_whole ? 2U : 1U) << torn;
        EXPECT_THAT(report().corruptions, IsEmpty()) << torn;
        EXPECT_EQ(report().torn_tail_bytes > 0, !is_whole && torn > 0) << torn;
        ASSERT_TRUE(test_.Put("orders", {"after"}).ok());
        ASSERT_TRUE(test_.Reopen().ok());
        EXPECT_EQ(test_.BodiesIn("orders").back(), "after") << torn;
        EXPECT_EQ(test_.BodiesIn("orders").front(), "kept") << torn;
    }
}

// Synced records between the newest snapshot and the first segment that is left were gone, and
// nobody was told.
TEST(MissingBeginTest, ASegmentThatIsGoneBehindTheSnapshotIsReported) {
    env::SimulatedFileSystem disk(5);
    HookedFiles files(disk);
    TestStore test(files);
    ASSERT_TRUE(test.Open().ok());
    ASSERT_TRUE(test.Put("orders", {"x"}).ok());
    ASSERT_TRUE(test.Close().ok());  // Its snapshot lies in segment 0.
    ASSERT_TRUE(test.Reopen().ok());
    // From now on there is no room for a snapshot …
    files.before_rename = [](const std::string& to) {
        return to.ends_with(".snapshot") ? Status::ResourceExhausted("no space left on device")
                                         : Status::Ok();
    };
    for (int i = 0; i < 150; ++i) {
        ASSERT_TRUE(test.Put("orders", {std::string(900, 'x')}).ok());
    }
    test.SyncAll();
    test.Kill();
    // … so somebody makes some.
    ASSERT_TRUE(disk.Remove("/data/00000000000000000000.log").ok());
    ASSERT_TRUE(disk.Remove("/data/00000000000000000000.index").ok());
    EXPECT_THAT(VerifyStore(disk, "/data", AnyAction)->problems, Not(IsEmpty()));
    ASSERT_TRUE(test.Open().ok());
    ASSERT_EQ(test.store->recovery().corruptions.size(), 1U);
    EXPECT_TRUE(test.store->recovery().corruptions[0].committed);
    EXPECT_EQ(test.store->recovery().corruptions[0].end, test.options.segment_bytes);
    EXPECT_THAT(test.events.Of(env::EventKind::kDamage), Not(IsEmpty()));
}

TEST_F(RecoveryTest, AnyBitOfTheLastRecordFlippedCutsItAndNothingElse) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"flipped"}).ok());
    const RecordPlace last = LastMessages();
    const std::string whole = disk_.Contents(last.path).value();
    for (std::uint64_t bit = 0; bit < last.bytes * 8; ++bit) {
        test_.Kill();
        disk_.CloseAll();
        ASSERT_TRUE(disk_.Damage(last.path, 0, whole).ok());
        ASSERT_TRUE(
            disk_.FlipBit(last.path, last.position + bit / 8, static_cast<unsigned>(bit % 8)).ok());
        ASSERT_TRUE(test_.Open().ok()) << bit;
        EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept")) << bit;
        EXPECT_GT(report().torn_tail_bytes, 0U) << bit;
    }
}

TEST_F(RecoveryTest, AnyBitOfAMiddleRecordFlippedLosesItAndKeepsWhatFollows) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"first"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"flipped"}).ok());
    const RecordPlace middle = LastMessages();
    ASSERT_TRUE(test_.Put("orders", {"last"}).ok());
    test_.SyncAll();
    const std::string whole = disk_.Contents(middle.path).value();
    for (std::uint64_t bit = 0; bit < middle.bytes * 8; ++bit) {
        test_.Kill();
        disk_.CloseAll();
        ASSERT_TRUE(disk_.Damage(middle.path, 0, whole).ok());
        ASSERT_TRUE(
            disk_.FlipBit(middle.path, middle.position + bit / 8, static_cast<unsigned>(bit % 8))
                .ok());
        ASSERT_TRUE(test_.Open().ok()) << bit;
        EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("first", "last")) << bit;
        EXPECT_EQ(test_.corrupt_count, 1U) << bit;
        ASSERT_EQ(report().corruptions.size(), 1U) << bit;
        EXPECT_EQ(report().corruptions[0].begin, middle.position);
        EXPECT_EQ(report().corruptions[0].end, middle.position + middle.bytes);
        EXPECT_TRUE(report().corruptions[0].committed);
        EXPECT_EQ(report().torn_tail_bytes, 0U);
    }
}

TEST_F(RecoveryTest, DamageOfTheLastSyncedRecordIsCorruptionAndNotATornTail) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept", "kept too"}).ok());
    const auto appended = test_.Append("orders", {"damaged"});
    ASSERT_TRUE(test_.store->Write().ok());
    test_.SyncAll();  // A mark follows that tells of the sync.
    const RecordPlace last = LastMessages();
    ASSERT_TRUE(disk_.FlipBit(last.path, last.position + 80, 3).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    ASSERT_EQ(report().corruptions.size(), 1U);
    EXPECT_TRUE(report().corruptions[0].committed);
    EXPECT_THAT(report().corruptions[0].reason, HasSubstr("stored crc"));
    EXPECT_GT(test_.store->FindSubject("orders", false)->next_sequence(), 2U)
        << "the sequence of the lost message is not given to another";
    ASSERT_TRUE(test_.Put("orders", {"new"}).ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept", "kept too", "new"));
    EXPECT_GE(test_.corrupt_count, 1U);
}

TEST_F(RecoveryTest, WhatIsSyncedIsKnownToBeSoWhileTheStoreIsClosed) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"damaged"}).ok());
    test_.store->Close([](const Status&) { FAIL() << "the last snapshot takes longer"; });
    RunUntilSynced();
    ExpectDamageOfTheLastIsNoTornTail();
}

TEST_F(RecoveryTest, WhatIsSyncedIsKnownToBeSoWhileASyncThatCoversNothingMoreRuns) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"damaged"}).ok());
    test_.store->Sync();
    test_.store->Sync();
    RunUntilSynced();
    ExpectDamageOfTheLastIsNoTornTail();
}

TEST_F(RecoveryTest, AMarkThatBeginsASegmentKeepsNoCloseWaiting) {
    ASSERT_TRUE(test_.Open().ok());
    // No room is left for a mark.
    const std::uint64_t left = test_.options.segment_bytes - test_.store->written();
    const std::uint64_t record = EncodedBytesOf("");
    ASSERT_TRUE(test_.Act(std::string(left - record, 'a')).ok());
    ASSERT_EQ(test_.store->written(), test_.options.segment_bytes);
    ASSERT_TRUE(test_.Close().ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(report().corruptions, IsEmpty());
    EXPECT_EQ(report().replayed_record_count, 0U);
}

TEST_F(RecoveryTest, SegmentsOfWhichAPowerCutLeftNothingAreHolesAsAWhole) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("idle", {"kept"}).ok());
    test_.SyncAll();
    const std::uint64_t segment = test_.options.segment_bytes;
    const LogOffset begin = test_.store->written();
    const std::string taken(10'000, 'x');
    while (test_.store->written() <= 2 * segment) {
        ASSERT_TRUE(test_.Put("orders", {taken}).ok());
    }
    ASSERT_TRUE(test_.Put("orders", {"left"}).ok());
    test_.Kill();
    disk_.CloseAll();
    const std::string first = "/data/00000000000000000000.log";
    const std::string second = "/data/00000000000000065536.log";
    ASSERT_TRUE(disk_.Damage(first, begin, std::string(segment - begin, '\0')).ok());
    ASSERT_TRUE(disk_.Damage(second, 0, std::string(segment, '\0')).ok());
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_EQ(report().corruptions.size(), 2U);
    EXPECT_EQ(report().corruptions[0].begin, begin);
    EXPECT_EQ(report().corruptions[1].begin, segment);
    EXPECT_EQ(report().corruptions[1].end, 2 * segment);
    // So many messages of it may have been there.
    EXPECT_GE(test_.store->FindSubject("idle", false)->next_sequence(), (2 * segment - begin) / 16);
    EXPECT_EQ(test_.BodiesIn("orders").back(), "left");
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(report().corruptions, IsEmpty()) << "it is told once";
}

TEST_F(RecoveryTest, WhatAPowerCutTookUnsyncedIsLeftOutAndNotCountedAsDamage) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("idle", {"kept"}).ok());
    test_.SyncAll();
    ASSERT_TRUE(test_.Put("orders", {"never synced", "never synced"}).ok());
    const RecordPlace taken = LastMessages();
    ASSERT_TRUE(test_.Put("orders", {"behind"}).ok());
    test_.Kill();
    disk_.CloseAll();
    ASSERT_TRUE(disk_.Damage(taken.path, taken.position, std::string(taken.bytes, '\0')).ok());
    // As it was found, from the filling, and from the index file.
    for (int start = 0; start < 3; ++start) {
        ASSERT_TRUE(test_.Reopen().ok());
        EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept", "behind"));
        EXPECT_EQ(test_.left_out_count, 2U) << start;
        EXPECT_EQ(test_.corrupt_count, 0U) << start;
        EXPECT_THAT(test_.BodiesIn("idle"), ElementsAre("kept"));
        EXPECT_GT(test_.left_out_count, 0U) << "the hole may have held some of any subject";
        EXPECT_EQ(test_.corrupt_count, 0U) << start;
        if (start == 1) {
            for (int i = 0; i < 200; ++i) {
                ASSERT_TRUE(test_.Put("other", {std::string(900, 'x')}).ok());
            }
            ASSERT_TRUE(test_.Put("idle", {"later"}).ok());
            EXPECT_THAT(test_.BodiesIn("idle"), ElementsAre("kept", "later"));
            EXPECT_EQ(test_.corrupt_count, 0U);
            ASSERT_TRUE(test_.Close().ok());
            ASSERT_TRUE(disk_.Exists("/data/00000000000000000000.index").value());
            test_.Kill();
            ASSERT_TRUE(test_.Open().ok());
            EXPECT_THAT(test_.BodiesIn("idle"), ElementsAre("kept", "later"));
            EXPECT_EQ(test_.corrupt_count, 0U);
            break;
        }
    }
}

// Retention counted them as messages that nobody had read.
TEST_F(RecoveryTest, WhatWasLeftOutIsNoMessageThatCanBeLostOverRestarts) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("idle", {"kept"}).ok());
    test_.SyncAll();
    ASSERT_TRUE(test_.Put("orders", {"never synced", "never synced"}).ok());
    const RecordPlace taken = LastMessages();
    ASSERT_TRUE(test_.Put("orders", {"behind"}).ok());
    test_.Kill();
    disk_.CloseAll();
    ASSERT_TRUE(disk_.Damage(taken.path, taken.position, std::string(taken.bytes, '\0')).ok());
    // As it was found, from the filling, and from the snapshot.
    for (int start = 0; start < 3; ++start) {
        ASSERT_TRUE(start < 2 ? test_.Reopen().ok() : test_.Open().ok());
        const SubjectLog& orders = *test_.store->FindSubject("orders", false);
        const SubjectLog& idle = *test_.store->FindSubject("idle", false);
        EXPECT_EQ(orders.CountGiven(0, orders.next_sequence()), 2U) << start;
        EXPECT_EQ(orders.CountGiven(1, 3), 0U) << start;
        EXPECT_EQ(orders.CountGiven(2, 4), 1U) << start;
        EXPECT_EQ(idle.CountGiven(0, idle.next_sequence()), 1U) << start;
        if (start == 1) {
            ASSERT_TRUE(test_.Close().ok());
            test_.Kill();
        }
    }
}

TEST_F(RecoveryTest, SequencesOfDamagedMessagesCountAsGiven) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"first"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"second"}).ok());
    const RecordPlace taken = LastMessages();
    ASSERT_TRUE(test_.Put("orders", {"third"}).ok());
    test_.SyncAll();
    ASSERT_TRUE(test_.Put("other", {"says that they are synced"}).ok());
    test_.Kill();
    disk_.CloseAll();
    ASSERT_TRUE(disk_.FlipBit(taken.path, taken.position + taken.bytes / 2, 0).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.store->FindSubject("orders", false)->CountGiven(0, 3), 3U);
}

TEST_F(RecoveryTest, DamageFoundWhenAnIndexIsMadeAnewCountsAlsoAfterARestart) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    ASSERT_TRUE(test_.Close().ok());
    const std::string index = "/data/00000000000000000000.index";
    ASSERT_TRUE(test_.Reopen().ok());
    ASSERT_TRUE(disk_.FlipBit("/data/00000000000000000000.log", 5'000, 1).ok());
    ASSERT_TRUE(disk_.Remove(index).ok());
    for (int start = 0; start < 2; ++start) {
        EXPECT_EQ(test_.BodiesIn("orders").size(), 99U);
        EXPECT_EQ(test_.corrupt_count, 1U);
        EXPECT_EQ(test_.left_out_count, 0U);
        ASSERT_TRUE(test_.store->Retain().ok());  // Writes the index file again.
        ASSERT_TRUE(test_.Close().ok());
        ASSERT_TRUE(disk_.Exists(index).value());
        ASSERT_TRUE(test_.Reopen().ok());
    }
}

TEST_F(RecoveryTest, SyncedRecordsThatVanishedAreCorruptionAndAppendsGoOnBehindThem) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"vanishes"}).ok());
    const RecordPlace last = LastMessages();
    ASSERT_TRUE(test_.Close().ok());  // Its snapshot says how far the log was synced.
    const std::uint64_t size = disk_.Contents(last.path).value().size();
    ASSERT_TRUE(
        disk_.Damage(last.path, last.position, std::string(size - last.position, '\0')).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    ASSERT_EQ(report().corruptions.size(), 1U);
    EXPECT_TRUE(report().corruptions[0].committed);
    EXPECT_EQ(test_.store->FindSubject("orders", false)->next_sequence(), 2U);
    ASSERT_TRUE(test_.Put("orders", {"new"}).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept", "new"));
    EXPECT_EQ(report().corruptions.size(), 1U) << "it is told of again";
}

TEST_F(RecoveryTest, ARecordThatUsesASequenceAgainGoesAsAWhole) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"first"}).ok());
    const Slice batch = MakeBatch({"second"});
    Record again;
    again.header.kind = RecordKind::kMove;
    again.header.offset = test_.store->written();
    again.header.incarnation = 1;
    again.action = "moved";
    again.subject = "orders";
    again.first_sequence = 1;
    again.count = 1;
    again.batch = batch.bytes();
    const std::string path = LastMessages().path;
    test_.Kill();
    ASSERT_TRUE(disk_.Damage(path, again.header.offset, EncodeRecord(again, Seed())).ok());
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept", "first"));
    EXPECT_THAT(test_.listener->events, Not(Contains("action moved")));
    ASSERT_EQ(report().corruptions.size(), 1U);
    EXPECT_THAT(report().corruptions[0].reason, HasSubstr("is used a second time"));
    EXPECT_FALSE(report().corruptions[0].committed);
    ASSERT_TRUE(test_.Put("orders", {"next"}).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept", "first", "next"));
    EXPECT_THAT(report().corruptions, IsEmpty()) << "it has been written over";
}

TEST_F(RecoveryTest, AStartThatEndsASegmentSyncsItsMark) {
    ASSERT_TRUE(test_.Open().ok());
    // Room for a mark is left, and for no record that says more.
    const std::uint64_t room =
        test_.options.segment_bytes - RecordHeader::kBytes - test_.store->written();
    Record action;
    action.header.kind = RecordKind::kAction;
    const std::string text(room - EncodedBytes(action), 'a');
    ASSERT_TRUE(test_.Act(text).ok());
    ASSERT_EQ(test_.store->written(), test_.options.segment_bytes - RecordHeader::kBytes);
    ASSERT_TRUE(test_.Reopen().ok());
    ASSERT_GT(test_.store->written(), test_.options.segment_bytes);
    test_.Kill();
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(report().corruptions, IsEmpty());
    EXPECT_THAT(test_.listener->events, Contains("action " + text));
}

TEST_F(RecoveryTest, ASubjectWhoseFirstRecordsAreDamagedStartsAboveThem) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"lost", "lost"}).ok());
    const RecordPlace first = LastMessages();
    ASSERT_TRUE(test_.Act("acked orders 0-1").ok());
    test_.SyncAll();
    ASSERT_TRUE(disk_.FlipBit(first.path, first.position + 40, 0).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.store->FindSubject("orders", false), nullptr);
    EXPECT_GE(test_.store->FindSubject("orders", true)->next_sequence(), 2U)
        << "or the ack of the lost messages would count for new ones";
}

TEST_F(RecoveryTest, AReplayFromASnapshotEqualsAReplayOfAll) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 300; ++i) {
        ASSERT_TRUE(test_.Put(i % 3 == 0 ? "a" : "b", {std::string(800, 'x')}).ok());
        ASSERT_TRUE(test_.Act("action " + std::to_string(i)).ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Reopen().ok());
    ASSERT_THAT(test_.listener->snapshots, testing::SizeIs(1));
    const std::string state = test_.listener->actions;
    const auto a = test_.ReadAll("a");
    const auto b = test_.ReadAll("b");
    EXPECT_LT(test_.listener->events.size(), 300U);
    test_.Kill();
    for (const std::string& name : Names()) {
        if (name.ends_with(".snapshot") || name.ends_with(".index")) {
            ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
        }
    }
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.listener->snapshots, IsEmpty());
    EXPECT_EQ(test_.listener->actions, state);
    EXPECT_EQ(test_.ReadAll("a"), a);
    EXPECT_EQ(test_.ReadAll("b"), b);
    EXPECT_THAT(report().corruptions, IsEmpty());
}

TEST_F(RecoveryTest, ADamagedSnapshotIsReportedAndTheOneBeforeItUsed) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_.Act(std::to_string(i) + std::string(900, ' ')).ok());
        test_.SyncAll();
    }
    const std::string state = test_.listener->actions;
    std::string newest;
    for (const std::string& name : Names()) {
        newest = name.ends_with(".snapshot") ? name : newest;
    }
    ASSERT_FALSE(newest.empty());
    ASSERT_TRUE(disk_.FlipBit("/data/" + newest, 50, 1).ok());
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.listener->actions, state);
    ASSERT_EQ(report().corruptions.size(), 1U);
    EXPECT_THAT(report().corruptions[0].path, HasSubstr(newest));
}

TEST_F(RecoveryTest, AMissingOrDamagedIndexFileIsMadeAnewFromTheSegment) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 300; ++i) {
        ASSERT_TRUE(test_.Put("s" + std::to_string(i % 7), {std::to_string(i)}).ok());
        ASSERT_TRUE(test_.Act(std::string(700, 'x')).ok());
        test_.SyncAll();
    }
    const auto before = test_.ReadAll("s3");
    ASSERT_EQ(before.size(), 43U);
    std::vector<std::string> indexes;
    for (const std::string& name : Names()) {
        if (name.ends_with(".index")) {
            indexes.push_back("/data/" + name);
        }
    }
    ASSERT_GE(indexes.size(), 3U);
    ASSERT_TRUE(disk_.Remove(indexes[0]).ok());
    ASSERT_TRUE(disk_.FlipBit(indexes[1], 40, 1).ok());
    // A block, which the start does not read: it is found by a read.
    const std::uint64_t size = disk_.Contents(indexes[2]).value().size();
    for (std::uint64_t at = size - 300; at < size; at += 8) {
        ASSERT_TRUE(disk_.FlipBit(indexes[2], at, 1).ok());
    }
    ASSERT_TRUE(test_.Reopen().ok());
    for (int i = 0; i < 7; ++i) {
        EXPECT_GE(test_.BodiesIn("s" + std::to_string(i)).size(), 42U) << i;
    }
    EXPECT_EQ(test_.ReadAll("s3"), before);
    ASSERT_TRUE(test_.Close().ok());
    const auto verified = VerifyStore(disk_, "/data", AnyAction);
    ASSERT_TRUE(verified.ok());
    EXPECT_THAT(verified.value().problems, IsEmpty()) << "all index files are good again";
}

TEST_F(RecoveryTest, ALostSegmentIsReportedAndTheRestIsKept) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 300; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::to_string(i) + std::string(800, ' ')}).ok());
    }
    test_.Kill();
    ASSERT_TRUE(disk_.Remove("/data/00000000000000065536.log").ok());
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_EQ(report().corruptions.size(), 1U);
    EXPECT_EQ(report().corruptions[0].begin, 65'536U);
    EXPECT_EQ(report().corruptions[0].end, 131'072U);
    const auto left = test_.ReadAll("orders");
    EXPECT_GT(left.size(), 200U);
    EXPECT_EQ(left.size() + test_.corrupt_count, 300U);
}

TEST_F(RecoveryTest, OtherLifeTimeOptionsAreRefusedWithBothValues) {
    ASSERT_TRUE(test_.Open().ok());
    test_.options.segment_bytes = 128U << 10;
    const Status status = test_.Reopen();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("65536"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("131072"));
}

TEST_F(RecoveryTest, OptionsOutOfRangeAreNamedWithTheirRange) {
    test_.options.disk_high_water_percent = 20;
    const Status status = test_.Open();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("disk_high_water_percent"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("[50"));
}

TEST_F(RecoveryTest, AFolderInUseIsRefused) {
    ASSERT_TRUE(test_.Open().ok());
    TestStore second(disk_);
    const Status status = second.Open();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("/data/LOCK"));
}

TEST_F(RecoveryTest, WhatTheOwnerCannotReadStopsTheStart) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Act("of a newer version").ok());
    test_.action_answer = Status::Unimplemented("unknown action");
    const Status status = test_.Reopen();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr("action at log offset"));
}

TEST_F(RecoveryTest, LeftoversOfAnEarlierProcessAreClearedAway) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a"}).ok());
    test_.Kill();
    ASSERT_TRUE(disk_.Open("/data/00000000000000000000.index.tmp", env::OpenMode::kCreate).ok());
    ASSERT_TRUE(disk_.Open("/data/00000000000009961472.index", env::OpenMode::kCreate).ok());
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(disk_.List("/data").value(), ElementsAre("00000000000000000000.log", "store.json"));
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("a"));
}

TEST_F(RecoveryTest, EachStartHasAnIncarnationOfItsOwn) {
    ASSERT_TRUE(test_.Open().ok());
    for (std::uint64_t i = 2; i < 6; ++i) {
        if (i % 2 == 0) {
            ASSERT_TRUE(test_.Close().ok());
        }
        ASSERT_TRUE(test_.Reopen().ok());
        EXPECT_EQ(report().incarnation, i);
    }
}

#ifdef QMQ_PLANTED_BUGS
class PlantedTest : public RecoveryTest {
protected:
    ~PlantedTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedTest, CutMidLogLosesWhatFollowsDamage) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"first"}).ok());
    ASSERT_TRUE(test_.Put("orders", {"flipped"}).ok());
    const RecordPlace middle = LastMessages();
    ASSERT_TRUE(test_.Put("orders", {"last"}).ok());
    ASSERT_TRUE(disk_.FlipBit(middle.path, middle.position + 70, 1).ok());
    env::Plant(env::PlantedBug::kCutMidLog);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("first"));
}

TEST_F(PlantedTest, SkipChecksumHandsOutDamagedBytes) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"flipped"}).ok());
    const RecordPlace last = LastMessages();
    ASSERT_TRUE(disk_.FlipBit(last.path, last.position + last.bytes - 9, 1).ok());
    env::Plant(env::PlantedBug::kSkipChecksum);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_THAT(report().corruptions, IsEmpty());
    EXPECT_EQ(report().torn_tail_bytes, 0U);
}

TEST_F(PlantedTest, SequenceReusedGivesASequenceTwice) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"a", "b"}).ok());
    env::Plant(env::PlantedBug::kSequenceReused);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.Append("orders", {"c"}).value().first_sequence, 1U);
}

TEST_F(PlantedTest, IndexOffByOneFindsTheNextMessage) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::to_string(i) + std::string(900, ' ')}).ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    env::Plant(env::PlantedBug::kIndexOffByOne);
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(test_.ReadAll("orders")[0].substr(0, 2), "1 ");
}

TEST_F(PlantedTest, SnapshotAheadOfLogLeavesSyncedRecordsMissing) {
    env::Plant(env::PlantedBug::kSnapshotAheadOfLog);
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
    }
    while (test_.io.RunOne() || test_.executor.RunOne()) {
    }
    test_.Kill();
    bool found = false;
    disk_.CutPower();
    ASSERT_TRUE(test_.Open().ok());
    for (const RecoveryReport::Corruption& corruption : report().corruptions) {
        found = found || corruption.committed;
    }
    EXPECT_TRUE(found);
}
#endif

}  // namespace
}  // namespace qmq::store
