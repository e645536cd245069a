#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ConsumerTest : public BrokerTest {
protected:
    SubscribeRequest Resuming(const Member& member, std::uint64_t next) {
        SubscribeRequest request = MakeRequest("orders", "billing");
        request.resume = ResumePoint{member.sink->subscribed->incarnation, next};
        return request;
    }
    static std::vector<std::uint64_t> Pulls(const Member& member) {
        std::vector<std::uint64_t> all;
        for (const Got& got : member.got()) {
            all.push_back(got.pull);
        }
        return all;
    }
};

TEST_F(ConsumerTest, CloseGivesWhatItHoldsToOthersAtOnce) {
    Open();
    Member first = Join("orders", "billing", "1");
    Send("orders", {"a", "b"});
    Member second = Join("orders", "billing", "2");
    ASSERT_TRUE(Ack(first, 0).ok());
    ASSERT_TRUE(Judge(first, {AckItem{AckVerdict::kBegin, 1, 1, {}, {}}}).ok());
    first.session->Close();
    time_.Settle();
    ASSERT_TRUE(first.sink->closed);
    EXPECT_EQ(first.sink->closed->code(), StatusCode::kCancelled);
    ASSERT_THAT(second.got(), SizeIs(1));
    EXPECT_EQ(second.got()[0].body, "b");
    EXPECT_EQ(second.got()[0].attempt, 2U);
    EXPECT_EQ(Info("orders", "billing").consumer_count, 1U);
}

TEST_F(ConsumerTest,
       CloseCountsTheAttemptOfWhatHadBegunADeathOfTheRestAndNothingOfWhatWasReleased) {
    Open();
    Member first = Join("orders", "billing", "1", {3, 1'000'000});
    Send("orders", {"begun", "untold", "released"});
    ASSERT_TRUE(Judge(first,
                      {AckItem{AckVerdict::kBegin, 0, 0, {}, {}},
                       AckItem{AckVerdict::kRelease, 2, 2, {}, {}}})
                    .ok());
    first.session->Close();
    time_.Settle();
    EXPECT_EQ(Info("orders", "billing").suspect_count, 1U) << "untold";
    Member second = Join("orders", "billing", "2");
    ASSERT_THAT(second.bodies(), ElementsAre("begun", "untold", "released"));
    EXPECT_EQ(second.got()[0].attempt, 2U);
    EXPECT_EQ(second.got()[1].attempt, 1U);
    EXPECT_EQ(second.got()[2].attempt, 1U);
    // Twice lost without a word it is handed out alone, and from then on each loss is an attempt.
    ASSERT_TRUE(Ack(second, 0).ok());
    ASSERT_TRUE(Ack(second, 2).ok());
    second.session->Close();
    Member third = Join("orders", "billing", "3");
    ASSERT_THAT(third.bodies(), ElementsAre("untold"));
    EXPECT_EQ(third.got()[0].attempt, 1U);
    third.session->Close();
    Member fourth = Join("orders", "billing", "4");
    ASSERT_THAT(fourth.bodies(), ElementsAre("untold"));
    EXPECT_EQ(fourth.got()[0].attempt, 2U);
}

TEST_F(ConsumerTest, AnAckAfterCloseIsCancelled) {
    Open();
    Member member = Join("orders", "billing");
    member.session->Close();
    EXPECT_EQ(Ack(member, 0).status().code(), StatusCode::kCancelled);
}

TEST_F(ConsumerTest, ALostConnectionKeepsWhatItHeldForTheGrace) {
    Open();
    Member first = Join("orders", "billing", "1");
    Send("orders", {"a"});
    Member second = Join("orders", "billing", "2");
    first.session.reset();
    time_.Advance(1'999ms);
    EXPECT_THAT(second.got(), IsEmpty());
    time_.Advance(1ms);
    ASSERT_THAT(second.got(), SizeIs(1));
    EXPECT_EQ(second.got()[0].attempt, 1U);
    EXPECT_FALSE(first.sink->closed) << "nobody listens there";
}

TEST_F(ConsumerTest, AConsumerThatIsGoneIsForgotten) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Ack(member, 0).ok());
    member.session.reset();
    time_.Advance(2s);
    EXPECT_EQ(Info("orders", "billing").consumer_count, 0U);
    // Pull sequences go on: none is used twice.
    Member again = Join("orders", "billing");
    Send("orders", {"b"});
    ASSERT_THAT(again.got(), SizeIs(1));
    EXPECT_EQ(again.got()[0].pull, 1U);
}

