// Checksums have a seed that belongs to the log: nobody who does not know it makes a record. And
// what the owner of a log cannot read costs no more than itself.
#include "server/env/planted_bug.h"
#include "server/env/simulated_file_system.h"
#include "server/store/bytes.h"
#include "server/store/log_inspector.h"
#include "server/store/record.h"
#include "server/store/store_settings.h"
#include "tests/unit/store/store_fixture.h"

namespace qmq::store {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class SeedTest : public testing::Test {
protected:
    std::vector<std::string> Names() { return disk_.List("/data").value(); }
    std::string Newest(std::string_view suffix) {
        std::string newest;
        for (const std::string& name : Names()) {
            newest = name.ends_with(suffix) ? name : newest;
        }
        return newest;
    }
    std::string Settings() { return disk_.Contents("/data/store.json").value(); }
    LogSeed Seed() { return ParseSettings(Settings()).value().seed; }
    void WriteSettings(std::uint64_t segment_bytes, std::uint32_t seed) {
        if (disk_.Exists("/data/store.json").value()) {
            ASSERT_TRUE(disk_.Remove("/data/store.json").ok());
        }
        ASSERT_TRUE(
            WriteWhole(disk_, "/data", "store.json", EncodeSettings({segment_bytes, LogSeed(seed)}))
                .ok());
    }
    std::map<std::string, std::string> AllFiles() {
        std::map<std::string, std::string> all;
        for (const std::string& name : Names()) {
            if (name != "LOCK") {
                all[name] = disk_.Contents("/data/" + name).value();
            }
        }
        return all;
    }

