#include "plugins/grpc/codec/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <string>

#include "qmq/batch.h"

namespace qmq::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ConvertTest, ASubscribeRequestComesBackAsItself) {
    SubscribeRequest request;
    request.key = {"s", "g", "c", ConsumeSource::kRetry};
    request.filter = {TagMode::kAny, {"x"}};
    request.start = StartPosition::kEarliest;
    request.retry = {65'535, std::chrono::milliseconds(0), 10.0, std::chrono::hours(168)};
    request.ack_timeout = std::chrono::hours(12);
    request.reconnect_grace = std::chrono::milliseconds(0);
    request.resume = ResumePoint{1, 2};
    auto back = FromProto(ToProto(request));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->key, request.key);
    EXPECT_EQ(back->filter, request.filter);
    EXPECT_EQ(back->start, request.start);
    EXPECT_EQ(back->retry, request.retry);
    EXPECT_EQ(back->ack_timeout, request.ack_timeout);
    EXPECT_EQ(back->reconnect_grace, request.reconnect_grace);
    EXPECT_EQ(back->resume->next_pull_sequence, 2U);
}

TEST(ConvertTest, WhatAnOtherClientLeavesOutIsTheDefault) {
    proto::SubscribeRequest message;
    message.set_subject("s");
    auto request = FromProto(message);
    ASSERT_TRUE(request.ok());
    EXPECT_EQ(request->retry, RetryPolicy{});
    EXPECT_EQ(request->ack_timeout, SubscribeRequest{}.ack_timeout);
    EXPECT_EQ(request->reconnect_grace, SubscribeRequest{}.reconnect_grace);
    EXPECT_EQ(request->start, StartPosition::kLatest);
    EXPECT_FALSE(request->resume.has_value());
}

TEST(ConvertTest, AWordThatIsUnknownIsRefusedByItsField) {
    proto::SubscribeRequest message;
    message.set_source(static_cast<proto::SubscribeRequest::Source>(9));
    EXPECT_THAT(std::string(FromProto(message).status().message()), HasSubstr("source: 9"));
    message.Clear();
    message.set_tag_mode(static_cast<proto::SubscribeRequest::TagMode>(9));
    EXPECT_THAT(std::string(FromProto(message).status().message()), HasSubstr("tag_mode: 9"));
    message.Clear();
    message.set_start(static_cast<proto::SubscribeRequest::Start>(9));
    EXPECT_THAT(std::string(FromProto(message).status().message()), HasSubstr("start: 9"));
}

TEST(ConvertTest, TimesBeyondEveryLimitDoNotOverflow) {
    EXPECT_GT(MillisFromWire(~0ULL), std::chrono::hours(24 * 365 * 99));
    EXPECT_LT(MillisFromWire(~0ULL), std::chrono::hours(24 * 366 * 101));
    EXPECT_EQ(MillisToWire(std::chrono::milliseconds(-5)), 0U);
}

TEST(ConvertTest, AMessageInClearKeepsItsTypes) {
    Message message("order.paid");
    message.SetId("my-id")
        .Set("text", "票")
        .Set("flag", true)
        .Set("number", std::int64_t{-5})
        .Set("ratio", 0.25)
        .Set("when", WallTime(std::chrono::milliseconds(1'700'000'000'000)))
        .Set("raw", std::string("\xff\x00", 2))
        .AddTag("a")
        .AddTag("b")
        .SetBody(std::string("\x00\x01", 2))
        .SetOrderingKey("customer-1")
        .SetCreatedTime(WallTime(std::chrono::milliseconds(5)));

    const proto::Message clear = ToProto(message);
    EXPECT_EQ(clear.properties(0).string_value(), "票");
    EXPECT_TRUE(clear.properties(1).bool_value());
    EXPECT_EQ(clear.properties(2).int_value(), -5);
    EXPECT_EQ(clear.properties(3).double_value(), 0.25);
    EXPECT_EQ(clear.properties(4).time_ms_value(), 1'700'000'000'000);
    EXPECT_EQ(clear.properties(5).bytes_value(), std::string("\xff\x00", 2));

    auto back = FromProto("order.paid", clear);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->id(), "my-id");
    EXPECT_EQ(back->Get<std::string>("text"), "票");
    EXPECT_TRUE(back->Get<bool>("flag"));
    EXPECT_EQ(back->Get<std::int64_t>("number"), -5);
    EXPECT_EQ(back->Get<double>("ratio"), 0.25);
    EXPECT_EQ(back->Get<std::string>("raw"), std::string("\xff\x00", 2));
    EXPECT_THAT(back->tags(), ElementsAre("a", "b"));
    EXPECT_EQ(back->body(), std::string("\x00\x01", 2));
    EXPECT_EQ(back->ordering_key(), "customer-1");
    EXPECT_EQ(back->created_time().time_since_epoch().count(), 5);
}

TEST(ConvertTest, OfEqualNamesTheLastCountsAndAWholeTextReplacesItsParts) {
    proto::Message clear;
    const auto add = [&clear](const std::string& name, const std::string& value) {
        clear.add_properties()->set_name(name);
        clear.mutable_properties(clear.properties_size() - 1)->set_string_value(value);
    };
    add("a", "1");
    add("text#part0", "gone");
    add("text", "whole");
    add("a", "3");
    add("b#part01", "of nothing");
    add("b", "2");
    add("text#part7", "stays");
    const auto message = FromProto("s", clear);
    ASSERT_TRUE(message.ok()) << message.status();
    std::string all;
    for (const Property& property : message->properties()) {
        all += std::string(property.name) + "=" + std::string(property.text) + " ";
    }
    EXPECT_EQ(all, "text=whole a=3 b#part01=of nothing b=2 text#part7=stays ");
}

