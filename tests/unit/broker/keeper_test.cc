#include "server/env/planted_bug.h"
#include "tests/unit/broker/keeper_fixture.h"

// What waits or is held outlives the segment that it lies in.
namespace qmq::broker::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A retry later than the retention was accepted and silently lost.
TEST_F(KeeperTest, ARetryThatIsAcceptedIsDeliveredHoweverShortTheRetentionIs) {
    EXPECT_THAT(RetriesThatCome(), ElementsAre("a", "b"));
    ExpectNothingLost("orders", "billing");
}

TEST_F(KeeperTest, WhatAHandlerHoldsOutlivesTheRetentionAndMayFailStill) {
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"a", "b", "c"});
    time_.Advance(2min);
    EXPECT_EQ(FirstSequence("orders"), 3U) << "its segment has gone";
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 3U);
    EXPECT_EQ(Ack(member, 0)->not_held_count(), 0U);
    ASSERT_TRUE(Judge(member, {Retry(1, 0ms)}).ok());
    ASSERT_THAT(member.bodies(), ElementsAre("a", "b", "c", "b"));
    EXPECT_EQ(member.got()[3].attempt, 2U);
    EXPECT_EQ(member.got()[3].error, "why");
    EXPECT_EQ(Ack(member, 2, 3)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
    ExpectNothingLost("orders", "billing");
}

TEST_F(KeeperTest, WhatClientsCannotReadIsKeptInABatchOfItsOwn) {
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"a"});
    Send(UnreadableBatch("orders"));
    Send("orders", {"c"});
    time_.Advance(2min);
    EXPECT_EQ(FirstSequence("orders"), 3U) << "its segment has gone";
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRelease, 0, 2, {}, {}}}).ok());
    EXPECT_THAT(member.bodies(), ElementsAre("a", kUnreadable, "c", "a", kUnreadable, "c"));
    ExpectNothingLost("orders", "billing");
}

TEST_F(KeeperTest, WhatIsHeldKeepsItsPullSequencesAndAttemptsOverARestart) {
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 1).ok());
    time_.Advance(2min);
    const std::uint64_t incarnation = member.sink->subscribed->incarnation;
    CrashAndOpen();
    SubscribeRequest request = Patient("orders");
    request.resume = ResumePoint{incarnation, 2};  // The last one did not arrive.
    Member again = Join(request);
    ASSERT_THAT(again.bodies(), ElementsAre("c"));
    EXPECT_EQ(again.got()[0].pull, 2U);
    EXPECT_EQ(again.got()[0].attempt, 1U);
    EXPECT_EQ(Ack(again, 0, 2)->not_held_count(), 1U);
    ExpectNothingLost("orders", "billing");
}

TEST_F(KeeperTest, WhatWaitsForAnotherConsumerIsKeptForIt) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b"});
    member.session->Close();
    time_.Advance(5min);
    CrashAndOpen();
    Member other = Join("orders", "billing", "other");
    EXPECT_THAT(other.bodies(), ElementsAre("a", "b"));
    ExpectNothingLost("orders", "billing");
}

// Bounded work a call, and asked again at once.
// The copy lies in the retry subject, and nothing has failed.
TEST_F(KeeperTest, WhatIsKeptOfTheSubjectGoesToMembersOfTheSubjectAndToNoOther) {
    Open();
    const auto taking = [this](ConsumeSource source, const std::string& id) {
        SubscribeRequest request = Patient("orders", id);
        request.key.source = source;
        return Join(request);
    };
    Member member = taking(ConsumeSource::kSubject, "c1");
    Member retries = taking(ConsumeSource::kRetry, "r1");
    Send("orders", {"a", "b"});
    time_.Advance(1min);  // They are kept while they are held, and then again where they wait.
    member.session->Close();
    time_.Advance(1min);
    EXPECT_THAT(retries.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").lag_count, 2U);
    Member again = taking(ConsumeSource::kSubject, "c2");
    EXPECT_THAT(again.bodies(), ElementsAre("a", "b"));
    ASSERT_TRUE(Judge(again, {Retry(again.got()[0].pull, 1s)}).ok());
    time_.Advance(2s);
    EXPECT_THAT(retries.bodies(), ElementsAre("a")) << "that one has failed";
    EXPECT_THAT(again.got(), SizeIs(2));
    ExpectNothingLost("orders", "billing");
}

TEST_F(KeeperTest, WhatIsKeptOfTheSubjectIsThatAfterACrashAndInASnapshot) {
    for (const bool crash : {true, false}) {
        const std::string subject = crash ? "orders" : "bills";
        Open();
        SubscribeRequest request = Patient(subject);
        request.key.source = ConsumeSource::kSubject;
        Member member = Join(request, {2, 1'000'000});
        Send(subject, {"held", "loose"});
        ASSERT_THAT(member.got(), SizeIs(2));
        ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRelease, 1, 1, {}, {}}}).ok());
        time_.Advance(1min);
        if (!crash) {
            EXPECT_TRUE(CloseBroker().ok());
        }
        CrashAndOpen();
        request.key.consumer_id = "c2";
        Member again = Join(request);
        time_.Advance(2h);  // The grace of the first ends.
        EXPECT_THAT(again.bodies(), ::testing::UnorderedElementsAre("held", "loose")) << crash;
        ExpectNothingLost(subject, "billing");
        Crash();
    }
}

