#include "tests/unit/broker/broker_fixture.h"

namespace qmq::broker::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using GroupTest = BrokerTest;

TEST_F(GroupTest, ResetToEarliestHandsEverythingOutAgainAlsoAfterARestart) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Ack(member, 0, 1).ok());
    member.session->Close();
    ASSERT_TRUE(Reset("orders", "billing", StartPosition::kEarliest).ok());
    CrashAndOpen();
    Member again = Join("orders", "billing");
    EXPECT_THAT(again.bodies(), ElementsAre("a", "b"));
    EXPECT_EQ(again.got()[0].attempt, 1U);
}

TEST_F(GroupTest, ResetToLatestSkipsWhatIsThere) {
    Open();
    Member member = Join("orders", "billing", "c1", {1, 1'000});
    Send("orders", {"a", "b"});
    ASSERT_TRUE(Reset("orders", "billing", StartPosition::kLatest).ok());
    member.session->Grant(Plenty());
    Send("orders", {"c"});
    EXPECT_THAT(member.bodies(), ElementsAre("a", "c"));
    EXPECT_EQ(Ack(member, 0, 1)->not_held_count(), 1U) << "what was in flight is not the group's";
}

TEST_F(GroupTest, ResetForgetsRetriesToo) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 1s, {}}}).ok());
    ASSERT_TRUE(Reset("orders", "billing", StartPosition::kLatest).ok());
    CrashAndOpen();
    EXPECT_EQ(Info("orders", "billing").lag_count, 0U);
    Member again = Join("orders", "billing");
    time_.Advance(1h);
    EXPECT_THAT(again.got(), IsEmpty());
}

TEST_F(GroupTest, AResetIsAnsweredAndServedOnlyOnceItIsDurable) {
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    std::optional<Status> result;
    broker_->ResetGroup("orders", "billing", StartPosition::kEarliest, [&](Status status) {
        result = std::move(status);
    });
    time_.SettleWithoutIo();
    EXPECT_FALSE(result);
    EXPECT_THAT(member.got(), SizeIs(1));
    time_.Settle();
    EXPECT_TRUE(result && result->ok());
    EXPECT_THAT(member.bodies(), ElementsAre("a", "a"));
}

TEST_F(GroupTest, AResetOfWhatIsNotThereIsNotFound) {
    Open();
    Send("orders", {"a"});
    const Status status = Reset("orders", "nobody", StartPosition::kLatest);
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr("nobody"));
    EXPECT_EQ(Reset("none", "billing", StartPosition::kLatest).code(), StatusCode::kNotFound);
    EXPECT_EQ(Reset("a/b", "billing", StartPosition::kLatest).code(), StatusCode::kInvalidArgument);
}

TEST_F(GroupTest, SubjectsAreListedWithWhatTheyHold) {
    options_.shards = 3;
    options_.subject_durability = {{"cheap", Durability::kPageCache}};
    Open();
    Send("orders", {"a", "b"});
    Send("cheap", {"c"});
    std::vector<SubjectInfo> subjects;
    broker_->ListSubjects([&](Result<std::vector<SubjectInfo>> r) { subjects = *std::move(r); });
    time_.Settle();
    ASSERT_THAT(subjects, SizeIs(2));
    for (const SubjectInfo& info : subjects) {
        EXPECT_EQ(info.next_sequence, info.subject == "orders" ? 2U : 1U);
        EXPECT_EQ(info.first_sequence, 0U);
        EXPECT_GT(info.stored_bytes, 0U);
        EXPECT_EQ(info.durability,
                  info.subject == "orders" ? Durability::kFsync : Durability::kPageCache);
    }
}

TEST_F(GroupTest, LagCountsWhatIsKeptAndNotAcked) {
    Open();
    Member member = Join("orders", "billing", "c1", {3, 10'000});
    Send("orders", {"a", "b", "c", "d", "e"});
    ASSERT_TRUE(Ack(member, 0).ok());
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 1, 1, 1h, {}}}).ok());
    const GroupInfo info = Info("orders", "billing");
    EXPECT_EQ(info.next_sequence, 3U);
    EXPECT_EQ(info.in_flight_count, 1U);
    EXPECT_EQ(info.waiting_retry_count, 1U);
    EXPECT_EQ(info.lag_count, 4U);
    EXPECT_EQ(info.consumer_count, 1U);
}

TEST_F(GroupTest, GroupsOfOneSubjectOrOfAllAreListed) {
    options_.shards = 2;
    Open();
    Member a = Join("s1", "a");
    Member b = Join("s1", "b");
    Member c = Join("s2", "c");
    const auto count = [this](const std::string& subject) {
        std::size_t size = 0;
        broker_->ListGroups(subject, [&](Result<std::vector<GroupInfo>> r) { size = r->size(); });
        time_.Settle();
        return size;
    };
    EXPECT_EQ(count(""), 3U);
    EXPECT_EQ(count("s1"), 2U);
    EXPECT_EQ(count("unknown"), 0U);
}

