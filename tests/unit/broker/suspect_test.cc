#include <set>

#include "tests/unit/broker/broker_fixture.h"

// Attempts are of handlers: what was merely held when its consumer died has not used up any.
namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

class SuspectTest : public BrokerTest {
protected:
    AckItem Item(AckVerdict verdict, std::uint64_t pull) {
        return AckItem{verdict, pull, pull, {}, {}};
    }
    SubscribeRequest Request(const std::string& id = "c1") {
        SubscribeRequest request = MakeRequest("orders", "billing", id);
        request.retry.max_attempts = 3;
        return request;
    }
    GroupInfo Info() { return BrokerTest::Info("orders", "billing"); }

    /// A process that handles one message after another, until "m2" kills it.
    void RunProcess(bool tells, bool broker_dies) {
        Member member = Join(Request());
        for (std::size_t i = 0; i < member.got().size(); ++i) {
            const Got got = member.got()[i];
            if (tells) {
                ASSERT_TRUE(Judge(member, {Item(AckVerdict::kBegin, got.pull)}).ok());
            }
            if (got.body == "m2") {
                ++killed_;
                if (broker_dies) {
                    CrashAndOpen();
                    return;
                }
                member.session.reset();
                time_.Advance(10s);
                return;
            }
            EXPECT_EQ(got.attempt, 1U) << got.body << " has never failed";
            EXPECT_TRUE(handled_.insert(got.body).second);
            ASSERT_TRUE(Ack(member, got.pull).ok());
        }
    }
    void RunTwelve(bool tells, bool broker_dies) {
        Open();
        Member first = Join(Request(), {0, 0});
        std::vector<std::string> bodies;
        for (int i = 0; i < 12; ++i) {
            bodies.push_back("m" + std::to_string(i));
        }
        Send("orders", bodies);
        for (int run = 0; run < 12; ++run) {
            RunProcess(tells, broker_dies);
        }
        EXPECT_EQ(Info().dead_letter_count, 1U);
        EXPECT_EQ(Info().lag_count, 0U);
        EXPECT_THAT(handled_, SizeIs(11));
        Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
        EXPECT_THAT(undertaker.bodies(), ElementsAre("m2"));
    }
    /// `bodies` are held by a consumer that dies, twice, without a word.
    void MakeSuspects(const std::vector<std::string>& bodies) {
        const Credit credit{static_cast<std::uint32_t>(bodies.size()), 1U << 20U};
        Member first = Join(Request("victim"), credit);
        Send("orders", bodies);
        first.session->Close();
        Member second = Join(Request("victim"), credit);
        ASSERT_THAT(second.got(), SizeIs(bodies.size()));
        second.session->Close();
        time_.Settle();
    }

    int killed_ = 0;
    std::set<std::string> handled_;
};

TEST_F(SuspectTest, AMessageThatKillsItsProcessTakesNoNeighbourAlong) {
    RunTwelve(true, false);
    EXPECT_EQ(killed_, 3) << "it was told of each time";
}

TEST_F(SuspectTest, AProcessThatCannotTellLosesAtMostTwoDeathsMore) {
    RunTwelve(false, false);
    EXPECT_THAT(killed_, Le(5));
}

TEST_F(SuspectTest, DeathsAreCountedOverRestartsOfTheBroker) {
    RunTwelve(true, true);
    EXPECT_THAT(killed_, Le(5));
}

TEST_F(SuspectTest, ALeaseThatEndsUntoldIsNoAttemptTwiceAndThenOneEachTime) {
    Open();
    SubscribeRequest request = Request();
    request.ack_timeout = 1s;
    Member member = Join(request);
    Send("orders", {"a", "b"});
    time_.Advance(20s);
    std::vector<std::uint32_t> attempts;
    for (const Got& got : member.got()) {
        if (got.body == "a") {
            attempts.push_back(got.attempt);
        }
    }
    EXPECT_THAT(attempts, ElementsAre(1, 1, 1, 2, 3));
    EXPECT_EQ(Info().dead_letter_count, 2U);
}

