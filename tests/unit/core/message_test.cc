#include "qmq/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::At;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FixedClock final : public Clock {
public:
    explicit FixedClock(WallTime now) : now_(now) {}
    TimePoint Now() const override { return {}; }
    WallTime WallNow() const override { return now_; }

private:
    WallTime now_;
};

std::vector<std::string> NamesOf(const Message& message) {
    std::vector<std::string> names;
    for (const Property& property : message.properties()) {
        names.emplace_back(property.name);
    }
    return names;
}

template <typename T>
std::string WhyNot(const Message& message, std::string_view name) {
    try {
        (void)message.Get<T>(name);
    } catch (const PropertyError& error) {
        return error.what();
    }
    return "it could be read";
}

TEST(MessageTest, AnEmptyOneHasNothing) {
    const Message message;
    EXPECT_EQ(message.subject(), "");
    EXPECT_EQ(message.id(), "");
    EXPECT_EQ(message.body(), "");
    EXPECT_EQ(message.ordering_key(), "");
    EXPECT_THAT(message.properties(), IsEmpty());
    EXPECT_THAT(message.tags(), IsEmpty());
    EXPECT_EQ(message.deliver_at(), std::nullopt);
    EXPECT_EQ(message.created_time(), WallTime{});
    EXPECT_EQ(message.attempt(), 1U);
    EXPECT_EQ(message.last_error(), "");
}

