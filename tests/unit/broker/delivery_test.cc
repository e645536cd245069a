#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using DeliveryTest = BrokerTest;

std::vector<std::string> Numbers(int count) {
    std::vector<std::string> all;
    for (int i = 0; i < count; ++i) {
        all.push_back(std::to_string(i));
    }
    return all;
}

TEST_F(DeliveryTest, AWaitingSubscriberIsHandedAMessageWithoutTimePassing) {
    Open();
    Member member = Join("orders", "billing");
    const TimePoint before = time_.clock.Now();
    Send("orders", {"a"});
    EXPECT_THAT(member.bodies(), ElementsAre("a"));
    EXPECT_EQ(time_.clock.Now(), before);
}

TEST_F(DeliveryTest, NothingIsHandedOutBeforeItIsAsDurableAsPromised) {
    Open();
    Member member = Join("orders", "billing");
    Post([this] {
        std::vector<SendBatch> frame;
        frame.push_back(Batch("orders", {"a"}));
        return frame;
    }());
    time_.SettleWithoutIo();
    EXPECT_THAT(member.got(), IsEmpty());
    time_.Settle();
    EXPECT_THAT(member.bodies(), ElementsAre("a"));
}

TEST_F(DeliveryTest, APageCacheSubjectIsHandedOutInTheRoundOfTheSend) {
    options_.default_durability = Durability::kPageCache;
    Open();
    Member member = Join("orders", "billing");
    Post([this] {
        std::vector<SendBatch> frame;
        frame.push_back(Batch("orders", {"a"}));
        return frame;
    }());
    time_.SettleWithoutIo();
    EXPECT_THAT(member.bodies(), ElementsAre("a"));
}

TEST_F(DeliveryTest, EveryGroupGetsEveryMessageAndOneConsumerOfEachGetsIt) {
    Open();
    Member a1 = Join("orders", "a", "1");
    Member a2 = Join("orders", "a", "2");
    Member b = Join("orders", "b", "1");
    for (int i = 0; i < 20; ++i) {
        Send("orders", {std::to_string(i)});
    }
    EXPECT_THAT(b.got(), SizeIs(20));
    std::vector<std::string> both = a1.bodies();
    for (const std::string& body : a2.bodies()) {
        both.push_back(body);
    }
    EXPECT_THAT(both, ::testing::UnorderedElementsAreArray(Numbers(20)));
    // In turns, so nobody of a group is left out.
    EXPECT_THAT(a1.got(), SizeIs(10));
}

TEST_F(DeliveryTest, PullSequencesAreDenseAndFollowTheOrderOfTheSubject) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", Numbers(3));
    Send("orders", Numbers(2));
    ASSERT_THAT(member.got(), SizeIs(5));
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(member.got()[i].pull, i);
        EXPECT_EQ(member.got()[i].sequence, i);
        EXPECT_EQ(member.got()[i].attempt, 1U);
        EXPECT_FALSE(member.got()[i].from_retry);
    }
}

TEST_F(DeliveryTest, AWholeBatchIsHandedOnAsTheVeryBytesThatWereSent) {
    Open();
    auto sink = std::make_shared<RecordingSink>();
    Member member = Join("orders", "billing");
    Send("orders", Numbers(50));
    EXPECT_EQ(member.sink->batch_count, 1U);
    EXPECT_EQ(member.sink->frame_count, 1U);
}

TEST_F(DeliveryTest, CreditOfMessagesIsNeverExceededAndMoreOfItGoesOn) {
    Open();
    Member member = Join("orders", "billing", "c1", {3, 1U << 20U});
    Send("orders", Numbers(10));
    EXPECT_THAT(member.bodies(), ElementsAre("0", "1", "2"));
    member.session->Grant({2, 0});
    time_.Settle();
    EXPECT_THAT(member.bodies(), ElementsAre("0", "1", "2", "3", "4"));
}

TEST_F(DeliveryTest, CreditOfBytesEndsWithTheMessageThatUsesItUp) {
    Open();
    Member member = Join("orders", "billing", "c1", {100, 1});
    Send("orders", {std::string(1000, 'x'), "y"});
    EXPECT_THAT(member.got(), SizeIs(1)) << "a message larger than the credit is still delivered";
    member.session->Grant({0, 5000});
    time_.Settle();
    EXPECT_THAT(member.got(), SizeIs(2));
}

TEST_F(DeliveryTest, NoCreditNoMessage) {
    Open();
    Member member = Join("orders", "billing", "c1", {0, 0});
    Send("orders", {"a"});
    EXPECT_THAT(member.got(), IsEmpty());
    EXPECT_TRUE(member.sink->subscribed);
}

TEST_F(DeliveryTest, AConsumerHoldsAtMostItsLimitUntilItAcks) {
    options_.max_in_flight_per_consumer = 4;
    Open();
    Member member = Join("orders", "billing");
    Send("orders", Numbers(10));
    EXPECT_THAT(member.got(), SizeIs(4));
    ASSERT_TRUE(Ack(member, 0, 1).ok());
    EXPECT_THAT(member.got(), SizeIs(6));
}