TEST_F(SuspectTest, ALeaseThatEndsOfABegunMessageIsAnAttempt) {
    Open();
    SubscribeRequest request = Request();
    request.ack_timeout = 1s;
    Member slow = Join(request, {2, 10'000});
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Judge(slow, {Item(AckVerdict::kBegin, 0)}).ok());
    Member other = Join(Request("other"));
    time_.Advance(1s);
    ASSERT_THAT(other.bodies(), ElementsAre("a", "b"));
    EXPECT_EQ(other.got()[0].attempt, 2U);
    EXPECT_EQ(other.got()[1].attempt, 1U);
    EXPECT_EQ(Info().suspect_count, 1U) << "b was there when the lease ended";
}

TEST_F(SuspectTest, BeginChangesNothingElse) {
    Open();
    SubscribeRequest request = Request();
    request.ack_timeout = 10s;
    Member member = Join(request, {1, 10'000});
    Send("orders", {"a"});
    time_.Advance(9s);
    ASSERT_TRUE(Judge(member, {Item(AckVerdict::kBegin, 0)}).ok());
    ASSERT_TRUE(Judge(member, {Item(AckVerdict::kBegin, 0)}).ok());
    EXPECT_EQ(Judge(member, {Item(AckVerdict::kBegin, 1)})->not_held_count(), 0U)
        << "its ack may have overtaken it";
    EXPECT_EQ(Info().in_flight_count, 1U);
    time_.Advance(1s);
    EXPECT_EQ(Info().in_flight_count, 0U) << "it is no renewal";
}

TEST_F(SuspectTest, WhatIsReleasedCountsNothing) {
    Open();
    Member member = Join(Request(), {1, 10'000});
    Send("orders", {"a"});
    for (std::uint64_t pull = 0; pull < 5; ++pull) {
        ASSERT_TRUE(
            Judge(member, {Item(AckVerdict::kBegin, pull), Item(AckVerdict::kRelease, pull)}).ok());
        member.session->Grant({1, 10'000});
        time_.Settle();
    }
    EXPECT_EQ(member.got().back().attempt, 1U);
    EXPECT_EQ(Info().suspect_count, 0U);
}

TEST_F(SuspectTest, ASuspectIsHandedOutAloneToAConsumerThatHoldsNothing) {
    Open();
    MakeSuspects({"x", "y"});
    EXPECT_EQ(Info().suspect_count, 2U);
    Send("orders", {"new"});
    Member member = Join(Request());
    EXPECT_THAT(member.bodies(), ElementsAre("x"));
    ASSERT_TRUE(Ack(member, member.got().back().pull).ok());
    EXPECT_THAT(member.bodies(), ElementsAre("x", "y"));
    ASSERT_TRUE(Ack(member, member.got().back().pull).ok());
    EXPECT_THAT(member.bodies(), ElementsAre("x", "y", "new"));
    EXPECT_EQ(Info().suspect_count, 0U);
}

TEST_F(SuspectTest, DeathsAreKeptBySnapshots) {
    Open();
    MakeSuspects({"x", "y"});
    ASSERT_TRUE(CloseBroker().ok());
    CrashAndOpen();
    EXPECT_EQ(Info().suspect_count, 2U);
    {
        Member member = Join(Request());
        EXPECT_THAT(member.bodies(), ElementsAre("x"));
        ASSERT_TRUE(CloseBroker().ok());
    }
    CrashAndOpen();
    EXPECT_EQ(Info().suspect_count, 2U) << "held and loose alike";
}

TEST_F(SuspectTest, NeighboursFlowWhileAnotherMemberHasTheSuspect) {
    Open();
    MakeSuspects({"x"});
    Member alone = Join(Request("alone"));
    Member other = Join(Request("other"));
    EXPECT_THAT(alone.bodies(), ElementsAre("x"));
    for (int i = 0; i < 20; ++i) {
        Send("orders", {"n"});
    }
    EXPECT_THAT(alone.got(), SizeIs(1));
    EXPECT_THAT(other.got(), SizeIs(20));
}

TEST_F(SuspectTest, AfterAnOrderlyFailureItIsCleanAgain) {
    Open();
    MakeSuspects({"x"});
    Member member = Join(Request());
    ASSERT_THAT(member.bodies(), ElementsAre("x"));
    ASSERT_TRUE(
        Judge(member,
              {AckItem{AckVerdict::kRetry, member.got()[0].pull, member.got()[0].pull, 1s, {}}})
            .ok());
    EXPECT_EQ(Info().suspect_count, 0U);
    Send("orders", {"n"});
    time_.Advance(1s);
    EXPECT_THAT(member.bodies(), ElementsAre("x", "n", "x")) << "beside others";
}

TEST_F(SuspectTest, UnderSteadyLoadASuspectDoesNotStarve) {
    Open();
    Member a = Join(Request("a"), {1, 10'000});
    Send("orders", {"first"});
    MakeSuspects({"x"});
    a.session->Grant(Plenty());
    // It is never idle: what it has is acked only when the next one is there.
    std::size_t acked = 0;
    for (int i = 0; i < 10; ++i) {
        Send("orders", {"n"});
        ASSERT_TRUE(Ack(a, a.got()[acked++].pull).ok());
        ASSERT_GT(a.got().size(), acked);
    }
    const std::vector<std::string> bodies = a.bodies();
    EXPECT_EQ(std::count(bodies.begin(), bodies.end(), "x"), 1);
    EXPECT_THAT(bodies, SizeIs(::testing::Ge(11U)));
}

TEST_F(SuspectTest, AMemberAtWorkIsGivenNothingMoreUntilItCanTakeTheSuspectAlone) {
    Open();
    Member busy = Join(Request("busy"), {1, 10'000});
    Send("orders", {"long"});
    ASSERT_THAT(busy.bodies(), ElementsAre("long"));
    MakeSuspects({"x"});
    busy.session->Grant(Plenty());
    Send("orders", {"n"});
    EXPECT_THAT(busy.bodies(), ElementsAre("long")) << "it drains";
    ASSERT_TRUE(Ack(busy, 0).ok());
    EXPECT_THAT(busy.bodies(), ElementsAre("long", "x"));
    ASSERT_TRUE(Ack(busy, 1).ok());
    EXPECT_THAT(busy.bodies(), ElementsAre("long", "x", "n"));
}

TEST_F(SuspectTest, OnlyOneMemberDrainsAndTheOthersGoOn) {
    Open();
    Member a = Join(Request("a"), {1, 10'000});
    Send("orders", {"1"});
    Member b = Join(Request("b"), {1, 10'000});
    Send("orders", {"2"});
    MakeSuspects({"x"});
    a.session->Grant(Plenty());
    b.session->Grant(Plenty());
    for (int i = 0; i < 10; ++i) {
        Send("orders", {"n"});
    }
    EXPECT_EQ(a.got().size() + b.got().size(), 12U);
    Member& drains = a.got().size() == 1 ? a : b;
    EXPECT_THAT(drains.got(), SizeIs(1));
    ASSERT_TRUE(Ack(drains, 0).ok());
    EXPECT_EQ(drains.got().back().body, "x");
}

TEST_F(SuspectTest, WhoHandlesOneMessageForLongIsNotKeptFromTheRest) {
    Open();
    SubscribeRequest request = Request("busy");
    request.ack_timeout = 1h;
    Member busy = Join(request, {1, 10'000});
    Send("orders", {"long"});
    MakeSuspects({"x"});
    busy.session->Grant(Plenty());
    Send("orders", {"n1"});
    EXPECT_THAT(busy.bodies(), ElementsAre("long"));
    time_.Advance(5s);
    EXPECT_THAT(busy.bodies(), ElementsAre("long", "n1"));
    Send("orders", {"n2"});
    EXPECT_THAT(busy.bodies(), ElementsAre("long", "n1", "n2"));
    ASSERT_TRUE(Ack(busy, 0, UINT64_MAX).ok());
    EXPECT_EQ(busy.bodies().back(), "x");
}

// A consumer that took longer than five seconds for what it held never took a suspect.
TEST_F(SuspectTest, WhoTakesLongForAllThatItHoldsDrainsToTheEnd) {
    Open();
    MakeSuspects({"x"});
    Member first = Join(Request("first"), {1, 10'000});
    ASSERT_THAT(first.bodies(), ElementsAre("x"));
    Send("orders", std::vector<std::string>(2'000, "m"));
    // Holds a hundred, and handles ten a second.
    Member steady = Join(Request("steady"), {100, 1U << 20U});
    ASSERT_THAT(steady.got(), SizeIs(100));
    first.session->Close();
    time_.Settle();
    std::size_t done = 0;
    for (; done < 200 && steady.got().back().body != "x"; ++done) {
        time_.Advance(100ms);
        ASSERT_TRUE(Ack(steady, steady.got()[done].pull).ok());
        steady.session->Grant({1, 10'000});
        time_.Settle();
    }
    EXPECT_EQ(steady.got().back().body, "x") << done << " that came later were handled";
}

TEST_F(SuspectTest, WhoHandlesEachMessageForLongIsGivenTimeToDrainInTheEnd) {
    Open();
    MakeSuspects({"x"});
    Member first = Join(Request("first"), {1, 10'000});
    Send("orders", std::vector<std::string>(200, "m"));
    // Twenty seconds each, one after another.
    Member slow = Join(Request("slow"), {2, 10'000});
    ASSERT_THAT(slow.got(), SizeIs(2));
    first.session->Close();
    time_.Settle();
    std::size_t done = 0;
    for (; done < 40 && slow.got().back().body != "x" && done < slow.got().size(); ++done) {
        time_.Advance(20s);
        ASSERT_TRUE(Ack(slow, slow.got()[done].pull).ok());
        slow.session->Grant({1, 10'000});
        time_.Settle();
    }
    EXPECT_EQ(slow.got().back().body, "x") << done << " that came later were handled";
}

// Each of its pulls began the drain anew, so that it was given nothing for as long as it pulled.
TEST_F(SuspectTest, WhoPullsForASecondEachTimeIsNotStarvedByASuspect) {
    Open();
    SubscribeRequest puller = Request("puller");
    puller.ack_timeout = 12h;
    Send("orders", {"long"});
    const PullRequest pull{puller, 1, 10'000, 1s};
    ASSERT_TRUE(Pull(pull).ok());
    MakeSuspects({"x"});
    Send("orders", std::vector<std::string>(50, "m"));
    std::size_t got = 0;
    for (int i = 0; i < 100; ++i) {
        auto reply = PostPull(pull);
        for (int k = 0; k < 20 && !*reply; ++k) {
            time_.Advance(100ms);
        }
        ASSERT_TRUE(*reply && (**reply).ok());
        for (const Got& one : Decode((**reply)->batches)) {
            ++got;
            ASSERT_TRUE(AckByKey(puller.key, {Item(AckVerdict::kAck, one.pull)}).ok());
        }
    }
    EXPECT_EQ(got, 50U) << "a hundred seconds of pulls";
}

// One at a time for each member, and no pause between them.
TEST_F(SuspectTest, AThousandNeighboursTakeEachMemberOneRoundTripApiece) {
    Open();
    MakeSuspects(std::vector<std::string>(1'000, "x"));
    std::vector<Member> members;
    for (int i = 0; i < 4; ++i) {
        members.push_back(Join(Request("m" + std::to_string(i))));
    }
    std::size_t acked = 0;
    int round_trips = 0;
    for (; acked < 1'000 && round_trips < 1'000; ++round_trips) {
        time_.Advance(1ms);
        for (Member& member : members) {
            if (!member.got().empty() &&
                Ack(member, member.got().back().pull)->not_held_count() == 0) {
                ++acked;
            }
        }
    }
    EXPECT_EQ(round_trips, 250);
    EXPECT_EQ(Info().lag_count, 0U);
}

TEST_F(SuspectTest, WhenTheDrainingMemberGoesAnotherOneIsChosen) {
    Open();
    Member a = Join(Request("a"), {1, 10'000});
    Send("orders", {"1"});
    MakeSuspects({"x"});
    a.session->Grant(Plenty());
    time_.Settle();
    a.session.reset();
    time_.Settle();
    Member b = Join(Request("b"));
    EXPECT_EQ(b.bodies(), std::vector<std::string>{"x"});
}

TEST_F(SuspectTest, ASuspectIsOnlyForAMemberThatWantsIt) {
    Open();
    SubscribeRequest red = Request("victim");
    red.filter = {TagMode::kAny, {"red"}};
    for (int death = 0; death < 2; ++death) {
        Member dies = Join(red, {1, 10'000});
        if (death == 0) {
            Send("orders", {"x"}, {"red"});
        }
        ASSERT_THAT(dies.got(), SizeIs(1));
        dies.session->Close();
        time_.Settle();
    }
    SubscribeRequest green = Request("green");
    green.filter = {TagMode::kAny, {"green"}};
    Member member = Join(green);
    Send("orders", {"g"}, {"green"});
    EXPECT_THAT(member.bodies(), ElementsAre("g")) << "it does not wait for what is not for it";
    EXPECT_EQ(Info().unwanted_count, 1U);
    Member wants = Join(red);
    EXPECT_THAT(wants.bodies(), ElementsAre("x"));
}

// Each record fits into the smallest segment, however much of what was held had begun.
TEST_F(SuspectTest, WhatHadBegunHereAndThereIsToldInPiecesAndSurvivesARestart) {
    Open();
    Member member = Join(Request());
    Send("orders", std::vector<std::string>(5'000, "m"));
    ASSERT_THAT(member.got(), SizeIs(5'000));
    std::vector<AckItem> items;
    for (std::uint64_t pull = 0; pull < 5'000; pull += 2) {
        items.push_back(Item(AckVerdict::kBegin, pull));
    }
    ASSERT_TRUE(Judge(member, std::move(items)).ok());
    member.session->Close();
    time_.Settle();
    CrashAndOpen();
    EXPECT_EQ(Info().suspect_count, 2'500U);
    Member next = Join(Request("next"));
    ASSERT_THAT(next.got(), SizeIs(5'000));
    for (const Got& got : next.got()) {
        ASSERT_EQ(got.attempt, got.sequence % 2 == 0 ? 2U : 1U) << got.sequence;
    }
}

}  // namespace
}  // namespace qmq::broker::testing