TEST(MessageTest, EveryTypeOfPropertyReadsBackAsItWasSet) {
    Message message("s");
    message.Set("bool", true)
        .Set("int32", std::int32_t{-5})
        .Set("int64", std::numeric_limits<std::int64_t>::min())
        .Set("float", 0.1F)
        .Set("double", 1e10)
        .Set("time", At(1'700'000'000'123))
        .Set("literal", "a literal")
        .Set("string", std::string("a string"))
        .Set("view", std::string_view("a\0view", 6));
    EXPECT_TRUE(message.Validate().ok()) << message.Validate();
    EXPECT_EQ(message.Get<bool>("bool"), true);
    EXPECT_EQ(message.Get<std::int32_t>("int32"), -5);
    EXPECT_EQ(message.Get<std::int64_t>("int64"), std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(message.Get<float>("float"), 0.1F);
    EXPECT_EQ(message.Get<double>("double"), 1e10);
    EXPECT_EQ(message.Get<WallTime>("time"), At(1'700'000'000'123));
    EXPECT_EQ(message.Get<std::string>("literal"), "a literal");
    EXPECT_EQ(message.Get<std::string>("string"), "a string");
    EXPECT_EQ(message.Get<std::string>("view"), std::string("a\0view", 6));
}

TEST(MessageTest, TheTextOfAPropertyIsWhatOtherClientsRead) {
    Message message("s");
    message.Set("yes", true).Set("no", false).Set("int", 42).Set("double", 1.0).Set("time", At(99));
    EXPECT_EQ(message.Get<std::string>("yes"), "true");
    EXPECT_EQ(message.Get<std::string>("no"), "false");
    EXPECT_EQ(message.Get<std::string>("int"), "42");
    EXPECT_EQ(message.Get<std::string>("double"), "1.0");
    EXPECT_EQ(message.Get<std::string>("time"), "99");
}

TEST(MessageTest, FindTextIsWhatIsStoredAndNoCopyOfIt) {
    Message message("s");
    message.Set("price", 5.0).Set("note", std::string(100, 'x'));
    EXPECT_EQ(message.FindText("price"), "5.0");
    EXPECT_EQ(message.FindText("absent"), std::nullopt);
    const std::optional<std::string_view> text = message.FindText("note");
    ASSERT_TRUE(text.has_value());
    EXPECT_EQ(*text, std::string(100, 'x'));
    EXPECT_EQ(static_cast<const void*>(text->data()),
              static_cast<const void*>(message.properties()[1].text.data()));
}

TEST(MessageTest, PropertiesComeInTheirOrderWithTheirKinds) {
    Message message("s");
    message.Set("text", "t")
        .Set("flag", true)
        .Set("whole", 1)
        .Set("real", 0.5F)
        .Set("when", At(1))
        .Set("raw", "\xFF\xFE");
    std::vector<std::string> seen;
    for (const Property& property : message.properties()) {
        seen.push_back(std::string(property.name) + ":" +
                       std::to_string(static_cast<int>(property.kind)));
    }
    EXPECT_THAT(seen, ElementsAre("text:0", "flag:1", "whole:2", "real:3", "when:4", "raw:5"));
}

TEST(MessageTest, SettingANameAgainReplacesWhatItHad) {
    Message message("s");
    message.Set("a", 1).Set("b", 2).Set("c", 3).Set("a", "three");
    EXPECT_THAT(NamesOf(message), ElementsAre("b", "c", "a"));
    EXPECT_EQ(message.Get<std::string>("a"), "three");
    EXPECT_EQ(message.Get<int>("b"), 2);
}

TEST(MessageTest, AnAbsentPropertyIsNotFoundAndTheErrorListsWhatIsThere) {
    Message message("order.paid");
    message.SetId("id-1").Set("orderId", "77");
    EXPECT_EQ(message.Find<int>("amount").status().code(), StatusCode::kNotFound);
    EXPECT_EQ(WhyNot<int>(message, "amount"),
              "message \"id-1\" of subject \"order.paid\" has no property \"amount\"; it has "
              "\"orderId\"");
    EXPECT_THAT(WhyNot<int>(Message("s"), "amount"), HasSubstr("it has none"));
    EXPECT_EQ(message.GetOr<int>("amount", 7), 7);
    EXPECT_FALSE(message.Has("amount"));
    EXPECT_TRUE(message.Has("orderId"));
}

TEST(MessageTest, APropertyOfAnotherTypeIsAnErrorWithItsText) {
    Message message("s");
    message.SetId("id-1").Set("price", "5.0").Set("name", "Ann").Set("big", INT64_MAX);
    EXPECT_EQ(message.Find<int>("price").status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(WhyNot<int>(message, "price"),
              "property \"price\" of message \"id-1\" is \"5.0\", which is not a whole number in "
              "[-2147483648, 2147483647]");
    EXPECT_THAT(WhyNot<std::int64_t>(message, "name"), HasSubstr("not a whole number of 64 bits"));
    EXPECT_THAT(WhyNot<std::int32_t>(message, "big"), HasSubstr("not a whole number in"));
    EXPECT_THAT(WhyNot<double>(message, "name"), HasSubstr("not a number that fits a double"));
    EXPECT_THAT(WhyNot<float>(message, "name"), HasSubstr("not a number that fits a float"));
    EXPECT_THAT(WhyNot<WallTime>(message, "name"), HasSubstr("not a time in milliseconds"));
    EXPECT_FALSE(message.Get<bool>("name"));
    EXPECT_EQ(message.GetOr<int>("price", 7), 7);
}

TEST(MessageTest, AViewIntoTheMessageMayBeSetAsItsOwnProperty) {
    Message message("s");
    message.Set("a", std::string(40, 'x')).Set("b", "y");
    message.Set("c", message.properties()[0].text);
    message.Set("a", message.properties()[0].text.substr(0, 30));
    EXPECT_EQ(message.Get<std::string>("c"), std::string(40, 'x'));
    EXPECT_EQ(message.Get<std::string>("a"), std::string(30, 'x'));
    message.AddTag("abcdefghijklmnopqrstuvwxyz");
    message.AddTag(message.tags()[0].substr(3));
    EXPECT_THAT(message.tags(),
                ElementsAre("abcdefghijklmnopqrstuvwxyz", "defghijklmnopqrstuvwxyz"));
}

// The replaced property goes first, and its name with it.
TEST(MessageTest, AViewOfANameInTheMessageMaySetThatProperty) {
    const std::string first(40, 'f');
    const std::string second(40, 's');
    Message message("s");
    message.Set(first, 1).Set(second, 2);
    message.Set(message.properties()[0].name, 3);
    EXPECT_THAT(NamesOf(message), ElementsAre(second, first));
    EXPECT_EQ(message.Get<int>(first), 3);
    EXPECT_EQ(message.Get<int>(second), 2);
}

TEST(MessageTest, AValueIsReadFromItsTextWhateverItWasSetAs) {
    Message message("s");
    message.Set("text", "42").Set("whole", 42).Set("real", 42.0).Set("time", At(42));
    message.Set("shout", "TRUE").Set("bytes", "\xFF");
    EXPECT_EQ(message.Get<std::int32_t>("text"), 42);
    EXPECT_EQ(message.Get<std::int64_t>("time"), 42);
    EXPECT_EQ(message.Get<double>("whole"), 42.0);
    EXPECT_EQ(message.Get<float>("text"), 42.0F);
    EXPECT_EQ(message.Get<WallTime>("text"), At(42));
    EXPECT_TRUE(message.Get<bool>("shout"));
    EXPECT_EQ(message.Get<std::string>("real"), "42.0");
    EXPECT_EQ(message.Get<std::string>("bytes"), "\xFF");
    EXPECT_EQ(message.Find<std::int32_t>("real").status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(message.GetOr<std::int32_t>("text", 7), 42);
}

TEST(MessageTest, TagsAreASetInTheirOrder) {
    Message message("s");
    message.AddTag("b").AddTag("a").AddTag("b");
    EXPECT_TRUE(message.Validate().ok());
    EXPECT_THAT(message.tags(), ElementsAre("b", "a"));
    EXPECT_TRUE(message.HasTag("a"));
    EXPECT_FALSE(message.HasTag("c"));
    EXPECT_FALSE(message.HasTag(""));
}

TEST(MessageTest, ADelayCountsFromTheClockThatWasHandedIn) {
    Message message("s");
    message.SetDelay(milliseconds(500), FixedClock(At(1'000)));
    EXPECT_EQ(message.deliver_at(), At(1'500));
    message.SetDelay(milliseconds(0), FixedClock(At(1'000)));
    EXPECT_EQ(message.deliver_at(), At(1'000));
    message.SetDeliverAt(At(9'000));
    EXPECT_EQ(message.deliver_at(), At(9'000));
    EXPECT_TRUE(message.Validate().ok());
}

TEST(MessageTest, ACopyIsItsOwn) {
    Message message = testing::FullMessage();
    Message copy = message;
    copy.Set("orderId", "78").SetBody("other").AddTag("new").SetId("copy");
    EXPECT_EQ(message.Get<std::string>("orderId"), "77");
    EXPECT_EQ(message.body(), "the body");
    EXPECT_EQ(message.id(), "order-77");
    EXPECT_EQ(copy.Get<double>("amount"), 12.5);
    EXPECT_EQ(copy.deliver_at(), At(5'000));
    message = copy;
    EXPECT_EQ(message.id(), "copy");
}

TEST(MessageTest, WhatWasMovedFromIsEmptyAndMayBeUsedAgain) {
    Message message = testing::FullMessage();
    Message taken(std::move(message));
    EXPECT_EQ(taken.id(), "order-77");
    // NOLINTBEGIN(bugprone-use-after-move): what the test is about.
    EXPECT_EQ(message.subject(), "");
    EXPECT_THAT(message.tags(), IsEmpty());
    EXPECT_EQ(message.deliver_at(), std::nullopt);
    message = std::move(taken);
    EXPECT_THAT(taken.properties(), IsEmpty());
    taken.Set("a", 1);
    EXPECT_EQ(taken.Get<int>("a"), 1);
    // NOLINTEND(bugprone-use-after-move)
    Message& same = message;
    message = std::move(same);
    EXPECT_EQ(message.id(), "order-77");
}

TEST(MessageTest, EncodedBytesCountsWhatTheBatchGrowsBy) {
    const Message full = testing::FullMessage();
    BatchBuilder builder;
    const std::size_t empty = builder.bytes();
    builder.Add(full, "", At(1));
    EXPECT_EQ(builder.bytes() - empty, full.encoded_bytes());
    const Message without_id("s");
    builder.Add(without_id, std::string(26, '0'), At(1));
    EXPECT_EQ(builder.bytes() - empty - full.encoded_bytes(), without_id.encoded_bytes());
}

// 20,000 properties took 2 s, since each one walked all before it. So many would take minutes,
// which is more than a test may.
TEST(MessageTest, SettingANewPropertyCostsTheSameHoweverManyThereAre) {
    constexpr int kCount = 300'000;
    Message message("s");
    for (int i = 0; i < kCount; ++i) {
        message.Set("name" + std::to_string(i), i);
    }
    EXPECT_EQ(message.properties().size(), std::size_t{kCount});
    EXPECT_EQ(message.Get<std::int32_t>("name299999"), 299'999);
}

// What a large message remembers of its names must not forget any: replaced, split by another
// client into parts, copied, or received.
TEST(MessageTest, AReplacedPropertyIsThereOnceAlsoInALargeMessage) {
    Message message("s");
    for (int i = 0; i < 500; ++i) {
        message.Set("name" + std::to_string(i), i);
    }
    message.Set("large#part0", "a").Set("large#part1", "b");
    Message copy = message;
    for (Message* one : {&message, &copy}) {
        one->Set("name7", 70).Set("name7", 71).Set("large", "whole").Set("large", "again");
        EXPECT_EQ(one->properties().size(), 501U);
        EXPECT_EQ(NamesOf(*one).back(), "large");
        EXPECT_EQ(one->Get<std::int32_t>("name7"), 71);
        EXPECT_EQ(one->Get<std::string>("large"), "again");
        EXPECT_FALSE(one->Has("large#part0"));
        one->Set("large#part0", "c").Set("large", "d");
        EXPECT_FALSE(one->Has("large#part0"));
        EXPECT_EQ(one->properties().size(), 501U);
    }
}

}  // namespace
}  // namespace qmq