TEST_F(KeeperTest, ManyAreMovedInPiecesAndAllOfThem) {
    Open();
    Member member = Join(Patient("orders"), {100'000, 1U << 30U});
    for (int i = 0; i < 50; ++i) {
        Send("orders", std::vector<std::string>(100, std::string(200, 'x')));
    }
    ASSERT_THAT(member.got(), SizeIs(5'000));
    // Not one after another.
    for (std::uint64_t pull = 0; pull < 5'000; pull += 10) {
        ASSERT_TRUE(Ack(member, pull).ok());
    }
    time_.Advance(2min);
    EXPECT_GE(FirstSequence("orders"), 4'900U);
    ExpectNothingLost("orders", "billing");
    EXPECT_EQ(Ack(member, 0, 4'999)->not_held_count(), 500U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(KeeperTest, WhatNobodyHasReadGoesAndIsCountedOnce) {
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000'000});
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 0).ok());
    time_.Advance(1min);
    EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, 2U);
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, 2U);
    EXPECT_TRUE(CloseBroker().ok());
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, 2U);
}

TEST_F(KeeperTest, ADeadLetterThatWaitsInPlaceHoldsUpRetentionAndThatIsToldOnce) {
    const std::string dead = DeadLetterSubject("orders", "billing");
    Open();
    Send(dead, {"a"});
    Member member = Join(Patient(dead));
    ASSERT_TRUE(Judge(member, {Retry(0, 5min)}).ok());
    time_.Advance(4min);
    EXPECT_EQ(FirstSequence(dead), 0U);
    time_.Advance(1min);
    ASSERT_THAT(member.got(), SizeIs(2));
    ASSERT_TRUE(Ack(member, 1).ok());
    time_.Advance(1min);
    EXPECT_EQ(FirstSequence(dead), 1U);
    EXPECT_EQ(events_.Count(env::EventKind::kLimit), 1U);
    ExpectNothingLost(dead, "billing");
}

TEST_F(KeeperTest, AboveTheHighWaterMarkWhatCannotBeMovedGoesCountedAndTold) {
    FaultyFiles faulty(*memory_);
    files_ = &faulty;
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Judge(member, {Retry(1, 1h)}).ok());
    faulty.used_percent = 99;
    time_.Advance(5s);
    EXPECT_FALSE(Send("orders", {"c"}).status.ok());
    time_.Advance(1min);
    EXPECT_FALSE(Send("orders", {"c"}).status.ok());
    const GroupInfo info = Info("orders", "billing");
    EXPECT_EQ(info.lost_to_full_disk_count, 2U);
    EXPECT_EQ(info.lost_to_retention_count, 0U);
    EXPECT_EQ(info.lag_count, 0U);
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), 2U) << "one for each subject";
    Crash();
}

TEST_F(KeeperTest, AFullDiskTakesAMoveBackAndItIsMadeLater) {
    FaultyFiles faulty(*memory_);
    files_ = &faulty;
    Open();
    Member member = Join(Patient("orders"));
    Send("orders", {"a", "b"});
    time_.Advance(9s);
    faulty.write_error = Status::ResourceExhausted("no space left on device");
    time_.Advance(300ms);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 2U);
    faulty.write_error = {};
    time_.Advance(2min);
    EXPECT_EQ(Ack(member, 0, 1)->not_held_count(), 0U);
    ExpectNothingLost("orders", "billing");
    Crash();
}

TEST_F(KeeperTest, ALossIsOneEventARangeThatSaysWhatAndWhere) {
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000'000});
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 0).ok());
    time_.Advance(1min);
    std::vector<env::Event> losses;
    for (const env::Event& event : events_.all) {
        if (event.kind == env::EventKind::kLoss) {
            losses.push_back(event);
        }
    }
    ASSERT_THAT(losses, SizeIs(1));
    EXPECT_EQ(losses[0].place, "shard 0, subject orders, group billing");
    EXPECT_EQ(losses[0].count, 2U);
    EXPECT_THAT(losses[0].text, HasSubstr("retention took unread messages below sequence 3"));
}

#ifdef QMQ_PLANTED_BUGS
class PlantedKeeperTest : public KeeperTest {
protected:
    ~PlantedKeeperTest() override { env::Plant(env::PlantedBug::kNone); }
};

TEST_F(PlantedKeeperTest, RetryExpiresLosesWhatWaits) {
    env::Plant(env::PlantedBug::kRetryExpires);
    EXPECT_THAT(RetriesThatCome(), IsEmpty());
}

TEST_F(PlantedKeeperTest, SilentLossCountsAndTellsNothing) {
    env::Plant(env::PlantedBug::kSilentLoss);
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000'000});
    Send("orders", {"a", "b", "c"});
    time_.Advance(1min);
    EXPECT_EQ(FirstSequence("orders"), 3U);
    ExpectNothingLost("orders", "billing");
    EXPECT_EQ(events_.Count(env::EventKind::kLoss), 0U);
}
#endif

}  // namespace
}  // namespace qmq::broker::testing