    env::SimulatedFileSystem disk_{1};
    TestStore test_{disk_};
};

/// A message body that holds, from `at` of the log on, a kStart of its own seed and records with
/// that seed, and the same with seed zero.
std::string Forgery(LogOffset at) {
    std::string body(RoundUp(at) - at, ' ');
    for (const LogSeed seed : {LogSeed(0), LogSeed(12'345)}) {
        Record start;
        start.header.kind = RecordKind::kStart;
        start.header.offset = at + body.size();
        start.header.incarnation = 9;
        body += EncodeRecord(start, seed);
        Record action;
        action.header.kind = RecordKind::kAction;
        action.header.offset = at + body.size();
        action.header.incarnation = 9;
        action.action = "forged";
        body += EncodeRecord(action, seed);
        const Slice batch = MakeBatch({"forged message"});
        Record move;
        move.header.kind = RecordKind::kMove;
        move.header.offset = at + body.size();
        move.header.incarnation = 9;
        move.action = "forged move";
        move.subject = "forged";
        move.count = 1;
        move.batch = batch.bytes();
        body += EncodeRecord(move, seed);
    }
    return body;
}

class ForgeryTest : public SeedTest {
protected:
    /// The log with a record in which lie others, and one bit of it rotten.
    void OpenWithARottenForgery() {
        ASSERT_TRUE(test_.Open().ok());
        ASSERT_TRUE(test_.Put("orders", {"before"}).ok());
        const LogOffset record = test_.store->written();
        // What lies before a body of this length is found by trying.
        ASSERT_TRUE(test_.Put("orders", {std::string(Forgery(0).size() + 8, '#')}).ok());
        const std::string probe = disk_.Contents("/data/" + Newest(".log")).value();
        const LogOffset body = probe.find('#', record);
        test_.Kill();
        for (const std::string& name : Names()) {
            ASSERT_TRUE(disk_.Remove("/data/" + name).ok() || name == "LOCK");
        }
        ASSERT_TRUE(test_.Open().ok());
        ASSERT_TRUE(test_.Put("orders", {"before"}).ok());
        std::string forgery = Forgery(body);
        forgery.resize(Forgery(0).size() + 8, '#');
        ASSERT_TRUE(test_.Put("orders", {forgery}).ok());
        ASSERT_TRUE(test_.Act("honest").ok());
        test_.SyncAll();
        ASSERT_EQ(test_.BodiesIn("orders")[1], forgery);
        test_.Kill();
        ASSERT_TRUE(disk_.FlipBit("/data/" + Newest(".log"), record + 40, 3).ok());
        ASSERT_TRUE(test_.Open().ok());
    }
};

TEST_F(ForgeryTest, NothingInABodyIsReplayedWhenTheRecordAroundItRots) {
    OpenWithARottenForgery();
    EXPECT_THAT(test_.listener->events, ElementsAre("messages orders 0+1", "action honest"));
    EXPECT_EQ(test_.store->FindSubject("forged", false), nullptr);
    EXPECT_EQ(test_.store->recovery().incarnation, 2U);
    EXPECT_THAT(test_.store->recovery().corruptions, SizeIs(1));
}

#ifdef QMQ_PLANTED_BUGS
class PlantedForgeryTest : public ForgeryTest {
protected:
    ~PlantedForgeryTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedForgeryTest, ForgeableReplaysWhatAProducerSays) {
    env::Plant(env::PlantedBug::kForgeable);
    OpenWithARottenForgery();
    EXPECT_THAT(test_.listener->events, Contains("action forged"));
}
#endif

TEST_F(SeedTest, EachLogHasASeedOfItsOwnAndACopyTheSame) {
    ASSERT_TRUE(test_.Open().ok());
    const LogSeed seed = Seed();
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(Seed(), seed);
    env::SimulatedFileSystem other(1);
    StoreEnvironment environment{other, test_.clock, *test_.strand, test_.io, test_.events, 18};
    TestListener listener;
    ASSERT_TRUE(ShardStore::Open(test_.options, environment, listener).ok());
    EXPECT_NE(ParseSettings(other.Contents("/data/store.json").value()).value().seed, seed);
}

TEST_F(SeedTest, AnotherSeedInTheSettingsIsRefusedAndNothingIsTouched) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 150; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    const std::string right = ToString(Seed());
    WriteSettings(65'536, 4'711);
    // A snapshot, an index file, or the kStart at the beginning is enough.
    for (const std::string suffix : {".snapshot", ".index", ".log"}) {
        const auto before = AllFiles();
        const Status status = test_.Open();
        EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << suffix;
        EXPECT_THAT(std::string(status.message()), HasSubstr("4711"));
        EXPECT_THAT(std::string(status.message()), HasSubstr(right));
        EXPECT_THAT(std::string(status.message()), HasSubstr(suffix));
        EXPECT_EQ(AllFiles(), before);
        for (const std::string& name : Names()) {
            if (name.ends_with(suffix) && suffix != ".log") {
                ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
            }
        }
    }
}

TEST_F(SeedTest, AWrongSeedThatNothingContradictsCutsNothing) {
    ASSERT_TRUE(test_.Open().ok());
    ASSERT_TRUE(test_.Put("orders", {"kept"}).ok());
    test_.Kill();
    const std::string right = Settings();
    WriteSettings(65'536, 4'711);
    const std::string path = "/data/00000000000000000000.log";
    ASSERT_TRUE(disk_.FlipBit(path, 3, 0).ok());
    const auto before = AllFiles();
    EXPECT_EQ(test_.Open().code(), StatusCode::kDataLoss);
    EXPECT_EQ(AllFiles(), before);
    WriteSettings(65'536, static_cast<std::uint32_t>(ParseSettings(right).value().seed));
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.BodiesIn("orders"), ElementsAre("kept"));
}

TEST_F(SeedTest, LostSettingsAreToldWordForWordAsLongAsAnyPlaceTellsThem) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(test_.Put("orders", {std::string(900, 'x')}).ok());
        test_.SyncAll();
    }
    ASSERT_TRUE(test_.Close().ok());
    test_.Kill();
    const std::string settings = Settings();
    ASSERT_TRUE(disk_.Remove("/data/store.json").ok());
    // The last one to go is the kStart.
    for (const std::string suffix : {".snapshot", ".index"}) {
        const Status status = test_.Open();
        EXPECT_EQ(status.code(), StatusCode::kDataLoss);
        EXPECT_THAT(std::string(status.message()), HasSubstr(settings));
        for (const std::string& name : Names()) {
            if (name.ends_with(suffix)) {
                ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
            }
        }
    }
    EXPECT_THAT(std::string(test_.Open().message()), HasSubstr(settings));
    ASSERT_TRUE(disk_.FlipBit("/data/00000000000000000000.log", 40, 0).ok());
    EXPECT_THAT(std::string(test_.Open().message()), HasSubstr("No other file tells the seed"));
    ASSERT_TRUE(WriteWhole(disk_, "/data", "store.json", settings).ok());
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_EQ(test_.BodiesIn("orders").size(), 100U);
}

