#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(BrokerTest, ASubscriberIsHandedWhatIsSentAndAckedMessagesNeverComeAgain) {
    Open();
    Member member = Join("orders", "billing");
    const BatchReceipt receipt = Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(receipt.status.ok()) << receipt.status;
    EXPECT_EQ(receipt.outcome, SendOutcome::kPersisted);
    EXPECT_EQ(receipt.durability, Durability::kFsync);
    EXPECT_EQ(receipt.first_sequence, 0U);
    EXPECT_THAT(member.bodies(), ElementsAre("a", "b", "c"));

    Result<AckReply> reply = Ack(member, 0, 2);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->not_held_count(), 0U);

    CrashAndOpen();
    Member again = Join("orders", "billing");
    EXPECT_THAT(again.got(), IsEmpty());
}

}  // namespace
}  // namespace qmq::broker::testing
