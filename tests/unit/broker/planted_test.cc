#include "server/env/planted_bug.h"
#include "tests/unit/broker/broker_fixture.h"

// Each planted bug of this layer does what its name says, so that an audit that does not see it is
// at fault.
#ifdef QMQ_PLANTED_BUGS
namespace qmq::broker::testing {
namespace {

using env::PlantedBug;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PlantedTest : public BrokerTest {
protected:
    ~PlantedTest() override { env::Plant(PlantedBug::kNone); }
    std::shared_ptr<std::optional<std::vector<BatchReceipt>>> PostOne() {
        std::vector<SendBatch> frame;
        frame.push_back(Batch("orders", {"a"}));
        return Post(std::move(frame));
    }
};

TEST_F(PlantedTest, AckBeforeSyncAnswersFsyncTooEarly) {
    env::Plant(PlantedBug::kAckBeforeSync);
    Open();
    auto receipts = PostOne();
    time_.SettleWithoutIo();
    ASSERT_TRUE(*receipts);
    EXPECT_EQ((**receipts)[0].durability, Durability::kFsync);
}

TEST_F(PlantedTest, HandOutBeforeDurableHandsOutUnsyncedMessages) {
    env::Plant(PlantedBug::kHandOutBeforeDurable);
    Open();
    Member member = Join("orders", "billing");
    PostOne();
    time_.SettleWithoutIo();
    EXPECT_THAT(member.got(), SizeIs(1));
}

TEST_F(PlantedTest, DropAckForgetsAnAckThatItAnswered) {
    env::Plant(PlantedBug::kDropAck);
    Open();
    Member member = Join("orders", "billing");
    for (std::uint64_t i = 0; i < 64; ++i) {
        Send("orders", {"m"});
        EXPECT_EQ(Ack(member, i)->not_held_count(), 0U);
    }
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 2U);
}

TEST_F(PlantedTest, LostWakeUpLeavesAMessageLying) {
    env::Plant(PlantedBug::kLostWakeUp);
    Open();
    Member member = Join("orders", "billing");
    std::size_t late = 0;
    for (std::size_t i = 1; i <= 300; ++i) {
        Send("orders", {"m"});
        late += member.got().size() < i ? 1U : 0U;
    }
    EXPECT_GT(late, 0U);
}

TEST_F(PlantedTest, WrongAttemptDoesNotCount) {
    env::Plant(PlantedBug::kWrongAttempt);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, {}}}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    EXPECT_EQ(member.got()[1].attempt, 1U);
}

TEST_F(PlantedTest, AckWholeBatchAcksItsNeighbours) {
    env::Plant(PlantedBug::kAckWholeBatch);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 1).ok());
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U);
}

TEST_F(PlantedTest, ForgetHandOutOnRestartLosesWhatWasInFlight) {
    env::Plant(PlantedBug::kForgetHandOutOnRestart);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    CrashAndOpen();
    time_.Advance(1min);
    Member other = Join("orders", "billing", "other");
    EXPECT_THAT(other.got(), IsEmpty());
}

TEST_F(PlantedTest, NewestFilterPassesOverWhatAnotherMemberWants) {
    env::Plant(PlantedBug::kNewestFilter);
    Open();
    Member wide = Join("orders", "billing", "wide");
    SubscribeRequest narrow = MakeRequest("orders", "billing", "narrow");
    narrow.filter = {TagMode::kAny, {"a"}};
    Member guest = Join(narrow);
    guest.session->Close();
    Send("orders", {"b"}, {"b"});
    EXPECT_THAT(wide.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PlantedTest, CountHeldUsesUpAttemptsOfWhatNobodyHandled) {
    env::Plant(PlantedBug::kCountHeld);
    Open();
    Member first = Join("orders", "billing", "1");
    Send("orders", {"a", "b"});
    first.session->Close();
    Member second = Join("orders", "billing", "2");
    ASSERT_THAT(second.got(), SizeIs(2));
    EXPECT_EQ(second.got()[0].attempt, 2U);
    EXPECT_EQ(second.got()[1].attempt, 2U);
}

TEST_F(PlantedTest, GoneConsumerAcksWhatItHeld) {
    env::Plant(PlantedBug::kGoneConsumerAcks);
    Open();
    Member first = Join("orders", "billing", "1");
    Send("orders", {"a"});
    first.session->Close();
    Member second = Join("orders", "billing", "2");
    EXPECT_THAT(second.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PlantedTest, LeaseEndAcksWhatWasNotAcked) {
    env::Plant(PlantedBug::kLeaseEndAcks);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    time_.Advance(1min);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

}  // namespace
}  // namespace qmq::broker::testing
#endif
