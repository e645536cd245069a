#include "tests/unit/broker/broker_fixture.h"

// Retry and dead-letter subjects as clients in other languages use them, and by name.
namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RetryTest : public BrokerTest {
protected:
    const std::string retry_ = RetrySubject("orders", "billing");
    const std::string dead_ = DeadLetterSubject("orders", "billing");

    SubscribeRequest From(const std::string& subject, ConsumeSource source) {
        SubscribeRequest request = MakeRequest(subject, "billing");
        request.key.source = source;
        return request;
    }
    AckItem Retry(std::uint64_t pull, std::chrono::milliseconds delay = 0ms) {
        return AckItem{AckVerdict::kRetry, pull, pull, delay, {}};
    }
    SendBatch Counted(std::uint32_t attempt, std::optional<WallTime> due) {
        const SendBatch plain = Batch(retry_, {"again"});
        const BatchView view = BatchView::Trusted(plain.batch.bytes());
        Result<MessageHead> head = ReadHead(view.body(), 0);
        return SendBatch{retry_, Slice::Own(EncodeRetry(view.body(), *head, attempt, due, "")), {}};
    }
};

// A retry was due by a clock that stood a day behind the wall clock, and a start compared the two.
TEST_F(RetryTest, ARetryScheduledSoonAfterAnAbsenceKeepsItsDelayOverARestart) {
    options_.store.retention = std::chrono::hours(24 * 30);
    SubscribeRequest patient = MakeRequest("orders", "billing", "c1");
    patient.ack_timeout = 12h;
    Open();
    Send("orders", {"a", "b"});
    Crash();
    time_.Advance(24h);
    Open();
    Member member = Join(patient);
    ASSERT_THAT(member.bodies(), ElementsAre("a", "b"));
    ASSERT_TRUE(Judge(member, {Retry(member.got()[0].pull, 6h)}).ok());
    time_.Advance(30s);
    member.session->Close();
    CrashAndOpen();
    Member again = Join(patient);
    time_.Advance(5h);
    EXPECT_THAT(again.bodies(), ::testing::Not(::testing::Contains("a")));
    time_.Advance(1h);
    EXPECT_THAT(again.bodies(), ::testing::Contains("a"));
}

TEST_F(RetryTest, WhatAnotherClientSendsToTheRetrySubjectWaitsForTheDelay) {
    Open();
    Member member = Join("orders", "billing");
    Send(Counted(3, std::nullopt));
    EXPECT_THAT(member.got(), IsEmpty());
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 1U);
    time_.Advance(4'999ms);
    EXPECT_THAT(member.got(), IsEmpty());
    time_.Advance(1ms);
    ASSERT_THAT(member.got(), SizeIs(1));
    EXPECT_TRUE(member.got()[0].from_retry);
    EXPECT_EQ(member.got()[0].attempt, 3U);
}

TEST_F(RetryTest, ATimeInTheMessageCountsInsteadOfTheDelay) {
    Open();
    Member member = Join("orders", "billing");
    Send(Counted(2, time_.clock.WallNow() + 1s));
    time_.Advance(999ms);
    EXPECT_THAT(member.got(), IsEmpty());
    time_.Advance(1ms);
    EXPECT_THAT(member.got(), SizeIs(1));
}

