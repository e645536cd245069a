#include "sdk/client/src/receive/stream_books.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "qmq/batch.h"

namespace qmq::internal {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr TimePoint kNow{hours(1)};

class StreamBooksTest : public ::testing::Test {
protected:
    static std::shared_ptr<DeliveryRun> Run(std::uint64_t first,
                                            std::uint64_t count,
                                            TimePoint arrived = kNow) {
        BatchBuilder builder;
        for (std::uint64_t i = 0; i < count; ++i) {
            builder.Add(Message("s").SetBody(std::to_string(first + i)),
                        "id-" + std::to_string(first + i),
                        WallTime(hours(1)));
        }
        auto reader = MessageReader::Make("s", {}, Slice::Own(builder.Finish()), 1, {});
        EXPECT_TRUE(reader.ok()) << reader.status();
        return std::make_shared<DeliveryRun>(nullptr,
                                             std::move(*reader),
                                             SequenceRange{first, first + count - 1},
                                             0,
                                             count * 100,
                                             arrived);
    }
    /// What runners get of it.
    static std::vector<std::uint64_t> ClaimAll(DeliveryRun& run) {
        std::vector<std::uint64_t> claimed;
        DeliveryRun::Claim claim;
        while (run.Next(std::nullopt, &claim)) {
            claimed.push_back(claim.sequence);
        }
        return claimed;
    }