TEST_F(ConsumerTest, ComingBackInTimeItGoesOnWithWhatItHolds) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    first.session.reset();
    time_.Advance(1s);
    Member again = Join(Resuming(first, 2));
    EXPECT_EQ(again.sink->subscribed->held_below, 2U);
    EXPECT_THAT(again.got(), IsEmpty()) << "nothing was lost, so nothing is sent again";
    EXPECT_EQ(Ack(again, 0, 1)->not_held_count(), 0U);
}

TEST_F(ConsumerTest, WhatWasLostOnTheWayComesAgainWithTheSamePullSequencesAndUncounted) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    Send("orders", {"d"});
    first.session.reset();
    // Only the first one arrived.
    Member again = Join(Resuming(first, 1));
    EXPECT_EQ(again.sink->subscribed->held_below, 1U);
    EXPECT_THAT(again.bodies(), ElementsAre("b", "c", "d"));
    EXPECT_THAT(Pulls(again), ElementsAre(1, 2, 3));
    EXPECT_EQ(again.got()[0].attempt, 1U);
    Send("orders", {"e"});
    EXPECT_THAT(Pulls(again), ElementsAre(1, 2, 3, 4));
    EXPECT_EQ(Ack(again, 0, 4)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(ConsumerTest, WhatIsSentAgainNeedsCreditAndGoesBeforeNewMessages) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    first.session.reset();
    time_.Settle();
    Send("orders", {"new"});
    Member again = Join(Resuming(first, 0), {1, 10'000});
    EXPECT_THAT(again.bodies(), ElementsAre("a"));
    again.session->Grant({1, 10'000});
    time_.Settle();
    EXPECT_THAT(again.bodies(), ElementsAre("a", "b"));
    again.session->Grant({1, 10'000});
    time_.Settle();
    EXPECT_THAT(again.bodies(), ElementsAre("a", "b", "new"));
}

TEST_F(ConsumerTest, WithoutAResumePointAllThatItHeldIsDeliveredAgain) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_TRUE(Ack(first, 0).ok());
    ASSERT_TRUE(Judge(first, {AckItem{AckVerdict::kBegin, 1, 1, {}, {}}}).ok());
    first.session.reset();
    Member again = Join("orders", "billing");
    EXPECT_EQ(again.sink->subscribed->held_below, 0U);
    ASSERT_THAT(again.bodies(), ElementsAre("b", "c"));
    EXPECT_EQ(again.got()[0].attempt, 2U);
    EXPECT_EQ(again.got()[1].attempt, 1U) << "no handler had begun with it";
    EXPECT_EQ(again.got()[0].pull, 3U);
}

TEST_F(ConsumerTest, TheNewestOfTwoWithOneIdWins) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a"});
    Member second = Join(Resuming(first, 1));
    ASSERT_TRUE(first.sink->closed);
    EXPECT_EQ(first.sink->closed->code(), StatusCode::kAlreadyExists);
    Send("orders", {"b"});
    EXPECT_THAT(first.bodies(), ElementsAre("a"));
    EXPECT_THAT(second.bodies(), ElementsAre("b"));
    // The old session's end is not the new one's.
    first.session->Close();
    time_.Settle();
    Send("orders", {"c"});
    EXPECT_THAT(second.bodies(), ElementsAre("b", "c"));
}

TEST_F(ConsumerTest, AnAckThatTheOldSessionSentLateStillCounts) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a"});
    Member second = Join(Resuming(first, 1));
    EXPECT_EQ(Ack(first, 0)->not_held_count(), 0U);
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
}

TEST_F(ConsumerTest, AfterARestartItGoesOnWithWhatTheLogKnows) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Ack(first, 0).ok());
    CrashAndOpen();
    time_.Advance(4s);
    Member again = Join(Resuming(first, 2));
    EXPECT_NE(again.sink->subscribed->incarnation, first.sink->subscribed->incarnation);
    EXPECT_EQ(again.sink->subscribed->held_below, 2U);
    EXPECT_THAT(again.got(), IsEmpty());
    EXPECT_EQ(Ack(again, 1)->not_held_count(), 0U);
}

TEST_F(ConsumerTest, AfterARestartWhatDidNotArriveComesAgain) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    CrashAndOpen();
    Member again = Join(Resuming(first, 1));
    EXPECT_THAT(again.bodies(), ElementsAre("b"));
    EXPECT_THAT(Pulls(again), ElementsAre(1));
    EXPECT_EQ(again.got()[0].attempt, 1U);
}

