#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class AckTest : public BrokerTest {
protected:
    AckItem Item(AckVerdict verdict, std::uint64_t first, std::uint64_t last) {
        return AckItem{verdict, first, last, {}, {}};
    }
    /// What a consumer of another id gets after the first one left.
    std::vector<std::string> LeftOver() {
        Member next = Join("orders", "billing", "next");
        return next.bodies();
    }
};

TEST_F(AckTest, AcksOutOfOrderCountOneByOne) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c", "d"});
    EXPECT_EQ(Ack(member, 2)->not_held_count(), 0U);
    EXPECT_EQ(Ack(member, 0)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 2U);
    member.session->Close();
    time_.Settle();
    EXPECT_THAT(LeftOver(), ElementsAre("b", "d"));
}

TEST_F(AckTest, AGapBeforeARangeIsNotAcked) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c", "d"});
    // A native client that lost an ack of 0 and 1: those are not done.
    ASSERT_TRUE(Ack(member, 2, 3).ok());
    CrashAndOpen();
    time_.Advance(10s);
    EXPECT_THAT(LeftOver(), ElementsAre("a", "b"));
}

TEST_F(AckTest, WhatWasAckedBeforeIsNotHeldAnyMore) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 0, 1).ok());
    EXPECT_EQ(Ack(member, 0, 2)->not_held_count(), 2U);
    EXPECT_EQ(Ack(member, 0, 2)->not_held_count(), 3U);
}

// The client told handlers whose ack was recorded that it was not, when the word that another one
// had begun was overtaken by that one's ack, and came in their request. kill -9 found it.
TEST_F(AckTest, ABeginThatComesAfterItsAckIsNotCountedAsNotHeld) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Ack(member, 0).ok());
    const Result<AckReply> reply =
        Judge(member, {Item(AckVerdict::kBegin, 0, 1), Item(AckVerdict::kAck, 1, 1)});
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->not_held_count(), 0U);
}

TEST_F(AckTest, WhatWasNeverHandedOutIsNotHeld) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    EXPECT_EQ(Ack(member, 1, 10)->not_held_count(), 10U);
    // Of all 2^64 numbers one is held, and no sum stops short of the rest.
    const Result<AckReply> reply = Ack(member, 0, UINT64_MAX);
    EXPECT_THAT(reply->not_held, ElementsAre(PullRange{1, UINT64_MAX}));
    EXPECT_EQ(reply->not_held_count(), UINT64_MAX);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U);
}

// Each was held when the request came, so each ack that names it is told that it was recorded.
TEST_F(AckTest, WhatOverlappingAcksOfARequestNameIsHeld) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c", "d"});
    Result<AckReply> reply = Judge(
        member,
        {Item(AckVerdict::kAck, 2, 3), Item(AckVerdict::kAck, 0, 2), Item(AckVerdict::kAck, 1, 1)});
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 0U);
}

// One lost lease made every ack of its request say "not recorded".
TEST_F(AckTest, TheReplyNamesWhatWasNotHeld) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c", "d", "e", "f"});
    ASSERT_TRUE(Ack(member, 1).ok());
    ASSERT_TRUE(Ack(member, 4).ok());
    Result<AckReply> reply = Judge(member,
                                   {Item(AckVerdict::kAck, 0, 1),
                                    Item(AckVerdict::kAck, 2, 2),
                                    Item(AckVerdict::kRenew, 3, 9),
                                    Item(AckVerdict::kBegin, 4, 4)});
    ASSERT_TRUE(reply.ok());
    EXPECT_THAT(reply->not_held, ElementsAre(PullRange{1, 1}, PullRange{4, 4}, PullRange{6, 9}));
    EXPECT_EQ(reply->not_held_count(), 6U);
}

TEST_F(AckTest, WhatIsNotHeldIsAtMostAThousandRangesOfWhichTheLastReachesOverTheRest) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", std::vector<std::string>(2'500, "x"));
    ASSERT_THAT(member.got(), SizeIs(2'500));
    std::vector<AckItem> odd;
    for (std::uint64_t pull = 1; pull < 2'500; pull += 2) {
        odd.push_back(Item(AckVerdict::kAck, pull, pull));
    }
    ASSERT_TRUE(Judge(member, odd).ok());
    Result<AckReply> reply = Judge(member, {Item(AckVerdict::kRenew, 0, 2'499)});
    ASSERT_TRUE(reply.ok());
    ASSERT_THAT(reply->not_held, SizeIs(AckReply::kMostNotHeld));
    EXPECT_EQ(reply->not_held.front(), (PullRange{1, 1}));
    EXPECT_EQ(reply->not_held[1'022], (PullRange{2'045, 2'045}));
    EXPECT_EQ(reply->not_held.back(), (PullRange{2'047, 2'499}));
}

TEST_F(AckTest, ARangeThatEndsBeforeItBeginsIsInvalid) {
    Open();
    Member member = Join("orders", "billing");
    EXPECT_EQ(Ack(member, 2, 1).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(AckTest, AcksSurviveARestart) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(member, 1).ok());
    CrashAndOpen();
    time_.Advance(10s);
    EXPECT_THAT(LeftOver(), ElementsAre("a", "c"));
}

TEST_F(AckTest, RetryComesBackAfterTheBackOffWithTheAttemptCountedAndTheReason) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry.initial_backoff = 2s;
    Member member = Join(request);
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, {}, "no paper"}}).ok());
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 1U);
    time_.Advance(1'999ms);
    EXPECT_THAT(member.got(), SizeIs(1));
    time_.Advance(1ms);
    ASSERT_THAT(member.got(), SizeIs(2)) << "nobody polled: the timer woke it";
    const Got& again = member.got()[1];
    EXPECT_EQ(again.body, "a");
    EXPECT_EQ(again.attempt, 2U);
    EXPECT_TRUE(again.from_retry);
    EXPECT_EQ(again.pull, 1U);
    EXPECT_EQ(again.error, "no paper");
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 0U);
}

