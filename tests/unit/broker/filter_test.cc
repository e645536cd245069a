#include "tests/unit/broker/broker_fixture.h"

// Members of one group that ask for different things: each gets what it asks for, and nothing that
// a member wants is passed over.
namespace qmq::broker::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class FilterTest : public BrokerTest {
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
    void AckAll(Member& member) { ASSERT_TRUE(Ack(member, 0, UINT64_MAX).ok()); }
};

TEST_F(FilterTest, ANarrowMemberThatJoinsAndLeavesTakesNothingFromAWideOne) {
    Open();
    Member wide = Join(Wanting("wide", {"a", "b"}));
    Member narrow = Join(Wanting("narrow", {"a"}));
    SendTagged("a", 10);
    SendTagged("b", 10);
    EXPECT_EQ(Count(wide, "a") + Count(narrow, "a"), 10U);
    EXPECT_EQ(Count(wide, "b"), 10U);
    AckAll(narrow);
    narrow.session->Close();
    SendTagged("a", 10);
    SendTagged("b", 10);
    EXPECT_EQ(Count(wide, "a") + Count(narrow, "a"), 20U);
    EXPECT_EQ(Count(wide, "b"), 20U);
    AckAll(wide);
    EXPECT_EQ(Info().lag_count, 0U);
}

TEST_F(FilterTest, AMemberIsNotHandedWhatOnlyAWiderOneWantsWhoeverCameFirst) {
    Open();
    Member narrow = Join(Wanting("narrow", {"a"}));
    Member wide = Join(Wanting("wide", {}));
    SendTagged("b", 10);
    SendTagged("a", 10);
    EXPECT_THAT(narrow.bodies(), Each("a"));
    EXPECT_EQ(Count(wide, "b"), 10U);
    EXPECT_EQ(Count(wide, "a") + Count(narrow, "a"), 10U);
}

TEST_F(FilterTest, WhatNobodyWantsIsPassedOver) {
    Open();
    Member a = Join(Wanting("1", {"a"}));
    Member b = Join(Wanting("2", {"b"}));
    SendTagged("c", 3);
    SendTagged("a", 1);
    SendTagged("b", 1);
    EXPECT_THAT(a.bodies(), ElementsAre("a"));
    EXPECT_THAT(b.bodies(), ElementsAre("b"));
    EXPECT_EQ(Info().lag_count, 2U);
}

TEST_F(FilterTest, AMemberThatIsAwayWithinItsGraceIsWaitedFor) {
    Open();
    Member wide = Join(Wanting("wide", {"a", "b"}));
    Member narrow = Join(Wanting("narrow", {"a"}));
    wide.session.reset();
    Send("orders", {"b1"}, {"b"});
    SendTagged("a", 2);
    Send("orders", {"b2"}, {"b"});
    EXPECT_THAT(narrow.bodies(), ElementsAre("a", "a"));
    EXPECT_EQ(Info().set_aside_count, 2U);
    EXPECT_EQ(Info().lag_count, 4U);
    time_.Advance(1s);
    Member again = Join(Wanting("wide", {"a", "b"}));
    EXPECT_THAT(again.bodies(), ElementsAre("b1", "b2")) << "in the order in which they came";
    EXPECT_EQ(again.got()[0].attempt, 1U);
    EXPECT_EQ(Info().set_aside_count, 0U);
}

TEST_F(FilterTest, AMemberThatStaysAwayTakesItsFilterAlong) {
    Open();
    Member wide = Join(Wanting("wide", {"a", "b"}));
    Member narrow = Join(Wanting("narrow", {"a"}));
    wide.session.reset();
    SendTagged("b", 3);
    SendTagged("a", 1);
    AckAll(narrow);
    EXPECT_EQ(Info().lag_count, 3U);
    time_.Advance(3s);
    EXPECT_EQ(Info().lag_count, 0U) << "nobody wants them any more";
    EXPECT_EQ(Info().set_aside_count, 0U);
    CrashAndOpen();
    Member late = Join(Wanting("late", {"b"}));
    EXPECT_THAT(late.bodies(), IsEmpty());
}