TEST_F(ConsumerTest, AfterARestartConsumersHaveSecondsToComeBackEvenWithoutGrace) {
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.reconnect_grace = 0ms;
    Member first = Join(request);
    Send("orders", {"a"});
    CrashAndOpen();
    Member other = Join("orders", "billing", "other");
    time_.Advance(4'900ms);
    EXPECT_THAT(other.got(), IsEmpty());
    time_.Advance(200ms);
    EXPECT_THAT(other.bodies(), ElementsAre("a"));
    EXPECT_EQ(other.got()[0].attempt, 1U);
}

// A power cut takes the tail of the log, where hand-outs are: the consumer has seen pull sequences
// that the broker does not know of. It must not give them to other messages.
TEST_F(ConsumerTest, AResumePointBeyondTheLogHoldsOnlyWhatTheLogKnows) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    CrashAndOpen();
    Member again = Join(Resuming(first, 200));
    EXPECT_EQ(again.sink->subscribed->held_below, 2U);
    Send("orders", {"c"});
    EXPECT_THAT(Pulls(again), ElementsAre(1ULL << 40U));
    // Its answer was lost too: it asks the same again, and must not take c for what it had.
    again.session.reset();
    Member third = Join(Resuming(first, 200));
    EXPECT_EQ(third.sink->subscribed->held_below, 2U);
    EXPECT_THAT(third.bodies(), ElementsAre("c"));
}

TEST_F(ConsumerTest, AnAckOfWhatAPowerCutTookHitsNothingElseHoweverManyProcessesLater) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b"});
    CrashAndOpen();
    {
        // It is given c, but neither that nor the answer reaches it.
        const Member again = Join(Resuming(first, 3));
        Send("orders", {"c"});
        EXPECT_THAT(again.bodies(), ElementsAre("c"));
    }
    CrashAndOpen();
    Member third = Join(Resuming(first, 3));
    EXPECT_THAT(third.bodies(), ElementsAre("c"));
    EXPECT_EQ(Ack(third, 2, 2)->not_held_count(), 1U);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 3U);
    EXPECT_EQ(Ack(third, 1ULL << 40U, 1ULL << 40U)->not_held_count(), 0U);
    // Two processes, two ranges of numbers.
    Send("orders", {"d"});
    EXPECT_THAT(Pulls(third), ElementsAre(1ULL << 40U, 2ULL << 40U));
}

TEST_F(ConsumerTest, AForgottenConsumerHoldsNothingWhenItComesBack) {
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a"});
    first.session.reset();
    time_.Advance(1min);
    Member again = Join(Resuming(first, 1));
    EXPECT_EQ(again.sink->subscribed->held_below, 0U);
    ASSERT_THAT(again.got(), SizeIs(1));
    EXPECT_EQ(again.got()[0].attempt, 1U);
    EXPECT_EQ(again.got()[0].pull, 1U);
}