TEST_F(AckTest, BackOffGrowsToItsLimit) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry = {32, 1s, 3.0, 5s};
    Member member = Join(request);
    Send("orders", {"a"});
    for (const auto wait : {1s, 3s, 5s, 5s}) {
        const std::size_t before = member.got().size();
        ASSERT_TRUE(Judge(member, {Item(AckVerdict::kRetry, before - 1, before - 1)}).ok());
        time_.Advance(wait - 1ms);
        EXPECT_THAT(member.got(), SizeIs(before));
        time_.Advance(1ms);
        ASSERT_THAT(member.got(), SizeIs(before + 1));
    }
    EXPECT_EQ(member.got().back().attempt, 5U);
}

TEST_F(AckTest, RetryMayNameItsOwnDelay) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, {}}}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 1, 1, 1h, {}}}).ok());
    time_.Advance(1h - 1ms);
    EXPECT_THAT(member.got(), SizeIs(2));
    time_.Advance(1ms);
    EXPECT_THAT(member.got(), SizeIs(3));
}

TEST_F(AckTest, RetryIsOneRecordSoThatARestartFindsExactlyOneOfThem) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 1s, "why"}}).ok());
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 1U);
    time_.Advance(10s);
    Member next = Join("orders", "billing", "next");
    ASSERT_THAT(next.got(), SizeIs(2));
    EXPECT_EQ(next.got()[0].body, "b");
    EXPECT_EQ(next.got()[0].attempt, 1U) << "no handler is known to have begun with it";
    EXPECT_EQ(next.got()[1].body, "a");
    EXPECT_EQ(next.got()[1].attempt, 2U);
    EXPECT_EQ(next.got()[1].error, "why");
}

TEST_F(AckTest, UsedUpAttemptsMakeADeadLetterWithTheError) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry.max_attempts = 2;
    request.retry.initial_backoff = 0ms;
    Member member = Join(request);
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, {}, "first"}}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 1, 1, {}, "second"}}).ok());
    time_.Advance(1h);
    EXPECT_THAT(member.got(), SizeIs(2));
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);

    Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
    ASSERT_THAT(undertaker.got(), SizeIs(1));
    EXPECT_EQ(undertaker.got()[0].body, "a");
    EXPECT_EQ(undertaker.got()[0].error, "second");
}

TEST_F(AckTest, DeadLetterAtOnceWhenTheConsumerSaysSo) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kDeadLetter, 0, 0, {}, "poison"}}).ok());
    CrashAndOpen();
    Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
    ASSERT_THAT(undertaker.got(), SizeIs(1));
    EXPECT_EQ(undertaker.got()[0].error, "poison");
    time_.Advance(1h);
    EXPECT_THAT(LeftOver(), IsEmpty());
}

TEST_F(AckTest, ALongErrorIsCut) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(
        Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, std::string(10'000, 'e')}}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    EXPECT_EQ(member.got()[1].error.size(), 4'096U);
}

TEST_F(AckTest, ARangeOfRetriesKeepsEveryMessage) {
    Open();
    Member member = Join("orders", "billing");
    std::vector<std::string> bodies;
    for (int i = 0; i < 700; ++i) {
        bodies.push_back(std::to_string(i));
    }
    Send("orders", bodies);
    ASSERT_THAT(member.got(), SizeIs(700));
    ASSERT_TRUE(Ack(member, 3).ok());
    Result<AckReply> reply = Judge(member, {AckItem{AckVerdict::kRetry, 0, 699, 0ms, {}}});
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->not_held_count(), 1U);
    std::vector<std::string> again;
    for (std::size_t i = 700; i < member.got().size(); ++i) {
        EXPECT_EQ(member.got()[i].attempt, 2U);
        again.push_back(member.got()[i].body);
    }
    bodies.erase(bodies.begin() + 3);
    EXPECT_THAT(again, ::testing::ElementsAreArray(bodies));
}

