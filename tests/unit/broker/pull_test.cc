#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PullTest : public BrokerTest {
protected:
    PullRequest Request(std::chrono::milliseconds max_wait = 0ms) {
        PullRequest request;
        request.consumer = MakeRequest("orders", "billing");
        request.max_wait = max_wait;
        return request;
    }
    static std::vector<std::string> Bodies(const Result<PullReply>& reply) {
        EXPECT_TRUE(reply.ok()) << reply.status();
        std::vector<std::string> all;
        for (const Got& got : Decode(reply->batches)) {
            all.push_back(got.body);
        }
        return all;
    }
    Result<AckReply> AckPulled(std::uint64_t first, std::uint64_t last) {
        return AckByKey(Request().consumer.key, {AckItem{AckVerdict::kAck, first, last, {}, {}}});
    }
};

TEST_F(PullTest, APullIsAnsweredWithWhatThereIs) {
    Open();
    Send("orders", {"a"});
    Send("orders", {"b"});
    EXPECT_THAT(Bodies(Pull(Request())), ElementsAre("a", "b"));
    EXPECT_EQ(AckPulled(0, 1)->not_held_count(), 0U);
    EXPECT_THAT(Bodies(Pull(Request())), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PullTest, WithoutAWaitAnEmptyAnswerComesAtOnce) {
    Open();
    const TimePoint before = time_.clock.Now();
    EXPECT_THAT(Bodies(Pull(Request())), IsEmpty());
    EXPECT_EQ(time_.clock.Now(), before);
}

TEST_F(PullTest, ALongPollIsAnsweredByTheMessageAndNotByTheClock) {
    Open();
    auto reply = PostPull(Request(10s));
    time_.Advance(5s);
    EXPECT_FALSE(*reply);
    Send("orders", {"a"});
    ASSERT_TRUE(*reply);
    EXPECT_THAT(Bodies(**reply), ElementsAre("a"));
}

TEST_F(PullTest, ALongPollEndsEmptyWhenItsTimeIsOver) {
    Open();
    auto reply = PostPull(Request(10s));
    time_.Advance(9'999ms);
    EXPECT_FALSE(*reply);
    time_.Advance(1ms);
    ASSERT_TRUE(*reply);
    EXPECT_THAT(Bodies(**reply), IsEmpty());
    Send("orders", {"a"});
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U) << "nobody was there to take it";
}

TEST_F(PullTest, APullTakesNoMoreMessagesThanItAskedFor) {
    Open();
    Send("orders", {"a", "b", "c"});
    PullRequest request = Request();
    request.max_messages = 2;
    EXPECT_THAT(Bodies(Pull(request)), ElementsAre("a", "b"));
    EXPECT_THAT(Bodies(Pull(request)), ElementsAre("c"));
}

TEST_F(PullTest, APullTakesAtLeastOneMessageHoweverSmallItsBytes) {
    Open();
    Send("orders", {std::string(1'000, 'x'), "b"});
    PullRequest request = Request();
    request.max_bytes = 1;
    EXPECT_THAT(Bodies(Pull(request)), SizeIs(1));
}

TEST_F(PullTest, PullsThatWaitAreServedOneByOne) {
    Open();
    PullRequest request = Request(10s);
    request.max_messages = 1;
    auto first = PostPull(request);
    auto second = PostPull(request);
    time_.Settle();
    Send("orders", {"a", "b"});
    ASSERT_TRUE(*first && *second);
    EXPECT_THAT(Bodies(**first), ElementsAre("a"));
    EXPECT_THAT(Bodies(**second), ElementsAre("b"));
}

TEST_F(PullTest, APullThatSaysWhatArrivedGetsTheRestAgain) {
    Open();
    Send("orders", {"a", "b", "c"});
    const Result<PullReply> lost = Pull(Request());
    ASSERT_TRUE(lost.ok());
    PullRequest request = Request();
    request.consumer.resume = ResumePoint{lost->subscribed.incarnation, 1};
    const Result<PullReply> again = Pull(request);
    EXPECT_THAT(Bodies(again), ElementsAre("b", "c"));
    EXPECT_EQ(again->batches[0].first_pull_sequence, 1U);
    EXPECT_EQ(again->batches[0].attempt, 1U);
}

// A native client knows no incarnation; after a restart it has received nothing (-1).
TEST_F(PullTest, ARestartedNativeClientGetsAllThatItHeldWithTheSamePullSequences) {
    Open();
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Pull(Request()).ok());
    ASSERT_TRUE(AckPulled(0, 0).ok());
    PullRequest request = Request();
    request.consumer.resume = ResumePoint{0, 0};
    const Result<PullReply> again = Pull(request);
    EXPECT_THAT(Bodies(again), ElementsAre("b"));
    EXPECT_EQ(again->batches[0].first_pull_sequence, 1U);
}

TEST_F(PullTest, AnAckThatLeavesAGapLeavesItsMessagesHeld) {
    Open();
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Pull(Request()).ok());
    ASSERT_TRUE(AckPulled(2, 2).ok());
    PullRequest request = Request();
    request.consumer.resume = ResumePoint{0, 0};
    EXPECT_THAT(Bodies(Pull(request)), ElementsAre("a", "b"));
}

TEST_F(PullTest, WhatIsPulledAndNotAckedGoesToAnotherAfterTheAckTimeout) {
    Open();
    Send("orders", {"a"});
    PullRequest request = Request();
    request.consumer.ack_timeout = 5s;
    EXPECT_THAT(Bodies(Pull(request)), ElementsAre("a"));
    time_.Advance(5s);
    EXPECT_EQ(Info("orders", "billing").consumer_count, 0U) << "it lives from pull to pull";
    request.consumer.key.consumer_id = "other";
    const Result<PullReply> reply = Pull(request);
    EXPECT_THAT(Bodies(reply), ElementsAre("a"));
    EXPECT_EQ(reply->batches[0].attempt, 1U);
    EXPECT_EQ(AckPulled(0, 0)->not_held_count(), 1U);
}

TEST_F(PullTest, APulledMessageSurvivesARestartAsHeld) {
    Open();
    Send("orders", {"a"});
    ASSERT_TRUE(Pull(Request()).ok());
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 1U);
    EXPECT_EQ(AckPulled(0, 0)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PullTest, ASessionTakesOverFromPullsOfTheSameId) {
    Open();
    auto reply = PostPull(Request(10s));
    time_.Settle();
    Member member = Join("orders", "billing");
    ASSERT_TRUE(*reply);
    EXPECT_EQ((*reply)->status().code(), StatusCode::kAlreadyExists);
    Send("orders", {"a"});
    EXPECT_THAT(member.bodies(), ElementsAre("a"));
}

TEST_F(PullTest, APullOfNothingOrForTooLongIsInvalid) {
    Open();
    PullRequest request = Request();
    request.max_messages = 0;
    EXPECT_EQ(Pull(request).status().code(), StatusCode::kInvalidArgument);
    request = Request(-1ms);
    EXPECT_EQ(Pull(request).status().code(), StatusCode::kInvalidArgument);
    request = Request(2h);
    EXPECT_EQ(Pull(request).status().code(), StatusCode::kInvalidArgument);
    request = Request();
    request.consumer.key.group = "a/b";
    EXPECT_EQ(Pull(request).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(PullTest, TooManyPullsAreAnsweredBusy) {
    options_.max_queued_requests = 2;
    Open();
    auto first = PostPull(Request(10s));
    auto second = PostPull(Request(10s));
    const Result<PullReply> third = Pull(Request(10s));
    EXPECT_EQ(third.status().code(), StatusCode::kResourceExhausted);
}

// A consumer that pulls was given up its ack timeout after the pull had come, not after the answer:
// what a long poll was handed at its end was taken from it early, and a death was counted.
TEST_F(PullTest, WhatALongPollWasHandedIsItsOwnForTheWholeAckTimeout) {
    Open();
    PullRequest request = Request(9s);
    request.consumer.ack_timeout = 10s;
    auto reply = PostPull(request);
    time_.Advance(8'900ms);
    Send("orders", {"a"});
    ASSERT_TRUE(*reply);
    ASSERT_THAT(Bodies(**reply), ElementsAre("a"));
    Member other = Join("orders", "billing", "other");
    time_.Advance(9'999ms);
    EXPECT_THAT(other.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").suspect_count, 0U);
    EXPECT_EQ(AckPulled(0, 0)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(PullTest, WhoPullsWithoutAnAnswerForLongKeepsWhatItHolds) {
    Open();
    Send("orders", {"a"});
    PullRequest request = Request();
    request.consumer.ack_timeout = 10s;
    ASSERT_THAT(Bodies(Pull(request)), ElementsAre("a"));
    time_.Advance(5s);
    request.max_wait = 4s;
    auto reply = PostPull(request);
    time_.Advance(4'500ms);
    ASSERT_TRUE(*reply);
    EXPECT_THAT(Bodies(**reply), IsEmpty());
    EXPECT_EQ(AckPulled(0, 0)->not_held_count(), 0U);
    time_.Advance(9'900ms);
    EXPECT_EQ(Info("orders", "billing").consumer_count, 1U);
    time_.Advance(200ms);
    EXPECT_EQ(Info("orders", "billing").consumer_count, 0U);
}

// While others filled the rounds it was answered before anybody had looked for it.
TEST_F(PullTest, WithoutAWaitItIsAnsweredWithWhatThereIsHoweverBusyOthersAre) {
    Open();
    std::vector<Member> busy;
    for (int i = 0; i < 40; ++i) {
        busy.push_back(Join("bulk", "g" + std::to_string(i), "c1", {0, 0}));
    }
    for (int i = 0; i < 20; ++i) {
        Send("bulk", {std::string(250'000, 'x')});
    }
    Send("orders", {"a"});
    ASSERT_THAT(Bodies(Pull(Request())), ElementsAre("a"));
    ASSERT_TRUE(
        AckByKey(Request().consumer.key, {AckItem{AckVerdict::kRelease, 0, 0, {}, {}}}).ok());
    for (Member& member : busy) {
        member.session->Grant(Plenty());
    }
    auto reply = PostPull(Request());
    time_.Settle();
    ASSERT_TRUE(*reply);
    EXPECT_THAT(Bodies(**reply), ElementsAre("a"));
}

// But one that its group has nothing for does not wait until all others have all.
TEST_F(PullTest, WithoutAWaitItIsAnsweredOnceItHadItsTurnInABusyGroup) {
    Open();
    SubscribeRequest bulk = MakeRequest("orders", "billing", "bulk");
    bulk.filter = {TagMode::kAny, {"bulk"}};
    Member busy = Join(bulk, {0, 0});
    for (int i = 0; i < 40; ++i) {
        Send("orders", {std::string(250'000, 'x')}, {"bulk"});
    }
    busy.session->Grant(Plenty());
    PullRequest request = Request();
    request.consumer.filter = {TagMode::kAny, {"other"}};
    std::size_t before = 0;
    broker_->Pull(request, [&](Result<PullReply> reply) {
        EXPECT_THAT(Bodies(reply), IsEmpty());
        before = busy.got().size();
    });
    time_.Settle();
    EXPECT_THAT(busy.got(), SizeIs(40));
    EXPECT_GT(before, 0U);
    EXPECT_LT(before, 40U);
}

// Each visit took one message however large, so the last one of an answer could be any size: with
// gRPC's default of 4 MiB the caller never saw the answer, nor the small ones in it.
TEST_F(PullTest, APullThatHasSomethingTakesNothingBeyondItsBytes) {
    Open();
    Send("orders", {std::string(300, 'a')});
    Send("orders", {std::string(300, 'b')});
    Send("orders", {std::string(50'000, 'c')});
    PullRequest request = Request();
    request.max_bytes = 1'000;
    EXPECT_THAT(Bodies(Pull(request)), SizeIs(2));
    EXPECT_THAT(Bodies(Pull(request)), SizeIs(1));
}

}  // namespace
}  // namespace qmq::broker::testing