TEST_F(ConsumerTest, EachErrorOfASubscriptionSaysWhatIsWrong) {
    Open();
    const auto refused = [this](const std::function<void(SubscribeRequest&)>& spoil) {
        SubscribeRequest request = MakeRequest("orders", "billing");
        spoil(request);
        Member member = Join(request);
        EXPECT_FALSE(member.sink->subscribed);
        return member.sink->closed.value_or(Status::Ok());
    };
    const std::vector<std::pair<std::string, std::function<void(SubscribeRequest&)>>> cases = {
        {"", [](SubscribeRequest& r) { r.key.subject = "a/b"; }},
        {"", [](SubscribeRequest& r) { r.key.group = ""; }},
        {"", [](SubscribeRequest& r) { r.key.consumer_id = ""; }},
        {"ack_timeout", [](SubscribeRequest& r) { r.ack_timeout = 999ms; }},
        {"ack_timeout", [](SubscribeRequest& r) { r.ack_timeout = 13h; }},
        {"reconnect_grace", [](SubscribeRequest& r) { r.reconnect_grace = 2h; }},
        {"max_attempts", [](SubscribeRequest& r) { r.retry.max_attempts = 0; }},
        {"initial_backoff", [](SubscribeRequest& r) { r.retry.initial_backoff = -1ms; }},
        {"max_backoff", [](SubscribeRequest& r) { r.retry.max_backoff = 1ms; }},
        {"multiplier", [](SubscribeRequest& r) { r.retry.multiplier = 0.5; }},
        {"filter", [](SubscribeRequest& r) { r.filter.mode = TagMode::kAny; }},
        {"filter",
         [](SubscribeRequest& r) {
             r.filter = {TagMode::kAny, std::vector<std::string>(11, "t")};
         }},
        {"retry subject",
         [](SubscribeRequest& r) {
             r.key.subject = DeadLetterSubject("orders", "billing");
             r.key.source = ConsumeSource::kRetry;
         }},
    };
    for (const auto& [word, spoil] : cases) {
        const Status status = refused(spoil);
        EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << word;
        EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(word));
    }
}

TEST_F(ConsumerTest, ManyConsumersOfAGroupShareItAndNoMessageIsTwice) {
    Open();
    std::vector<Member> members;
    for (int i = 0; i < 10; ++i) {
        members.push_back(Join("orders", "billing", std::to_string(i), {5, 10'000}));
    }
    std::vector<std::string> bodies;
    for (int i = 0; i < 40; ++i) {
        bodies.push_back(std::to_string(i));
    }
    Send("orders", bodies);
    std::vector<std::string> all;
    for (const Member& member : members) {
        EXPECT_THAT(member.got(), SizeIs(::testing::Le(5)));
        for (const std::string& body : member.bodies()) {
            all.push_back(body);
        }
    }
    EXPECT_THAT(all, ::testing::UnorderedElementsAreArray(bodies));
}

// To a consumer that held as much as it may nothing was sent again: it waited for the end of leases
// of messages that it did not have, and deaths were counted.
TEST_F(ConsumerTest, WhoHoldsAsMuchAsItMayIsSentAgainWhatDidNotArrive) {
    options_.max_in_flight_per_consumer = 2;
    Open();
    Member first = Join("orders", "billing");
    Send("orders", {"a", "b", "c"});
    ASSERT_THAT(first.bodies(), ElementsAre("a", "b"));
    SubscribeRequest request = MakeRequest("orders", "billing");
    request.resume = ResumePoint{first.sink->subscribed->incarnation, 1};
    first.session.reset();  // The connection is lost, and "b" with it.
    time_.Settle();
    Member again = Join(request);
    EXPECT_EQ(again.sink->subscribed->held_below, 1U);
    ASSERT_THAT(again.bodies(), ElementsAre("b"));
    EXPECT_EQ(again.got()[0].pull, 1U);
    again.session.reset();
    time_.Settle();
    request.resume->next_pull_sequence = 0;
    Member third = Join(request);
    EXPECT_THAT(third.bodies(), ElementsAre("a", "b"));
    EXPECT_EQ(Info("orders", "billing").suspect_count, 0U);
}

// A read ends after so many batches, also where they are one run of the record: new messages went
// before the rest of what was given back.
TEST_F(ConsumerTest, WhatIsDeliveredAgainGoesBeforeWhatIsNewHoweverSmallItsBatches) {
    constexpr std::uint32_t kOld = 2'000;
    Open();
    Member first = Join("orders", "billing", "c1", {kOld, Plenty().bytes});
    for (std::uint32_t i = 0; i < kOld; ++i) {
        Send("orders", {"old"});  // Each a batch of its own.
    }
    ASSERT_THAT(first.got(), SizeIs(kOld));
    Send("orders", {"new"});
    Member second = Join("orders", "billing", "c2", {0, 0});
    first.session->Close();
    time_.Settle();
    second.session->Grant(Plenty());
    time_.Settle();
    ASSERT_THAT(second.got(), SizeIs(kOld + 1));
    std::vector<std::string> bodies = second.bodies();
    EXPECT_EQ(bodies.back(), "new");
    bodies.pop_back();
    EXPECT_THAT(bodies, Each("old"));
}

}  // namespace
}  // namespace qmq::broker::testing
