#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using testing::At;
using ::testing::ElementsAre;
using testing::FullMessage;
using testing::Receive;

void ExpectFull(const Message& message) {
    EXPECT_EQ(message.subject(), "order.paid");
    EXPECT_EQ(message.id(), "order-77");
    EXPECT_EQ(message.Get<std::string>("orderId"), "77");
    EXPECT_EQ(message.Get<double>("amount"), 12.5);
    EXPECT_TRUE(message.Get<bool>("express"));
    EXPECT_THAT(message.tags(), ElementsAre("domestic", "paid"));
    EXPECT_EQ(message.ordering_key(), "customer-5");
    EXPECT_EQ(message.deliver_at(), At(5'000));
    EXPECT_EQ(message.created_time(), At(4'000));
    EXPECT_EQ(message.body(), "the body");
}

TEST(ReceivedMessageTest, HasEverythingThatWasSent) {
    ExpectFull(Receive({FullMessage()}).at(0));
}

TEST(ReceivedMessageTest, ItsPropertiesHaveTheKindsAndTheOrderInWhichTheyWereSet) {
    Message sent("s");
    sent.Set("text", "t").Set("flag", true).Set("whole", 1).Set("real", 0.5);
    sent.Set("when", At(1)).Set("raw", "\xFF\xFE").Set("text", "again");
    const Message received = Receive({sent}).at(0);
    std::vector<std::string> seen;
    for (const Property& property : received.properties()) {
        seen.push_back(std::string(property.name) + ":" +
                       std::to_string(static_cast<int>(property.kind)));
    }
    EXPECT_THAT(seen, ElementsAre("flag:1", "whole:2", "real:3", "when:4", "raw:5", "text:0"));
}

TEST(ReceivedMessageTest, ABodyMayBeAnyBytes) {
    std::string bytes;
    for (int i = 0; i < 256; ++i) {
        bytes.push_back(static_cast<char>(i));
    }
    const Message sent = Message("s").SetBody(bytes);
    EXPECT_TRUE(sent.Validate().ok());
    EXPECT_EQ(Receive({sent}).at(0).body(), bytes);
    EXPECT_EQ(Receive({Message("s").SetBody(std::string())}).at(0).body(), "");
}

TEST(ReceivedMessageTest, AMessageWithoutIdAndTimeGetsThoseOfTheSender) {
    const Message message = Receive({Message("s")}).at(0);
    EXPECT_EQ(message.id(), "generated-0");
    EXPECT_EQ(message.created_time(), At(1'000));
}

TEST(ReceivedMessageTest, SharesTheMemoryOfItsBatchAndKeepsItAlive) {
    Slice batch = Slice::Own(testing::MakeBatch({FullMessage(), FullMessage()}));
    const std::string_view bytes = batch.bytes();
    const std::weak_ptr<const void> memory = batch.owner();
    std::optional<Message> kept;
    {
        std::vector<Message> messages =
            DecodeMessages("order.paid", std::move(batch), 1, {}).value();
        kept = messages.at(1);
    }
    EXPECT_FALSE(memory.expired());
    for (const std::string_view part : {kept->body(), kept->FindText("orderId").value()}) {
        EXPECT_GE(part.data(), bytes.data());
        EXPECT_LT(part.data(), bytes.data() + bytes.size());
    }
    ExpectFull(*kept);
    kept.reset();
    EXPECT_TRUE(memory.expired());
}

TEST(ReceivedMessageTest, ChangingACopyCopiesFirstAndLeavesTheOthersAlone) {
    const Message received = Receive({FullMessage()}).at(0);
    Message changed = received;
    EXPECT_EQ(static_cast<const void*>(changed.body().data()),
              static_cast<const void*>(received.body().data()));
    changed.Set("note", "seen").AddTag("late").SetBody("new body").SetId("new").SetOrderingKey("k");
    ExpectFull(received);
    EXPECT_EQ(changed.Get<std::string>("note"), "seen");
    EXPECT_EQ(changed.Get<std::string>("orderId"), "77");
    EXPECT_THAT(changed.tags(), ElementsAre("domestic", "paid", "late"));
    EXPECT_EQ(changed.subject(), "order.paid");
    EXPECT_EQ(changed.deliver_at(), At(5'000));
}

TEST(ReceivedMessageTest, AViewIntoItMaySetItsOwnPropertyWhenItHoldsTheLastReference) {
    Message only = Receive({FullMessage()}).at(0);
    only.Set("copy of body", only.body());
    only.Set("copy of id", only.id());
    EXPECT_EQ(only.Get<std::string>("copy of body"), "the body");
    EXPECT_EQ(only.Get<std::string>("copy of id"), "order-77");
    only.Set(only.properties()[0].name, "78");
    EXPECT_EQ(only.Get<std::string>("orderId"), "78");
    Message named = Receive({FullMessage()}).at(0);
    named.Set(named.properties()[0].name, "78");
    EXPECT_EQ(named.Get<std::string>("orderId"), "78");
    Message other = Receive({FullMessage()}).at(0);
    other.SetOrderingKey(other.body());
    EXPECT_EQ(other.ordering_key(), "the body");
    Message third = Receive({FullMessage()}).at(0);
    third.AddTag(third.body());
    EXPECT_TRUE(third.HasTag("the body"));
}

TEST(ReceivedMessageTest, TheAttemptIsTheHigherOfTheBrokersCountAndItsOwn) {
    EXPECT_EQ(Receive({FullMessage()}, 3).at(0).attempt(), 3U);
    const std::string batch = testing::MakeBatch({FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    const MessageHead head = ReadHead(view.body(), 0).value();
    const std::string retry = EncodeRetry(view.body(), head, 7, std::nullopt, "");
    for (const auto& [counted, expected] : {std::pair(2U, 7U), std::pair(9U, 9U)}) {
        EXPECT_EQ(DecodeMessages("s", Slice::Own(retry), counted, {})->at(0).attempt(), expected);
    }
}

TEST(ReceivedMessageTest, CanBeSentAgainAsItIs) {
    const Message first = Receive({FullMessage()}, 2).at(0);
    const Message second = Receive({first}).at(0);
    ExpectFull(second);
    EXPECT_EQ(second.attempt(), 2U);
}

TEST(LargeTextTest, PartsOfAnotherClientAreJoinedUpToTheFirstGap) {
    Message sent("s");
    sent.Set("big#part1", "b").Set("big#part0", "a").Set("big#part2", "c").Set("big#part4", "e");
    const Message message = Receive({sent}).at(0);
    EXPECT_EQ(message.Get<std::string>("big"), "abc");
    EXPECT_TRUE(message.Has("big"));
}

TEST(LargeTextTest, MoreThanTenPartsKeepTheirNumericalOrder) {
    Message sent("s");
    std::string whole;
    for (int i = 0; i < 25; ++i) {
        const std::string part = std::to_string(i) + ",";
        sent.Set("big#part" + std::to_string(i), part);
        whole.append(part);
    }
    EXPECT_EQ(Receive({sent}).at(0).Get<std::string>("big"), whole);
}

TEST(LargeTextTest, ThePlainNameWinsOverPartsAndOnlyTextsAreJoined) {
    Message both("s");
    both.Set("big#part0", "1").Set("other", 5);
    EXPECT_EQ(both.Find<int>("big").status().code(), StatusCode::kInvalidArgument);
    const Message received = Receive({both}).at(0);
    EXPECT_EQ(received.Get<std::string>("big"), "1");
    EXPECT_EQ(received.Get<std::string>("other"), "5");
}

TEST(LargeTextTest, WithoutPartZeroThereIsNothing) {
    Message message("s");
    message.Set("big#part1", "b");
    EXPECT_EQ(message.Find<std::string>("big").status().code(), StatusCode::kNotFound);
    EXPECT_FALSE(message.Has("big"));
}

TEST(LargeTextTest, SettingTheNameErasesStalePartsAndNothingElse) {
    Message message("s");
    message.Set("big#part0", "a")
        .Set("big#part1", "b")
        .Set("big#part12", "m")
        .Set("big#partial", "kept")
        .Set("big#part", "kept")
        .Set("bigger#part0", "kept")
        .Set("big#part01", "kept");
    message.Set("big", "short");
    std::vector<std::string> names;
    for (const Property& property : message.properties()) {
        names.emplace_back(property.name);
    }
    EXPECT_THAT(names, ElementsAre("big#partial", "big#part", "bigger#part0", "big#part01", "big"));
}

// It was sent with the attempt and the error of the message that had come, so that one failure more
// made it a dead letter.
TEST(ReceivedMessageTest, SentAgainByTheApplicationItBeginsAtItsFirstAttempt) {
    const std::string batch = testing::MakeBatch({FullMessage()});
    const BatchView view = BatchView::Trusted(batch);
    const MessageHead head = ReadHead(view.body(), 0).value();
    const std::string retry = EncodeRetry(view.body(), head, 7, std::nullopt, "no stock");
    const Message failed = DecodeMessages("order.paid", Slice::Own(retry), 7, {})->at(0);
    ASSERT_EQ(failed.attempt(), 7U);
    ASSERT_EQ(failed.last_error(), "no stock");
    Message changed = failed;
    changed.Set("again", true);
    for (Message again : {failed, changed}) {
        EXPECT_TRUE(ForgetDeliveries(again));
        EXPECT_FALSE(ForgetDeliveries(again));
        EXPECT_EQ(again.attempt(), 1U);
        const Message received = Receive({again}).at(0);
        EXPECT_EQ(received.attempt(), 1U);
        EXPECT_EQ(received.last_error(), "");
        EXPECT_EQ(received.id(), "order-77");
        EXPECT_EQ(received.Get<std::string>("orderId"), "77");
        EXPECT_EQ(received.created_time(), At(4'000));
        EXPECT_EQ(received.body(), "the body");
    }
    EXPECT_EQ(failed.attempt(), 7U);
    EXPECT_EQ(failed.last_error(), "no stock");
}

TEST(ReceivedMessageTest, OfADeadLetterSubjectItCannotBeSent) {
    const std::string batch = testing::MakeBatch({FullMessage()});
    Message dead = DecodeMessages("%DEAD_RETRY%order.paid%g", Slice::Own(batch), 1, {})->at(0);
    EXPECT_EQ(dead.Validate().code(), StatusCode::kInvalidArgument);
    dead.Set("again", true);
    EXPECT_EQ(dead.Validate().code(), StatusCode::kInvalidArgument);
}

TEST(LargeTextTest, WhatIsInPartsAndNoNumberIsThereAndNoSuchValue) {
    Message sent("s");
    sent.Set("big#part0", "a").Set("big#part1", "b");
    const Message message = Receive({sent}).at(0);
    ASSERT_TRUE(message.Has("big"));
    EXPECT_EQ(message.Find<std::int64_t>("big").status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qmq