TEST_F(FilterTest, WhatAFullMemberWantsIsSetAsideUpToABoundThenTheGroupWaitsAndSaysSo) {
    options_.max_set_aside_per_group = 3;
    Open();
    Member full = Join(Wanting("full", {"b"}), {0, 0});
    Member other = Join(Wanting("other", {"a"}));
    SendTagged("a", 1);
    SendTagged("b", 3);
    SendTagged("a", 1);
    EXPECT_THAT(other.got(), SizeIs(2));
    EXPECT_THAT(Info().waits_for, IsEmpty());
    SendTagged("b", 2);
    SendTagged("a", 1);
    EXPECT_THAT(other.got(), SizeIs(2));
    EXPECT_EQ(Info().set_aside_count, 3U);
    EXPECT_THAT(Info().waits_for, HasSubstr("wants message 5"));
    SendTagged("a", 1);
    EXPECT_EQ(events_.Count(env::EventKind::kLimit), 1U) << "told once";

    full.session->Grant({1, 10'000});
    time_.Settle();
    EXPECT_THAT(full.got(), SizeIs(1));
    EXPECT_THAT(other.got(), SizeIs(2)) << "one more was set aside, and there is the next";
    full.session->Close();
    time_.Settle();
    EXPECT_THAT(other.got(), SizeIs(4)) << "what nobody else wants is passed over";
    EXPECT_EQ(Info().waits_for, "1 message that no member's filter lets through");
    EXPECT_EQ(events_.Count(env::EventKind::kLimit), 1U);
}

TEST_F(FilterTest, AGroupThatWaitsGoesOnWhenTheFullMemberTakesItsShare) {
    options_.max_set_aside_per_group = 3;
    Open();
    Member full = Join(Wanting("full", {"b"}), {0, 0});
    Member other = Join(Wanting("other", {"a"}));
    SendTagged("b", 10);
    SendTagged("a", 1);
    EXPECT_THAT(other.got(), IsEmpty());
    full.session->Grant(Plenty());
    time_.Settle();
    EXPECT_THAT(full.got(), SizeIs(10));
    EXPECT_THAT(other.got(), SizeIs(1));
}

TEST_F(FilterTest, WithNoRoomToSetAsideMembersTakeTurnsInTheOrderOfTheLog) {
    options_.max_set_aside_per_group = 0;
    Open();
    Member a = Join(Wanting("1", {"a"}));
    Member b = Join(Wanting("2", {"b"}));
    std::vector<SendBatch> frame;
    for (int i = 0; i < 20; ++i) {
        frame.push_back(Batch("orders", {"m"}, {i % 2 == 0 ? "a" : "b"}));
    }
    Post(std::move(frame));
    time_.Settle();
    EXPECT_THAT(a.got(), SizeIs(10));
    EXPECT_THAT(b.got(), SizeIs(10));
}

TEST_F(FilterTest, WhatIsSetAsideSurvivesARestartByTheLogAndByASnapshot) {
    Open();
    Member full = Join(Wanting("full", {"b"}), {0, 0});
    Member other = Join(Wanting("other", {"a"}));
    SendTagged("b", 2);
    SendTagged("a", 1);
    for (const bool clean : {false, true}) {
        if (clean) {
            ASSERT_TRUE(CloseBroker().ok());
        }
        CrashAndOpen();
        EXPECT_EQ(Info().set_aside_count, 2U);
        Member still = Join(Wanting("other", {"a"}));
        EXPECT_EQ(Info().set_aside_count, 2U) << "the full one may come back";
    }
    Member back = Join(Wanting("full", {"b"}));
    EXPECT_THAT(back.bodies(), ElementsAre("b", "b"));
}

TEST_F(FilterTest, AReleasedMessageGoesOnlyToAMemberThatWantsIt) {
    Open();
    Member b = Join(Wanting("b", {"b"}), {1, 10'000});
    Member a = Join(Wanting("a", {"a"}));
    SendTagged("b", 1);
    Member more = Join(Wanting("more", {"b"}));
    ASSERT_TRUE(Judge(b, {AckItem{AckVerdict::kRelease, 0, 0, {}, {}}}).ok());
    EXPECT_THAT(a.got(), IsEmpty());
    EXPECT_THAT(more.bodies(), ElementsAre("b"));
}

TEST_F(FilterTest, ARetryThatNobodyWantsAnyMoreWaitsForOneThatDoesAndBlocksNoOther) {
    Open();
    Member red = Join(Wanting("red", {"red"}));
    Member green = Join(Wanting("green", {"green"}));
    SendTagged("red", 1);
    ASSERT_TRUE(Judge(red, {AckItem{AckVerdict::kRetry, 0, 0, 1s, {}}}).ok());
    red.session->Close();
    SendTagged("green", 1);
    ASSERT_TRUE(Judge(green, {AckItem{AckVerdict::kRetry, 0, 0, 5s, {}}}).ok());
    time_.Advance(6s);
    EXPECT_THAT(green.bodies(), ElementsAre("green", "green")) << "the timer of the next one runs";
    AckAll(green);
    const GroupInfo info = Info();
    EXPECT_EQ(info.unwanted_count, 1U);
    EXPECT_EQ(info.lag_count, 1U);
    EXPECT_EQ(info.waits_for, "1 message that no member's filter lets through");
    Member again = Join(Wanting("red", {"red"}));
    EXPECT_THAT(again.bodies(), ElementsAre("red"));
    EXPECT_EQ(again.got()[0].attempt, 2U);
    EXPECT_THAT(Info().waits_for, IsEmpty());
}

TEST_F(FilterTest, WhatWasHandedOutOnceIsNeverPassedOver) {
    Open();
    Member red = Join(Wanting("red", {"red"}));
    SendTagged("red", 3);
    Member green = Join(Wanting("green", {"green"}));
    red.session->Close();
    SendTagged("green", 1);
    EXPECT_THAT(green.bodies(), ElementsAre("green"));
    EXPECT_EQ(Info().unwanted_count, 3U);
    CrashAndOpen();
    Member again = Join(Wanting("red", {"red"}));
    EXPECT_THAT(again.got(), SizeIs(3));
}

TEST_F(FilterTest, MoreFiltersThanAreRememberedAreServedAllTheSame) {
    Open();
    std::vector<Member> members;
    for (int i = 0; i < 40; ++i) {
        members.push_back(Join(Wanting(std::to_string(i), {std::to_string(i)})));
    }
    std::vector<SendBatch> frame;
    for (int i = 40; i-- > 0;) {
        frame.push_back(Batch("orders", {std::to_string(i)}, {std::to_string(i)}));
    }
    Post(std::move(frame));
    time_.Settle();
    for (int i = 0; i < 40; ++i) {
        EXPECT_THAT(members[static_cast<std::size_t>(i)].bodies(), ElementsAre(std::to_string(i)));
    }
    EXPECT_EQ(Info().set_aside_count, 0U);
}

TEST_F(FilterTest, MembersThatDifferAreToldAndAnEventSaysItOnce) {
    Open();
    Member first = Join(Wanting("1", {"a", "b"}));
    EXPECT_THAT(first.sink->subscribed->warnings, IsEmpty());
    SubscribeRequest other = Wanting("2", {"a"});
    other.retry.max_attempts = 7;
    Member second = Join(other);
    ASSERT_THAT(second.sink->subscribed->warnings, SizeIs(2));
    EXPECT_THAT(second.sink->subscribed->warnings[0],
                ::testing::AllOf(HasSubstr("billing"), HasSubstr("any of a, b")));
    EXPECT_THAT(second.sink->subscribed->warnings[1], HasSubstr("32 attempts count"));
    Member again = Join(Wanting("1", {"a", "b"}));
    EXPECT_THAT(again.sink->subscribed->warnings, SizeIs(2));
    second.session->Close();
    Member back = Join(other);
    EXPECT_EQ(events_.Count(env::EventKind::kDisagreement), 2U) << "one each, not one a subscribe";
}

TEST_F(FilterTest, TheGreatestNumberOfAttemptsOfTheMembersThatAreThereCounts) {
    Open();
    SubscribeRequest strict = MakeRequest("orders", "billing", "strict");
    strict.retry.max_attempts = 1;
    SubscribeRequest patient = MakeRequest("orders", "billing", "patient");
    patient.retry.max_attempts = 3;
    Member one = Join(patient, {0, 0});
    Member two = Join(strict);
    SendTagged("a", 2);
    ASSERT_TRUE(Judge(two, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, {}}}).ok());
    EXPECT_EQ(Info().dead_letter_count, 0U);
    EXPECT_THAT(two.got(), SizeIs(3)) << "it is tried again";
    one.session->Close();
    time_.Settle();
    ASSERT_TRUE(Judge(two, {AckItem{AckVerdict::kRetry, 1, 1, 0ms, {}}}).ok());
    EXPECT_EQ(Info().dead_letter_count, 1U) << "who is patient has left";
}

TEST_F(FilterTest, APolicyThatLeftDoesNotStay) {
    Open();
    SubscribeRequest strict = MakeRequest("orders", "billing", "strict");
    strict.retry.max_attempts = 1;
    Member stays = Join("orders", "billing", "stays");
    Member guest = Join(strict);
    guest.session->Close();
    SendTagged("a", 1);
    ASSERT_TRUE(Judge(stays, {AckItem{AckVerdict::kRetry, 0, 0, 0ms, {}}}).ok());
    EXPECT_EQ(Info().dead_letter_count, 0U);
}

TEST_F(FilterTest, TheDelaysOfRetriesAreThoseOfTheMemberThatFailed) {
    Open();
    SubscribeRequest quick = MakeRequest("orders", "billing", "quick");
    quick.retry.initial_backoff = 1s;
    SubscribeRequest slow = MakeRequest("orders", "billing", "slow");
    slow.retry.initial_backoff = 60s;
    Member one = Join(quick, {1, 10'000});
    SendTagged("a", 1);
    Member two = Join(slow, {1, 10'000});
    SendTagged("b", 1);
    ASSERT_TRUE(Judge(one, {AckItem{AckVerdict::kRetry, 0, 0, {}, {}}}).ok());
    ASSERT_TRUE(Judge(two, {AckItem{AckVerdict::kRetry, 0, 0, {}, {}}}).ok());
    Member rest = Join("orders", "billing", "rest");
    time_.Advance(1s);
    EXPECT_THAT(rest.bodies(), ElementsAre("a"));
    time_.Advance(58s);
    EXPECT_THAT(rest.bodies(), ElementsAre("a"));
    time_.Advance(1s);
    EXPECT_THAT(rest.bodies(), ElementsAre("a", "b"));
}

// A read gave more runs than the record of a hand-out has room for in the smallest segments. It was
// refused for good, and the group tried for ever.
TEST_F(FilterTest, EveryOtherOfManySmallMessagesIsHandedOutInTheSmallestSegmentsToo) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    const std::string subject(100, 's');
    BatchBuilder builder;
    for (int i = 0; i < 2'200; ++i) {
        Message message(subject);
        message.AddTag(i % 2 == 0 ? "a" : "b");
        builder.Add(message, "i", time_.clock.WallNow());
    }
    const std::string batch = builder.Finish();
    const auto send = [&](int times) {
        for (int i = 0; i < times; ++i) {
            const SendBatch copy{subject, Slice::Own(std::string(batch)), Durability::kDefault};
            ASSERT_TRUE(Send(copy).status.ok());
        }
    };
    send(8);  // So that a sequence takes three bytes.
    SubscribeRequest request = MakeRequest(subject, "billing");
    request.start = StartPosition::kLatest;
    request.filter = {TagMode::kAny, {"a"}};
    Member member = Join(request, {0, 0});
    send(11);
    member.session->Grant(Plenty());
    time_.Settle();
    EXPECT_EQ(member.got().size(), 11U * 1'100);
}

}  // namespace
}  // namespace qmq::broker::testing