TEST_F(SeedTest, AStoreOfAnOlderFormatIsRefusedByOneClearLine) {
    ASSERT_TRUE(disk_.MakeDirectories("/data").ok());
    ASSERT_TRUE(
        WriteWhole(disk_, "/data", "store.json", "{\"format\": 1, \"segment_bytes\": 65536}").ok());
    const Status status = test_.Open();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("its format is 1"));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
}

/// Actions and snapshots that their owner cannot read.
class UnreadableTest : public SeedTest {
protected:
    static Status CannotRead(std::string_view action) {
        return action.starts_with("bad") ? Status::DataLoss("byte 3: a range that runs over")
                                         : Status::Ok();
    }
    void Move(const std::string& action, const std::string& body) {
        ASSERT_TRUE(
            test_.store
                ->AppendMove(action, *test_.store->FindSubject("retry", true), MakeBatch({body}))
                .ok());
        ASSERT_TRUE(test_.store->Write().ok());
    }
    void Fill() {
        ASSERT_TRUE(test_.Open().ok());
        ASSERT_TRUE(test_.Act("good 1").ok());
        ASSERT_TRUE(test_.Act("bad").ok());
        Move("good move", "kept");
        Move("bad move", "set aside");
        ASSERT_TRUE(test_.Act("good 2").ok());
        test_.SyncAll();
    }
};

TEST_F(UnreadableTest, AnActionThatCannotBeReadIsSetAsideWithItsMessages) {
    Fill();
    test_.check_action = CannotRead;
    for (std::uint64_t start = 0; start < 3; ++start) {
        ASSERT_TRUE(test_.Reopen().ok());
        EXPECT_EQ(test_.listener->actions, "good 1\ngood move\ngood 2\n");
        EXPECT_THAT(test_.BodiesIn("retry"), Contains("kept"));
        EXPECT_THAT(test_.BodiesIn("retry"), Not(Contains("set aside")));
        EXPECT_GE(test_.corrupt_count, 1U);
        ASSERT_THAT(test_.store->recovery().corruptions, SizeIs(2)) << "told at each start";
        EXPECT_THAT(test_.store->recovery().corruptions[0].reason, HasSubstr("runs over"));
        ASSERT_TRUE(test_.Put("retry", {"new"}).ok());
        EXPECT_EQ(test_.ReadAll("retry").rbegin()->first, 2U + start) << "no sequence twice";
        test_.SyncAll();
    }
    EXPECT_GE(test_.events.Of(env::EventKind::kDamage).size(), 6U);
    test_.check_action = [](auto) { return Status::Ok(); };
    test_.Kill();
    for (const std::string& name : Names()) {
        if (name.ends_with(".snapshot")) {
            ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
        }
    }
    ASSERT_TRUE(test_.Open().ok());
    EXPECT_THAT(test_.BodiesIn("retry"), Contains("set aside")) << "nothing was written over it";
}

