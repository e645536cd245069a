#include "tests/unit/broker/broker_fixture.h"

// What no member wants keeps nobody waiting, whoever of them has looked at it.
namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class UnwantedTest : public BrokerTest {
protected:
    static SubscribeRequest Wanting(const std::string& id, const std::vector<std::string>& tags) {
        SubscribeRequest request = MakeRequest("orders", "billing", id);
        if (!tags.empty()) {
            request.filter = {TagMode::kAny, tags};
        }
        return request;
    }
    void SendTagged(const std::string& tag, int count) {
        for (int i = 0; i < count; ++i) {
            Send("orders", {tag}, {tag});
        }
    }
    static std::size_t Count(const Member& member, const std::string& body) {
        const std::vector<std::string> bodies = member.bodies();
        return static_cast<std::size_t>(std::count(bodies.begin(), bodies.end(), body));
    }
    GroupInfo Info() { return BrokerTest::Info("orders", "billing"); }
    std::vector<Member> JoinMany(int count) {
        std::vector<Member> members;
        for (int i = 0; i < count; ++i) {
            const std::string n = std::to_string(i);
            members.push_back(Join(Wanting("m" + n, {"t" + n})));
        }
        return members;
    }
};

// A member with a 33rd filter made the group wait for ever: what it refused was never known.
TEST_F(UnwantedTest, AlsoAmongManyFiltersTheGroupGoesOnWhenTheBlockerLeaves) {
    options_.max_set_aside_per_group = 3;
    Open();
    Member blocker = Join(Wanting("blocker", {"p"}), {0, 0});
    std::vector<Member> others = JoinMany(33);
    Member slow = Join(Wanting("slow", {"s"}), {1, 10'000});
    SendTagged("p", 3);
    SendTagged("s", 1);
    ASSERT_THAT(slow.got(), SizeIs(1));
    SendTagged("t1", 1);
    EXPECT_EQ(Info().set_aside_count, 3U);
    blocker.session->Close();
    time_.Advance(60s);
    SendTagged("s", 1);
    SendTagged("t1", 5);
    EXPECT_EQ(Info().set_aside_count, 1U) << "nobody wants p any more: " << Info().waits_for;
    EXPECT_EQ(Count(others[1], "t1"), 7U) << "the lease of the first ended; " << Info().waits_for;
}

// Only members that had room were asked.
TEST_F(UnwantedTest, APausedMemberThatDoesNotWantItKeepsNothingSetAside) {
    options_.max_set_aside_per_group = 3;
    Open();
    Member blocker = Join(Wanting("blocker", {"p"}), {0, 0});
    Member works = Join(Wanting("works", {"a"}));
    Member paused = Join(Wanting("paused", {"c"}), {0, 0});
    SendTagged("p", 4);
    EXPECT_EQ(Info().set_aside_count, 3U);
    blocker.session->Close();
    time_.Advance(60s);
    EXPECT_EQ(Info().set_aside_count, 0U) << "nobody wants p any more";
    SendTagged("c", 1);
    SendTagged("a", 1);
    EXPECT_EQ(Count(works, "a"), 1U) << Info().waits_for;
}

TEST_F(UnwantedTest, AnAwayMemberThatDoesNotWantItKeepsNothingSetAside) {
    options_.max_set_aside_per_group = 3;
    Open();
    SubscribeRequest away = Wanting("away", {"c"});
    away.reconnect_grace = 3'600s;
    Member blocker = Join(Wanting("blocker", {"p"}), {0, 0});
    Member works = Join(Wanting("works", {"a"}));
    Member gone = Join(away);
    gone.session.reset();
    time_.Settle();
    SendTagged("p", 4);
    blocker.session->Close();
    time_.Advance(60s);
    SendTagged("c", 1);
    SendTagged("a", 1);
    EXPECT_EQ(Count(works, "a"), 1U) << Info().waits_for;
}

// The last one that refused it had nothing to take, and woke nobody.
TEST_F(UnwantedTest, WhatIsRefusedLastWakesWhoWaitsForRoom) {
    options_.max_set_aside_per_group = 3;
    Open();
    Member blocker = Join(Wanting("blocker", {"p"}), {0, 0});
    Member works = Join(Wanting("works", {"a"}));
    Member y = Join(Wanting("y", {"y"}), {1, 10'000});
    Member x = Join(Wanting("x", {"x"}), {0, 0});
    SendTagged("p", 3);
    SendTagged("y", 1);
    ASSERT_THAT(y.got(), SizeIs(1));
    blocker.session->Close();
    time_.Settle();
    SendTagged("y", 1);
    SendTagged("a", 1);
    x.session->Grant(Plenty());
    time_.Advance(30s);
    EXPECT_EQ(Info().set_aside_count, 1U);
    EXPECT_EQ(Count(works, "a"), 1U) << Info().waits_for;
}

TEST_F(UnwantedTest, WhatAFilterLeftSetAsideIsPassedOverAlsoAfterARestart) {
    Open();
    SubscribeRequest wants = Wanting("wants", {"p"});
    wants.reconnect_grace = 3'600s;
    Member blocker = Join(wants, {0, 0});
    Member works = Join(Wanting("works", {"a"}));
    SendTagged("p", 600);
    EXPECT_EQ(Info().set_aside_count, 600U);
    CrashAndOpen();
    Member again = Join(Wanting("works", {"a"}));
    EXPECT_EQ(Info().set_aside_count, 600U);
    Member changed = Join(Wanting("wants", {"b"}), {0, 0});
    EXPECT_EQ(Info().set_aside_count, 0U);
    EXPECT_EQ(Info().lag_count, 0U);
}

// What a 33rd filter refused was not known, and a paused member was not asked.
TEST_F(UnwantedTest, WhatNobodyWantsIsSaidWhoeverHasLookedAtIt) {
    Open();
    Member once = Join(Wanting("once", {"u"}), {1, 10'000});
    std::vector<Member> others = JoinMany(34);
    Member paused = Join(Wanting("paused", {"c"}), {0, 0});
    SendTagged("u", 1);
    ASSERT_THAT(once.got(), SizeIs(1));
    once.session->Close();
    time_.Advance(10s);
    EXPECT_EQ(Info().lag_count, 1U);
    EXPECT_EQ(Info().unwanted_count, 1U);
    EXPECT_THAT(Info().waits_for, HasSubstr("no member's filter"));
    Member wants = Join(Wanting("wants", {"u"}));
    EXPECT_EQ(Count(wants, "u"), 1U);
    EXPECT_EQ(Info().unwanted_count, 0U);
}

TEST_F(UnwantedTest, WhoComesWithOneFilterTooManyIsToldSo) {
    Open();
    std::vector<Member> members = JoinMany(64);
    Member refused = Join(Wanting("z", {"z"}));
    ASSERT_TRUE(refused.sink->closed);
    EXPECT_EQ(refused.sink->closed->code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(refused.sink->closed->message(), HasSubstr("64 different filters"));
    Member same = Join(Wanting("same", {"t1"}));
    EXPECT_FALSE(same.sink->closed) << "another one has the same";
    Member changed = Join(Wanting("m0", {"z"}));
    EXPECT_FALSE(changed.sink->closed) << "nobody else had what it gave up";
    SendTagged("z", 1);
    EXPECT_EQ(Count(changed, "z"), 1U);
    CrashAndOpen();
    Member after = Join(Wanting("y", {"y"}));
    EXPECT_TRUE(after.sink->closed) << "all of them may come back";
    time_.Advance(10s);
    Member later = Join(Wanting("y", {"y"}));
    EXPECT_FALSE(later.sink->closed);
}

// What a filter had refused was taken for refused by the next one in its place.
TEST_F(UnwantedTest, ARetryIsNotRefusedInTheNameOfAFilterThatIsGone) {
    Open();
    Member a = Join(Wanting("a", {"a"}));
    Member b = Join(Wanting("b", {"b"}));
    SendTagged("b", 1);
    ASSERT_THAT(b.got(), SizeIs(1));
    ASSERT_TRUE(Judge(b, {AckItem{AckVerdict::kRetry, 0, 0, 1s, {}}}).ok());
    b.session->Close();
    time_.Advance(2s);
    EXPECT_EQ(Info().unwanted_count, 1U) << "a refuses it";
    a.session->Close();
    time_.Settle();
    Member next = Join(Wanting("next", {"b"}));
    EXPECT_THAT(next.bodies(), ElementsAre("b"));
}

TEST_F(UnwantedTest, WhatIsDueIsHandedOutBehindAnyNumberOfUnwantedOnes) {
    Open();
    SubscribeRequest wants_b = Wanting("b", {"b"});
    wants_b.retry.initial_backoff = 1s;
    Member a = Join(Wanting("a", {"a"}));
    Member b = Join(wants_b);
    SendTagged("b", 20);
    ASSERT_TRUE(Judge(b, {AckItem{AckVerdict::kRetry, 0, 19, {}, {}}}).ok());
    b.session->Close();
    time_.Advance(5s);
    EXPECT_EQ(Info().unwanted_count, 20U);
    SendTagged("a", 1);
    ASSERT_TRUE(Judge(a, {AckItem{AckVerdict::kRetry, 0, 0, 1s, {}}}).ok());
    time_.Advance(2s);
    EXPECT_EQ(Count(a, "a"), 2U);
    Member again = Join(wants_b);
    EXPECT_EQ(Count(again, "b"), 20U);
}

// Of more than four ways in turn each was told each time.
TEST_F(UnwantedTest, EachWayInWhichMembersDifferIsToldOnce) {
    Open();
    Member base = Join(Wanting("a", {"base"}));
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 6; ++i) {
            Member other = Join(Wanting("b", {"t" + std::to_string(i)}));
            other.session.reset();
            time_.Settle();
        }
    }
    EXPECT_EQ(events_.Count(env::EventKind::kDisagreement), 6U);
    for (int i = 0; i < 60; ++i) {
        Member other = Join(Wanting("b", {"u" + std::to_string(i)}));
        other.session.reset();
        time_.Advance(1s);
    }
    EXPECT_LE(events_.Count(env::EventKind::kDisagreement), 18U) << "one a minute";
}

// A retry that waited already went on to be tried as often as was allowed once.
TEST_F(UnwantedTest, NoMoreAttemptsAreMadeThanAnyMemberAllows) {
    Open();
    SubscribeRequest request = Wanting("c1", {});
    request.retry.max_attempts = 10;
    request.retry.initial_backoff = 1s;
    request.retry.max_backoff = 1s;
    Member member = Join(request);
    Send("orders", {"m"});
    for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_THAT(member.got(), SizeIs(i + 1));
        ASSERT_TRUE(
            Judge(member,
                  {AckItem{AckVerdict::kRetry, member.got()[i].pull, member.got()[i].pull, {}, {}}})
                .ok());
        if (i < 3) {
            time_.Advance(2s);
        }
    }
    request.retry.max_attempts = 2;
    Member lower = Join(request);
    time_.Advance(5s);
    EXPECT_THAT(lower.got(), IsEmpty()) << "four attempts were made, two are allowed";
    EXPECT_EQ(Info().dead_letter_count, 1U);
    EXPECT_EQ(Info().lag_count, 0U);
    CrashAndOpen();
    EXPECT_EQ(Info().lag_count, 0U);
    Member undertaker = Join(DeadLetterSubject("orders", "billing"), "undertaker");
    EXPECT_THAT(undertaker.bodies(), ElementsAre("m"));
}

}  // namespace
}  // namespace qmq::broker::testing
