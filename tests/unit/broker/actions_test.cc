#include "server/broker/actions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qmq::broker {
namespace {

const ConsumerName kConsumer{{"orders", "billing"}, "c-1", ConsumeSource::kSubject};

std::vector<Action> OneOfEach() {
    Subscribed subscribed{kConsumer, {TagMode::kAny, {"red", "blue"}}, {}, {}};
    subscribed.retry.multiplier = 1.5;
    subscribed.settings.sessionless = true;
    HandedOut handed{kConsumer, 300, 1'767'225'600'000, 77, {}};
    handed.aside = {{71, 2}, {80, 1}};
    handed.runs = {{Origin::kSubject, TakenFrom::kNew, 70, 7, 1, 0, 0},
                   {Origin::kRetry, TakenFrom::kRedelivery, 5, 1, 3, 2, 0},
                   {Origin::kKept, TakenFrom::kRedelivery, 6, 1, 3, 3, 0},
                   {Origin::kRetry, TakenFrom::kWaiting, 9, 2, 2, 0, 1'767'225'600'123}};
    return {
        GroupPlaced{{"orders", "billing"}, 1ULL << 60U, true},
        GroupGone{{"orders", "billing"}},
        subscribed,
        handed,
        Skipped{{"orders", "billing"}, 5, 1, {{2, 1}}, {{0, 1}, {4, 1}}},
        Acked{kConsumer, {{1, 2}, {5, 5}, {9, 400}}},
        Released{kConsumer, ReleaseCause::kReturned, {{0, 0}}},
        Released{kConsumer, ReleaseCause::kLost, {{0, 9}}, {{2, 3}, {5, 5}}},
        Deferred{kConsumer, 1'767'225'600'000, {{3, 4}}},
        Moved{kConsumer, 1'767'225'600'000, {{3, 4}}, Origin::kRetry},
        Moved{kConsumer, 1, {{3, 4}}, Origin::kKept, MoveCause::kKeptHeld, 0},
        Moved{kConsumer, 1, {{3, 4}}, Origin::kRetry, MoveCause::kKeptWaiting, 1'767'225'600'000},
        ConsumerGone{kConsumer, {{1, 2}}}};
}

TEST(ActionsTest, EveryActionIsReadAsItWasWritten) {
    for (const Action& action : OneOfEach()) {
        std::string bytes;
        Encode(action, bytes);
        Result<Action> read = DecodeAction(bytes);
        ASSERT_TRUE(read.ok()) << read.status();
        EXPECT_EQ(read->index(), action.index());
        std::string again;
        Encode(*read, again);
        EXPECT_EQ(again, bytes);
    }
}

TEST(ActionsTest, AHandOutKeepsItsRuns) {
    const Action action = OneOfEach()[3];
    std::string bytes;
    Encode(action, bytes);
    Result<Action> read = DecodeAction(bytes);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(std::get<HandedOut>(*read).runs, std::get<HandedOut>(action).runs);
    EXPECT_EQ(std::get<HandedOut>(*read).first_pull_sequence, 300U);
    EXPECT_EQ(std::get<HandedOut>(*read).consumer.consumer_id, "c-1");
}

TEST(ActionsTest, EveryTruncationIsAnErrorThatSaysWhere) {
    for (const Action& action : OneOfEach()) {
        std::string bytes;
        Encode(action, bytes);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            Result<Action> read = DecodeAction(std::string_view(bytes).substr(0, size));
            ASSERT_FALSE(read.ok()) << "of " << bytes.size() << " only " << size;
            EXPECT_EQ(read.status().code(), StatusCode::kDataLoss);
            EXPECT_THAT(std::string(read.status().message()), ::testing::HasSubstr("byte"));
        }
        EXPECT_FALSE(DecodeAction(bytes + "x").ok());
    }
}

TEST(ActionsTest, EveryFlippedBitIsReadWithoutHarm) {
    for (const Action& action : OneOfEach()) {
        std::string bytes;
        Encode(action, bytes);
        for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
            std::string flipped = bytes;
            flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
            Result<Action> read = DecodeAction(flipped);  // The log has checksums; this must not.
            if (read.ok()) {
                std::string again;
                Encode(*read, again);
            }
        }
    }
}

TEST(ActionsTest, WhatANewerProgramWroteIsUnimplementedAndNotDamage) {
    EXPECT_EQ(DecodeAction(std::string("\x63\x02", 2)).status().code(), StatusCode::kUnimplemented);
    EXPECT_EQ(DecodeAction(std::string("\x06\x03", 2)).status().code(), StatusCode::kUnimplemented);
}

TEST(ActionsTest, ACountThatTheBytesCannotHoldAllocatesNothing) {
    std::string bytes;
    Encode(Acked{kConsumer, {}}, bytes);
    bytes.pop_back();
    bytes += std::string("\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9);
    EXPECT_EQ(DecodeAction(bytes).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace qmq::broker