    StreamBooks books{AtLeastOnce(), {100, 100, 1'000'000}};
    StreamBooks careful{AtMostOnce(), {100, 100, 1'000'000}};
    StreamBooks::News news;
};

TEST_F(StreamBooksTest, WhatTheBrokerDoesNotHoldForUsIsNeverClaimed) {
    auto run = Run(0, 5);
    books.Enter(run, &news);
    EXPECT_EQ(books.Lose({{1, 2}, {4, 9}}), 3U);
    EXPECT_THAT(ClaimAll(*run), ElementsAre(0U, 3U));
    EXPECT_EQ(books.credit().held_messages(), 2);
    EXPECT_EQ(books.Lose({{1, 2}}), 0U);
    EXPECT_EQ(books.credit().held_messages(), 2);
}

TEST_F(StreamBooksTest, WhatIsLostAfterItWasClaimedIsDecidedNoMore) {
    auto run = Run(0, 2);
    books.Enter(run, &news);
    (void)ClaimAll(*run);
    EXPECT_EQ(books.Lose({{0, 0}}), 1U);
    run->RecordAck(0);  // Its handler returns all the same.
    run->RecordAck(1);
    EXPECT_FALSE(books.Collect());
    const auto request = books.TakeRequest();
    ASSERT_TRUE(request.has_value());
    ASSERT_THAT(request->items, SizeIs(1));
    EXPECT_EQ(request->items[0].first, 1U);
    EXPECT_EQ(books.acked_count(), 1U);
    EXPECT_EQ(books.credit().held_messages(), 0);
}

TEST_F(StreamBooksTest, GivesBackWhatHasWaitedButForTheFirst) {
    auto old = Run(0, 6, kNow);
    auto fresh = Run(6, 4, kNow + seconds(20));
    books.Enter(old, &news);
    books.Enter(fresh, &news);
    EXPECT_EQ(books.GiveBack(kNow + seconds(5), 2), 4U);
    EXPECT_THAT(ClaimAll(*old), ElementsAre(0U, 1U));
    EXPECT_THAT(ClaimAll(*fresh), SizeIs(4));
    const auto request = books.TakeRequest();
    ASSERT_THAT(request->items, SizeIs(1));
    EXPECT_EQ(request->items[0].verdict, AckVerdict::kRelease);
    EXPECT_EQ(request->items[0].first, 2U);
    EXPECT_EQ(request->items[0].last, 5U);
}

// A late decision about a run that is gone took the newer one with the same numbers off the books,
// whose acks then went nowhere.
TEST_F(StreamBooksTest, ALateDecisionDoesNotTouchANewRunWithTheSameNumbers) {
    auto old = Run(0, 1);
    books.Enter(old, &news);
    (void)ClaimAll(*old);
    books.OnLost();
    books.OnResumed(0, &news);  // Nothing is ours any more.
    auto fresh = Run(0, 1);
    books.Enter(fresh, &news);
    (void)ClaimAll(*fresh);
    books.Decide(*old, {AckVerdict::kRetry, 0, 0, std::nullopt, "late"}, nullptr, &news);
    fresh->RecordAck(0);
    (void)books.Collect();
    const auto request = books.TakeRequest();
    ASSERT_TRUE(request.has_value());
    ASSERT_THAT(request->items, SizeIs(1));
    EXPECT_EQ(request->items[0].verdict, AckVerdict::kAck);
    EXPECT_EQ(books.failed_count(), 0U);
}

TEST_F(StreamBooksTest, AtMostOnceWaitsForTheWordThatTheReceiptIsRecorded) {
    careful.Enter(Run(0, 3), &news);
    EXPECT_THAT(news.ready, IsEmpty());
    const auto request = careful.TakeRequest();
    ASSERT_TRUE(request.has_value());
    ASSERT_THAT(request->items, SizeIs(1));
    EXPECT_EQ(request->items[0].durability, Durability::kDefault);
    EXPECT_EQ(careful.unconfirmed_count(), 3U);
    EXPECT_FALSE(careful.OnReply(request->token, AckReply{}, &news));
    EXPECT_THAT(news.ready, SizeIs(1));
    EXPECT_EQ(careful.acked_count(), 3U);
}

TEST_F(StreamBooksTest, AtMostOnceHandlesOfARunWhatWasHeld) {
    auto run = Run(0, 5);
    careful.Enter(run, &news);
    const auto request = careful.TakeRequest();
    (void)careful.OnReply(request->token, AckReply{{PullRange{1, 1}, PullRange{3, 3}}}, &news);
    ASSERT_THAT(news.ready, SizeIs(1));
    EXPECT_THAT(ClaimAll(*run), ElementsAre(0U, 2U, 4U));
    EXPECT_EQ(careful.acked_count(), 3U);
    EXPECT_EQ(careful.credit().held_messages(), 3);
}

TEST_F(StreamBooksTest, AtMostOnceHandlesNothingOfWhichNothingWasHeld) {
    careful.Enter(Run(0, 2), &news);
    const auto request = careful.TakeRequest();
    (void)careful.OnReply(request->token, AckReply{{PullRange{0, 7}}}, &news);
    EXPECT_THAT(news.ready, IsEmpty());
    EXPECT_THAT(news.answers, IsEmpty());
    EXPECT_EQ(careful.credit().held_messages(), 0);
    EXPECT_TRUE(careful.empty());
}

// The answer for the part of a run that was still ours let handlers have the rest of it, too, which
// came again and was handled twice.
TEST_F(StreamBooksTest, AtMostOnceHandlesOfARunThatAResumptionCutWhatIsStillOurs) {
    auto run = Run(0, 4);
    careful.Enter(run, &news);
    ASSERT_TRUE(careful.TakeRequest().has_value());
    careful.OnLost();
    careful.OnResumed(2, &news);
    EXPECT_THAT(news.ready, IsEmpty());
    const auto request = careful.TakeRequest();
    ASSERT_TRUE(request.has_value());
    ASSERT_THAT(request->items, SizeIs(1));
    EXPECT_EQ(request->items[0].last, 1U);
    (void)careful.OnReply(request->token, AckReply{}, &news);
    ASSERT_THAT(news.ready, SizeIs(1));
    EXPECT_THAT(ClaimAll(*run), ElementsAre(0U, 1U));
    EXPECT_EQ(careful.acked_count(), 2U);
    EXPECT_EQ(careful.credit().held_messages(), 2);
}

TEST_F(StreamBooksTest, AtMostOnceHandlesNothingOfACutRunOfWhichNothingWasHeld) {
    careful.Enter(Run(0, 4), &news);
    ASSERT_TRUE(careful.TakeRequest().has_value());
    careful.OnLost();
    careful.OnResumed(2, &news);
    const auto request = careful.TakeRequest();
    ASSERT_TRUE(request.has_value());
    (void)careful.OnReply(request->token, AckReply{{PullRange{0, 1}}}, &news);
    EXPECT_THAT(news.ready, IsEmpty());
    EXPECT_EQ(careful.credit().held_messages(), 0);
    EXPECT_TRUE(careful.empty());
}

// What was not held, and so is for others, was counted among the losses.
TEST_F(StreamBooksTest, AtMostOnceWhatWasNotHeldIsNotReleasedOnceMore) {
    auto run = Run(0, 4);
    careful.Enter(run, &news);
    const auto request = careful.TakeRequest();
    ASSERT_TRUE(request.has_value());
    (void)careful.OnReply(request->token, AckReply{{PullRange{2, 3}}}, &news);
    DeliveryRun::Claim claim;
    ASSERT_TRUE(run->Next(std::nullopt, &claim));
    EXPECT_EQ(careful.ReleaseUnclaimed(), 1U);
    EXPECT_EQ(careful.credit().held_messages(), 1);
}

// Also the other way round: what was lost is none of those that are kept.
TEST_F(StreamBooksTest, WhatIsKeptIsStillOurs) {
    auto run = Run(0, 6);
    books.Enter(run, &news);
    EXPECT_EQ(books.Lose({{0, 1}}), 2U);
    EXPECT_EQ(books.GiveBack(kNow, 2), 2U);
    EXPECT_THAT(ClaimAll(*run), ElementsAre(2U, 3U));
}

TEST_F(StreamBooksTest, AtMostOnceGivesNothingBack) {
    auto run = Run(0, 4);
    careful.Enter(run, &news);
    const auto request = careful.TakeRequest();
    (void)careful.OnReply(request->token, AckReply{}, &news);
    EXPECT_EQ(careful.GiveBack(kNow + hours(1), 0), 0U);
    EXPECT_THAT(ClaimAll(*run), SizeIs(4));
}

TEST_F(StreamBooksTest, AtMostOnceCountsAHandlerThatFailed) {
    auto run = Run(0, 1);
    careful.Enter(run, &news);
    const auto request = careful.TakeRequest();
    (void)careful.OnReply(request->token, AckReply{}, &news);
    (void)ClaimAll(*run);
    careful.Decide(*run, {AckVerdict::kRetry, 0, 0, std::nullopt, "no"}, nullptr, &news);
    EXPECT_EQ(careful.failed_count(), 1U);
    EXPECT_FALSE(careful.TakeRequest().has_value());
    EXPECT_TRUE(careful.empty());
}

}  // namespace
}  // namespace qmq::internal