TEST_F(RetryTest, ItsWaitSurvivesARestart) {
    Open();
    Member member = Join("orders", "billing");
    ASSERT_TRUE(Ack(member, 0).ok());
    Send(Counted(3, std::nullopt));
    time_.Advance(3s);
    CrashAndOpen();
    Member again = Join("orders", "billing");
    time_.Advance(1'999ms);
    EXPECT_THAT(again.got(), IsEmpty());
    time_.Advance(1ms);
    ASSERT_THAT(again.got(), SizeIs(1));
    EXPECT_EQ(again.got()[0].attempt, 3U);
}

TEST_F(RetryTest, RetriesOfAGroupThatIsNotHereYetWaitForIt) {
    Open();
    Send("orders", {"old"});
    Send(Counted(2, std::nullopt));
    CrashAndOpen();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.start = StartPosition::kLatest;
    time_.Advance(10s);
    Member member = Join(request);
    EXPECT_THAT(member.bodies(), ElementsAre("again"));
}

TEST_F(RetryTest, SubjectAndRetriesMayBeConsumedApartAsNativeClientsDo) {
    Open();
    Member fresh = Join(From("orders", ConsumeSource::kSubject));
    Member again = Join(From(retry_, ConsumeSource::kSubject));
    Send("orders", {"a"});
    EXPECT_THAT(fresh.bodies(), ElementsAre("a"));
    EXPECT_THAT(again.got(), IsEmpty());
    ASSERT_TRUE(Judge(fresh, {Retry(0)}).ok());
    EXPECT_THAT(fresh.bodies(), ElementsAre("a"));
    ASSERT_THAT(again.got(), SizeIs(1));
    EXPECT_EQ(again.got()[0].pull, 0U) << "each has its own pull sequences";
    EXPECT_TRUE(again.got()[0].from_retry);
    EXPECT_EQ(Ack(again, 0)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(RetryTest, TheRetrySubjectByNameIsTheGroupsRetries) {
    Open();
    Member member = Join(From(retry_, ConsumeSource::kBoth));
    Send(Counted(2, time_.clock.WallNow()));
    ASSERT_THAT(member.got(), SizeIs(1));
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 1U);
    EXPECT_EQ(AckByKey(From(retry_, ConsumeSource::kSubject).key,
                       {AckItem{AckVerdict::kAck, 0, 0, {}, {}}})
                  ->not_held_count(),
              0U);
}

TEST_F(RetryTest, ARetryOfARetryGoesToTheSameRetrySubject) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {Retry(0)}).ok());
    ASSERT_TRUE(Judge(member, {Retry(1)}).ok());
    ASSERT_THAT(member.got(), SizeIs(3));
    EXPECT_EQ(member.got()[2].sequence, 1U);
    EXPECT_EQ(member.got()[2].attempt, 3U);
}

TEST_F(RetryTest, DueRetriesComeInTheOrderOfTheirTimes) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Judge(member, {Retry(0, 3s), Retry(1, 1s), Retry(2, 2s)}).ok());
    time_.Advance(5s);
    EXPECT_THAT(member.bodies(), ElementsAre("a", "b", "c", "b", "c", "a"));
}

TEST_F(RetryTest, ARetryGoesToTheGroupThatAskedForItAndToNoOther) {
    Open();
    Member billing = Join("orders", "billing");
    Member shipping = Join("orders", "shipping");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(billing, {Retry(0)}).ok());
    EXPECT_THAT(billing.got(), SizeIs(2));
    EXPECT_THAT(shipping.got(), SizeIs(1));
}

TEST_F(RetryTest, DeadLettersAreConsumedAsAnOrdinarySubject) {
    Open();
    Send(dead_, {"a", "b"});
    Member member = Join(dead_, "undertaker");
    EXPECT_THAT(member.bodies(), ElementsAre("a", "b"));
    EXPECT_FALSE(member.got()[0].from_retry);
    ASSERT_TRUE(Ack(member, 0, 1).ok());
    CrashAndOpen();
    Member again = Join(dead_, "undertaker");
    EXPECT_THAT(again.got(), IsEmpty());
}

TEST_F(RetryTest, ARetryOfADeadLetterWaitsInPlaceWithoutACopy) {
    Open();
    Send(dead_, {"a"});
    Member member = Join(dead_, "undertaker");
    ASSERT_TRUE(Judge(member, {Retry(0, 2s)}).ok());
    EXPECT_EQ(Info(dead_, "undertaker").waiting_retry_count, 1U);
    CrashAndOpen();
    Member again = Join(dead_, "undertaker");
    time_.Advance(1'999ms);
    EXPECT_THAT(again.got(), IsEmpty());
    time_.Advance(1ms);
    ASSERT_THAT(again.got(), SizeIs(1));
    EXPECT_EQ(again.got()[0].attempt, 2U);
    EXPECT_EQ(again.got()[0].sequence, 0U);
    EXPECT_FALSE(again.got()[0].from_retry);
    EXPECT_EQ(Info(dead_, "undertaker").next_sequence, 1U);
}

// It came again 30,000 times a second, for ever: in place no attempt is the last.
TEST_F(RetryTest, ADeadLetterThatFailsWaitsASecondWhateverThePolicySays) {
    Open();
    Send(dead_, {"a"});
    SubscribeRequest request = MakeRequest(dead_, "undertaker");
    request.retry.initial_backoff = 0ms;
    Member member = Join(request);
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, std::nullopt, {}}}).ok());
    time_.Advance(999ms);
    EXPECT_THAT(member.got(), SizeIs(1));
    time_.Advance(1ms);
    ASSERT_THAT(member.got(), SizeIs(2));
    // A handler that says when is taken at its word.
    ASSERT_TRUE(Judge(member, {Retry(1, 0ms)}).ok());
    EXPECT_THAT(member.got(), SizeIs(3));
}