TEST_F(DeliveryTest, FramesStayBelowAQuarterMebibyte) {
    Open();
    for (int i = 0; i < 10; ++i) {
        Send("orders", {std::string(100'000, 'x')});
    }
    Member member = Join("orders", "billing");
    EXPECT_THAT(member.got(), SizeIs(10));
    EXPECT_GE(member.sink->frame_count, 1U);
}

TEST_F(DeliveryTest, AGroupWithABacklogDoesNotKeepAnotherWaiting) {
    options_.store.segment_bytes = 64U << 20U;
    Open();
    for (int i = 0; i < 40; ++i) {
        Send("bulk", {std::string(1'000'000, 'x')});
    }
    Send("small", {"a"});
    std::vector<std::string> order;
    class Order final : public DeliverySink {
    public:
        Order(std::vector<std::string>& to, std::string name) : to_(to), name_(std::move(name)) {}
        void OnSubscribed(const SubscribeReply&) override {}
        void OnDelivery(std::vector<DeliveredBatch>) override { to_.push_back(name_); }
        void OnClosed(const Status&) override {}

    private:
        std::vector<std::string>& to_;
        std::string name_;
    };
    const auto bulk = std::make_shared<Order>(order, "bulk");
    const auto small = std::make_shared<Order>(order, "small");
    std::unique_ptr<Session> s1 = broker_->Subscribe(MakeRequest("bulk", "g"), bulk);
    std::unique_ptr<Session> s2 = broker_->Subscribe(MakeRequest("small", "g"), small);
    s1->Grant(Plenty());
    s2->Grant(Plenty());
    time_.Settle();
    EXPECT_THAT(order.size(), ::testing::Ge(8U)) << "the backlog goes in several rounds";
    EXPECT_THAT(std::vector<std::string>(order.begin(), order.begin() + 2),
                ElementsAre("bulk", "small"));
}

TEST_F(DeliveryTest, ALatestGroupBeginsWithWhatComesAfterIt) {
    Open();
    Send("orders", {"before"});
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.start = StartPosition::kLatest;
    Member member = Join(request);
    Send("orders", {"after"});
    EXPECT_THAT(member.bodies(), ElementsAre("after"));
}

TEST_F(DeliveryTest, AnEarliestGroupBeginsWithTheOldestThatIsKept) {
    Open();
    Send("orders", {"before"});
    Member member = Join("orders", "billing");
    EXPECT_THAT(member.bodies(), ElementsAre("before"));
}

TEST_F(DeliveryTest, AKnownGroupGoesOnWhereItWasWhateverTheSubscriberAsks) {
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1000});
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 0).ok());
    member.session->Close();
    CrashAndOpen();
    SubscribeRequest request = MakeRequest("orders", "billing", "c2");
    request.start = StartPosition::kLatest;
    Member other = Join(request);
    EXPECT_THAT(other.bodies(), ElementsAre("b", "c"));
}

TEST_F(DeliveryTest, ASubscriberOfAnUnknownSubjectGetsItsFirstMessage) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.start = StartPosition::kLatest;
    Member member = Join(request);
    Send("orders", {"first"});
    EXPECT_THAT(member.bodies(), ElementsAre("first"));
}

TEST_F(DeliveryTest, ANewGroupIsServedOnlyOnceItsPositionIsDurable) {
    Open();
    Send("orders", {"a"});
    Member member;
    member.session = broker_->Subscribe(MakeRequest("orders", "billing"), member.sink);
    member.session->Grant(Plenty());
    time_.SettleWithoutIo();
    EXPECT_FALSE(member.sink->subscribed);
    EXPECT_THAT(member.got(), IsEmpty());
    time_.Settle();
    EXPECT_TRUE(member.sink->subscribed);
    EXPECT_THAT(member.bodies(), ElementsAre("a"));
}

TEST_F(DeliveryTest, AnyOfTheTagsLetsAMessageThrough) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {TagMode::kAny, {"red", "blue"}};
    Member member = Join(request);
    Send("orders", {"r"}, {"red"});
    Send("orders", {"g"}, {"green"});
    Send("orders", {"gb"}, {"green", "blue"});
    Send("orders", {"none"});
    EXPECT_THAT(member.bodies(), ElementsAre("r", "gb"));
}

TEST_F(DeliveryTest, AllOfTheTagsMustBeThere) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {TagMode::kAll, {"red", "blue"}};
    Member member = Join(request);
    Send("orders", {"r"}, {"red"});
    Send("orders", {"rb"}, {"red", "blue"});
    Send("orders", {"rbg"}, {"blue", "green", "red"});
    EXPECT_THAT(member.bodies(), ElementsAre("rb", "rbg"));
}

TEST_F(DeliveryTest, WhatTheFilterSkippedStaysSkippedAfterARestart) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {TagMode::kAny, {"red"}};
    Member member = Join(request);
    Send("orders", {"g"}, {"green"});
    EXPECT_EQ(Info("orders", "billing").next_sequence, 1U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").next_sequence, 1U);
    // Another filter now does not bring back what the old one let go.
    Member other = Join("orders", "billing", "c2");
    EXPECT_THAT(other.got(), IsEmpty());
}

TEST_F(DeliveryTest, AFilterThatLetsLittleThroughFindsItAcrossManyMessages) {
    Open();
    for (int i = 0; i < 50; ++i) {
        Send("orders", Numbers(20), {"green"});
    }
    Send("orders", {"needle"}, {"red"});
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.filter = {TagMode::kAny, {"red"}};
    Member member = Join(request);
    EXPECT_THAT(member.bodies(), ElementsAre("needle"));
}

}  // namespace
}  // namespace qmq::broker::testing