TEST_F(AckTest, ReleaseGivesItToAnotherNowAndDoesNotCount) {
    Open();
    Member first = Join("orders", "billing", "1", {2, 10'000});
    Send("orders", {"a", "b"});
    Member second = Join("orders", "billing", "2");
    EXPECT_THAT(second.got(), IsEmpty());
    ASSERT_TRUE(Judge(first, {Item(AckVerdict::kRelease, 1, 1)}).ok());
    ASSERT_THAT(second.got(), SizeIs(1));
    EXPECT_EQ(second.got()[0].body, "b");
    EXPECT_EQ(second.got()[0].attempt, 1U);
    EXPECT_EQ(Ack(first, 1)->not_held_count(), 1U);
}

TEST_F(AckTest, ReleasedMessagesGoBeforeNewOnes) {
    Open();
    Member member = Join("orders", "billing", "1", {2, 10'000});
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Judge(member, {Item(AckVerdict::kRelease, 0, 1)}).ok());
    member.session->Grant({10, 10'000});
    time_.Settle();
    EXPECT_THAT(member.bodies(), ElementsAre("a", "b", "a", "b", "c"));
}

TEST_F(AckTest, ALeaseThatEndsGivesTheMessageToAnother) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.ack_timeout = 30s;
    Member slow = Join(request, {1, 10'000});
    Send("orders", {"a"});
    request.key.consumer_id = "c2";
    Member other = Join(request);
    time_.Advance(29'999ms);
    EXPECT_THAT(other.got(), IsEmpty());
    time_.Advance(1ms);
    ASSERT_THAT(other.got(), SizeIs(1));
    EXPECT_EQ(other.got()[0].attempt, 1U) << "nobody has told that a handler had it";
    EXPECT_EQ(Ack(slow, 0)->not_held_count(), 1U);
}

TEST_F(AckTest, RenewStartsTheLeaseAnew) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.ack_timeout = 30s;
    Member slow = Join(request, {2, 10'000});
    Send("orders", {"a", "b"});
    request.key.consumer_id = "c2";
    Member other = Join(request);
    time_.Advance(20s);
    ASSERT_TRUE(Judge(slow, {Item(AckVerdict::kRenew, 0, 0)}).ok());
    time_.Advance(10s);
    EXPECT_THAT(other.bodies(), ElementsAre("b"));
    time_.Advance(20s);
    EXPECT_THAT(other.bodies(), ElementsAre("b", "a"));
}

TEST_F(AckTest, AMessageThatKillsItsConsumersBecomesADeadLetter) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry.max_attempts = 3;
    request.ack_timeout = 1s;
    Member member = Join(request);
    Send("orders", {"deadly"});
    time_.Advance(10s);
    ASSERT_THAT(member.got(), SizeIs(5)) << "two deaths, then three attempts, never a fourth";
    EXPECT_EQ(member.got()[4].attempt, 3U);
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
    Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
    ASSERT_THAT(undertaker.got(), SizeIs(1));
    EXPECT_THAT(undertaker.got()[0].error, HasSubstr("3 times"));
}

TEST_F(AckTest, AttemptsAreCountedOverRestarts) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.retry.max_attempts = 3;
    request.ack_timeout = 1s;
    Member first = Join(request, {0, 0});
    Send("orders", {"deadly"});
    // Two deaths make it a suspect. From then on each counts.
    for (const std::uint32_t attempt : {1U, 1U, 1U, 2U, 3U}) {
        Member member = Join(request, {1, 1'000});
        ASSERT_THAT(member.got(), SizeIs(1));
        EXPECT_EQ(member.got()[0].attempt, attempt);
        CrashAndOpen();
    }
    Member member = Join(request);
    EXPECT_THAT(member.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").dead_letter_count, 1U);
}

TEST_F(AckTest, TheOldestUnackedAgeCountsFromTheFirstHandOut) {
    Open();
    Member member = Join("orders", "billing");
    EXPECT_FALSE(Info("orders", "billing").oldest_unacked_age);
    Send("orders", {"a"});
    time_.Advance(7s);
    EXPECT_EQ(Info("orders", "billing").oldest_unacked_age, 7s);
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 1h, {}}}).ok());
    time_.Advance(3s);
    EXPECT_EQ(Info("orders", "billing").oldest_unacked_age, 10s);
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").oldest_unacked_age, 10s);
}

TEST_F(AckTest, AMessageThatAnotherClientCountedHigherKeepsTheHigherCount) {
    Open();
    // As a native client sends a retry at a time: to the subject itself, with its own count.
    BatchBuilder first;
    Message message("orders");
    message.SetBody("a");
    first.Add(message, "id", time_.clock.WallNow());
    const std::string bytes = first.Finish();
    const BatchView view = BatchView::Trusted(bytes);
    Result<MessageHead> head = ReadHead(view.body(), 0);
    ASSERT_TRUE(head.ok());
    const std::string counted = EncodeRetry(view.body(), *head, 7, std::nullopt, "");
    Member member = Join("orders", "billing");
    Send(SendBatch{"orders", Slice::Own(counted), Durability::kDefault});
    ASSERT_THAT(member.got(), SizeIs(1));
    EXPECT_EQ(member.got()[0].attempt, 7U);
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, {}}}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    EXPECT_EQ(member.got()[1].attempt, 8U);
}

}  // namespace
}  // namespace qmq::broker::testing