TEST(ConvertTest, WhatDoesNotReadAsItsKindTravelsAsText) {
    BatchBuilder builder;
    Message message("s");
    message.Set("number", std::int64_t{77}).Set("ratio", 0.5);
    builder.Add(message, "id", WallTime());
    std::string batch = builder.Finish();
    batch.replace(batch.find("77"), 2, "7x");
    batch.replace(batch.find("0.5"), 3, "NaN");
    batch =
        MakeBatchHeader(1, batch.substr(BatchHeader::kBytes)) + batch.substr(BatchHeader::kBytes);
    const auto decoded = DecodeMessages("s", Slice::Own(batch), 1, {});
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    const proto::Message clear = ToProto(decoded->front());
    EXPECT_EQ(clear.properties(0).string_value(), "7x");
    EXPECT_TRUE(std::isnan(clear.properties(1).double_value()));
}

/// Far above what one step for each takes, far below the square.
void ExpectFewSeconds(const std::function<void()>& work) {
    const std::clock_t begin = std::clock();
    work();
    EXPECT_LT((std::clock() - begin) / CLOCKS_PER_SEC, 10);
}

constexpr int kManyProperties = 100'000;  // Of one frame of the default size.

// Each typed property was looked for in the whole message.
TEST(ConvertTest, ManyTypedPropertiesCostNoSquare) {
    Message message("s");
    for (int i = 0; i < kManyProperties; ++i) {
        message.Set("p" + std::to_string(i), std::int32_t{1});
    }
    ExpectFewSeconds([&] { EXPECT_EQ(ToProto(message).properties_size(), kManyProperties); });
}

// Each name that came again, and each text whose part had come, walked through all before it.
TEST(ConvertTest, ManyNamesThatComeAgainCostNoSquare) {
    for (const char* first : {"", "#part0", "#partly"}) {
        proto::Message clear;
        for (const std::string& suffix : {std::string(first), std::string()}) {
            for (int i = 0; i < kManyProperties; ++i) {
                clear.add_properties()->set_name("p" + std::to_string(i) + suffix);
            }
        }
        ExpectFewSeconds([&] { EXPECT_TRUE(FromProto("s", clear).ok()); });
    }
}

TEST(ConvertTest, AMessageThatIsWrongIsRefusedWithTheReason) {
    proto::Message clear;
    for (int i = 0; i < 11; ++i) {
        clear.add_tags("tag" + std::to_string(i));
    }
    EXPECT_EQ(FromProto("s", clear).status().code(), StatusCode::kInvalidArgument);
}

TEST(ConvertTest, AGroupTravelsWithAllItsCounts) {
    GroupInfo info;
    info.subject = "order.paid";
    info.group = "ticketing";
    std::uint64_t* counts[] = {&info.next_sequence,
                               &info.lag_count,
                               &info.in_flight_count,
                               &info.waiting_retry_count,
                               &info.dead_letter_count,
                               &info.set_aside_count,
                               &info.unwanted_count,
                               &info.suspect_count,
                               &info.lost_to_retention_count,
                               &info.lost_to_full_disk_count,
                               &info.lost_to_damage_count,
                               &info.lost_to_burial_count};
    std::uint64_t next = 1;
    for (std::uint64_t* count : counts) {
        *count = next++;  // Each its own, so that no two can be swapped.
    }
    info.consumer_count = 99;
    info.oldest_unacked_age = std::chrono::milliseconds(0);
    info.waits_for = "a member that wants tag \"b\"";
    const GroupInfo back = FromProto(ToProto(info));
    EXPECT_EQ(back.subject, info.subject);
    EXPECT_EQ(back.group, info.group);
    EXPECT_EQ(back.next_sequence, 1U);
    EXPECT_EQ(back.lag_count, 2U);
    EXPECT_EQ(back.in_flight_count, 3U);
    EXPECT_EQ(back.waiting_retry_count, 4U);
    EXPECT_EQ(back.dead_letter_count, 5U);
    EXPECT_EQ(back.set_aside_count, 6U);
    EXPECT_EQ(back.unwanted_count, 7U);
    EXPECT_EQ(back.suspect_count, 8U);
    EXPECT_EQ(back.lost_to_retention_count, 9U);
    EXPECT_EQ(back.lost_to_full_disk_count, 10U);
    EXPECT_EQ(back.lost_to_damage_count, 11U);
    EXPECT_EQ(back.lost_to_burial_count, 12U);
    EXPECT_EQ(back.consumer_count, 99U);
    EXPECT_EQ(back.oldest_unacked_age, info.oldest_unacked_age);
    EXPECT_EQ(back.waits_for, info.waits_for);
}

TEST(ConvertTest, AnAckItemAsksForWhatItSaysAndOtherwiseForMemory) {
    proto::AckItem message;
    message.set_verdict(proto::AckItem::BEGIN);
    EXPECT_EQ(FromProto(message)->durability, Durability::kMemory);
    EXPECT_EQ(FromProto(message)->verdict, AckVerdict::kBegin);
    message.set_durability(proto::DURABILITY_DEFAULT);
    EXPECT_EQ(FromProto(message)->durability, Durability::kDefault);
    message.set_durability(static_cast<proto::Durability>(6));
    EXPECT_THAT(std::string(FromProto(message).status().message()), HasSubstr("durability: 6"));
    message.clear_durability();
    message.set_verdict(static_cast<proto::AckItem::Verdict>(6));
    EXPECT_THAT(std::string(FromProto(message).status().message()), HasSubstr("verdict: 6"));
}

}  // namespace
}  // namespace qmq::rpc