TEST_F(UnreadableTest, AnActionOfANewerProgramStopsTheStartBeforeAnythingIsTouched) {
    Fill();
    test_.Kill();
    ASSERT_TRUE(disk_.Open("/data/left.tmp", env::OpenMode::kCreate).ok());
    test_.check_action = [](std::string_view action) {
        return action == "good 2" ? Status::Unimplemented("action kind 99") : Status::Ok();
    };
    const auto before = AllFiles();
    const Status status = test_.Open();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr("action kind 99"));
    EXPECT_EQ(AllFiles(), before);
}

TEST_F(UnreadableTest, ASnapshotThatCannotBeReadMakesWayForTheOneBefore) {
    ASSERT_TRUE(test_.Open().ok());
    for (int i = 0; i < 200; ++i) {
        ASSERT_TRUE(test_.Act(std::to_string(i) + std::string(900, ' ')).ok());
        test_.SyncAll();
    }
    const std::string state = test_.listener->actions;
    int asked = 0;
    test_.snapshot_answer = [&](auto) {
        return ++asked == 1 ? Status::DataLoss("no such field") : Status::Ok();
    };
    ASSERT_TRUE(test_.Reopen().ok());
    EXPECT_EQ(asked, 2);
    EXPECT_EQ(test_.listener->actions, state);
    EXPECT_THAT(test_.store->recovery().corruptions, SizeIs(1));
}

TEST_F(UnreadableTest, VerifySaysThatALogWithAnUnreadableActionIsNotSound) {
    Fill();
    ASSERT_TRUE(test_.Close().ok());
    EXPECT_THAT(VerifyStore(disk_, "/data", AnyAction).value().problems, IsEmpty());
    const auto problems = VerifyStore(disk_, "/data", CannotRead).value().problems;
    ASSERT_THAT(problems, SizeIs(2));
    EXPECT_THAT(problems[0], HasSubstr("a range that runs over"));
}

TEST_F(UnreadableTest, VerifyTakesAnIndexWithWhatIsSetAsideAndOneWithoutIt) {
    for (const bool knows_at_once : {true, false}) {
        Fill();
        ASSERT_TRUE(
            test_.store
                ->AppendMove("bad", *test_.store->FindSubject("lone", true), MakeBatch({"x"}))
                .ok());
        ASSERT_TRUE(test_.store->Write().ok());
        if (knows_at_once) {
            test_.check_action = CannotRead;
            ASSERT_TRUE(test_.Reopen().ok());
        }
        Move("bad again", "in each index");  // The process that writes it indexes it.
        for (int i = 0; i < 100; ++i) {
            ASSERT_TRUE(test_.Put("retry", {std::string(1'000, 'x')}).ok());
        }
        test_.SyncAll();
        ASSERT_TRUE(test_.Close().ok());
        const auto report = VerifyStore(disk_, "/data", CannotRead);
        ASSERT_TRUE(report.ok());
        EXPECT_GE(report->index_count, 1U);
        EXPECT_THAT(report->problems, SizeIs(4)) << ::testing::PrintToString(report->problems);
        EXPECT_THAT(report->problems, Each(HasSubstr("its action cannot be read")));
        EXPECT_EQ(VerifyStore(disk_, "/data", AnyAction)->problems.empty(), !knows_at_once)
            << "an index that lacks what could be read is wrong";
        test_.Kill();
        for (const std::string& name : Names()) {
            ASSERT_TRUE(disk_.Remove("/data/" + name).ok());
        }
        test_.check_action = [](auto) { return Status::Ok(); };
    }
}

#ifdef QMQ_PLANTED_BUGS
class PlantedUnreadableTest : public UnreadableTest {
protected:
    ~PlantedUnreadableTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedUnreadableTest, UnreadableStopsDoesNotOpen) {
    Fill();
    test_.check_action = CannotRead;
    env::Plant(env::PlantedBug::kUnreadableStops);
    EXPECT_EQ(test_.Reopen().code(), StatusCode::kDataLoss);
}
#endif

}  // namespace
}  // namespace qmq::store