TEST_F(RetryTest, ADeadLetterNeverBecomesOneAgain) {
    Open();
    Send(dead_, {"a"});
    SubscribeRequest request = MakeRequest(dead_, "billing");
    request.retry.max_attempts = 1;
    Member member = Join(request);
    ASSERT_TRUE(Judge(member, {Retry(0)}).ok());
    ASSERT_THAT(member.got(), SizeIs(2));
    EXPECT_EQ(Info(dead_, "billing").dead_letter_count, 0U);
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kDeadLetter, 1, 1, {}, {}}}).ok());
    EXPECT_EQ(Info(dead_, "billing").lag_count, 0U);
}

// Clients read a batch whole or not at all. What failed together was copied together, so that one
// message with an unknown kind of property took its neighbours to the dead letters.
TEST_F(RetryTest, WhatClientsCannotReadIsCopiedIntoABatchOfItsOwn) {
    Open();
    Send("orders", {"a"});
    Send(UnreadableBatch("orders"));
    Send("orders", {"c"});
    Member member = Join("orders", "billing");
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 2, 0ms, "why"}}).ok());
    EXPECT_THAT(member.bodies(), ElementsAre("a", kUnreadable, "c", "a", kUnreadable, "c"));
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kDeadLetter, 3, 5, {}, "why"}}).ok());
    Member reader = Join(dead_, "people");
    EXPECT_THAT(reader.bodies(), ElementsAre("a", kUnreadable, "c"));
}

TEST_F(RetryTest, AJumpOfTheWallClockNeitherHurriesARetryNorKeepsItWaiting) {
    for (const std::chrono::milliseconds jump : {7'200'000ms, -7'200'000ms}) {
        SCOPED_TRACE(jump.count());
        memory_ = env::MakeMemoryFileSystem();
        files_ = memory_.get();
        Open();
        Member member = Join("orders", "billing");
        Send("orders", {"a"});
        ASSERT_TRUE(Judge(member, {Retry(0, 1min)}).ok());
        time_.clock.JumpWall(jump);
        time_.Advance(1min - 1ms);
        EXPECT_THAT(member.got(), SizeIs(1));
        time_.Advance(1ms);
        EXPECT_THAT(member.got(), SizeIs(2));
        Crash();
    }
}

// All of a range that failed in place waited as its first message did.
TEST_F(RetryTest, EachOfARangeThatFailsWaitsAsItsOwnAttemptsSay) {
    for (const std::string& subject : {std::string("orders"), dead_}) {
        SCOPED_TRACE(subject);
        memory_ = env::MakeMemoryFileSystem();
        files_ = memory_.get();
        Open();
        SubscribeRequest request = MakeRequest(subject, "billing");
        request.ack_timeout = 12h;
        request.retry.max_attempts = 10;
        request.retry.initial_backoff = 1s;
        request.retry.multiplier = 10.0;
        request.retry.max_backoff = 1'000s;
        Member member = Join(request);
        Send(subject, {"young", "old"});
        for (const std::uint64_t pull : {1U, 2U}) {
            ASSERT_TRUE(Judge(member, {Retry(pull)}).ok());
            time_.Advance(1ms);
        }
        ASSERT_THAT(member.bodies(), ElementsAre("young", "old", "old", "old"));
        ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 3, {}, {}}}).ok());
        time_.Advance(50s);
        ASSERT_THAT(member.got(), SizeIs(5));
        EXPECT_EQ(member.got().back().body, "young");
        time_.Advance(60s);
        EXPECT_THAT(member.got(), SizeIs(6));
        Crash();
    }
}

}  // namespace
}  // namespace qmq::broker::testing