TEST_F(GroupTest, WhatRetentionTookUnreadIsNotHandedOutAndTheGroupGoesOnBehindIt) {
    options_.store.segment_bytes = 64U << 10U;
    options_.store.retention = std::chrono::minutes(10);
    Open();
    Member holder = Join("orders", "billing", "holder", {2, 1U << 20U});
    for (int i = 0; i < 6; ++i) {
        Send("orders", {std::string(30'000, 'o')});
    }
    ASSERT_TRUE(Judge(holder, {AckItem{AckVerdict::kRetry, 0, 0, 1h, {}}}).ok());
    time_.Advance(11min);
    for (int i = 0; i < 3; ++i) {
        Send("orders", {std::string(30'000, 'n')});
    }
    time_.Advance(30s);
    Member member = Join("orders", "billing");
    ASSERT_GE(member.got().size(), 2U);
    EXPECT_EQ(member.got().back().sequence, 8U);
    EXPECT_TRUE(member.got()[0].from_retry) << "it was handed out before, so it was kept";
    EXPECT_GT(member.got()[1].sequence, 1U);
    EXPECT_EQ(member.got()[1].body[0], 'n') << "what nobody had read went";
    ASSERT_TRUE(Ack(member, 0, UINT64_MAX).ok());
    const std::size_t before = member.got().size();
    time_.Advance(49min);
    ASSERT_EQ(member.got().size(), before + 1) << "the retry outlived the retention";
    EXPECT_TRUE(member.got().back().from_retry);
    EXPECT_GT(Info("orders", "billing").lost_to_retention_count, 0U);
}

TEST_F(GroupTest, WhatRetentionTookUnreadIsCountedOnceHoweverOftenTheBrokerStarts) {
    options_.store.segment_bytes = 64U << 10U;
    Open();
    Member placed = Join("orders", "billing", "c1", {0, 0});
    for (int i = 0; i < 60; ++i) {
        Send("orders", {std::string(10'000, 'o')});
    }
    Crash();
    options_.store.retention_bytes = 6U * options_.store.segment_bytes;
    Open();
    time_.Advance(11s);
    Member member = Join("orders", "billing", "c2", {1, 1U << 20U});
    ASSERT_THAT(member.got(), SizeIs(1));
    const std::uint64_t first = member.got()[0].sequence;
    ASSERT_GT(first, 10U);
    const std::uint64_t lost = Info("orders", "billing").lost_to_retention_count;
    EXPECT_EQ(lost, first);
    for (int i = 0; i < 2; ++i) {
        CrashAndOpen();
        EXPECT_EQ(Info("orders", "billing").lost_to_retention_count, first);
        EXPECT_EQ(Info("orders", "billing").lag_count, 60 - first);
    }
}

TEST_F(GroupTest, AGroupNobodyUsedForLongIsForgotten) {
    options_.idle_group_retention = std::chrono::hours(1);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Ack(member, 0).ok());
    member.session->Close();
    const auto groups = [this] {
        std::size_t size = 0;
        broker_->ListGroups("", [&](Result<std::vector<GroupInfo>> r) { size = r->size(); });
        time_.Settle();
        return size;
    };
    time_.Advance(59min);
    EXPECT_EQ(groups(), 1U);
    time_.Advance(2min);
    EXPECT_EQ(groups(), 0U);
    CrashAndOpen();
    EXPECT_EQ(groups(), 0U);
}

TEST_F(GroupTest, AGroupWithARetryThatWaitsIsKept) {
    options_.idle_group_retention = std::chrono::hours(1);
    Open();
    Member member = Join("orders", "billing");
    Send("orders", {"a"});
    ASSERT_TRUE(Judge(member, {AckItem{AckVerdict::kRetry, 0, 0, 24h, {}}}).ok());
    member.session->Close();
    time_.Advance(5h);
    EXPECT_EQ(Info("orders", "billing").waiting_retry_count, 1U);
}

TEST_F(GroupTest, AnAckedSubjectMayBeDroppedAndAnUnackedOneNot) {
    options_.store.segment_bytes = 64U << 10U;
    options_.store.drop_consumed = true;
    Open();
    Member member = Join("orders", "billing");
    for (int i = 0; i < 10; ++i) {
        Send("orders", {std::string(30'000, 'o')});
    }
    ASSERT_TRUE(Ack(member, 3, 9).ok());
    time_.Advance(1min);
    const auto first = [this] {
        std::uint64_t sequence = 0;
        broker_->ListSubjects(
            [&](Result<std::vector<SubjectInfo>> r) { sequence = (*r)[0].first_sequence; });
        time_.Settle();
        return sequence;
    };
    EXPECT_LE(first(), 3U) << "0 to 2 are held, or wait";
    const std::size_t held = member.got().size();
    ASSERT_TRUE(Ack(member, 0, held - 1).ok());
    time_.Advance(1min);
    EXPECT_GT(first(), 5U);
}

// It began anew with pull sequence 0, and the ack meant another message.
TEST_F(GroupTest, ALateAckOfAGroupThatWasForgottenHitsNothingElse) {
    options_.idle_group_retention = 1min;
    Open();
    SubscribeRequest request = MakeRequest("orders", "billing");
    Member first = Join(request);
    Send("orders", {"a"});
    ASSERT_THAT(first.got(), SizeIs(1));
    const std::uint64_t late = first.got()[0].pull;
    first.session->Close();  // Its handler of "a" goes on, and will ack.
    Member second = Join("orders", "billing", "c2");
    ASSERT_THAT(second.got(), SizeIs(1));
    ASSERT_TRUE(Ack(second, second.got()[0].pull).ok());
    second.session->Close();
    time_.Advance(2min);
    std::size_t count = 1;
    broker_->ListGroups("", [&count](Result<std::vector<GroupInfo>> r) { count = r->size(); });
    time_.Settle();
    ASSERT_EQ(count, 0U);
    request.start = StartPosition::kLatest;
    Member again = Join(request);
    Send("orders", {"b"});
    ASSERT_THAT(again.bodies(), ElementsAre("b"));
    Result<AckReply> reply = AckByKey(request.key, {AckItem{AckVerdict::kAck, late, late, {}, {}}});
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->not_held_count(), 1U);
    EXPECT_EQ(Info("orders", "billing").in_flight_count, 1U);
}

}  // namespace
}  // namespace qmq::broker::testing
