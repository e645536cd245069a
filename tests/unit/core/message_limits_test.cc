#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using std::chrono::milliseconds;
using testing::At;
using ::testing::HasSubstr;

std::string Repeat(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) {
        all.append(text);
    }
    return all;
}

void ExpectRefused(const Message& message, std::string_view why) {
    const Status status = message.Validate();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << why;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(why)));
}

TEST(MessageLimitsTest, AMessageNeedsASubjectThatMayBeSentTo) {
    ExpectRefused(Message(), "has no subject");
    ExpectRefused(Message(""), "the subject is empty");
    ExpectRefused(Message("a/b"), "subject \"a/b\"");
    ExpectRefused(Message("%RETRY%a%b"), "subject \"%RETRY%a%b\"");
}

TEST(MessageLimitsTest, AnIdHasOneTo100Characters) {
    EXPECT_TRUE(Message("s").SetId("a").Validate().ok());
    EXPECT_TRUE(Message("s").SetId(Repeat("😀", 100)).Validate().ok());
    ExpectRefused(Message("s").SetId(""), "message id \"\" has 0 characters; 1 to 100");
    ExpectRefused(Message("s").SetId(Repeat("a", 101)), "has 101 characters; 1 to 100");
    ExpectRefused(Message("s").SetId("a\xFF"), "message id \"a\\xff\" is not UTF-8");
}

TEST(MessageLimitsTest, APropertyNameHasOneTo32767BytesOfUtf8) {
    EXPECT_TRUE(Message("s").Set(Repeat("n", 32'767), 1).Validate().ok());
    ExpectRefused(Message("s").Set("", 1), "property name is empty");
    ExpectRefused(Message("s").Set(Repeat("n", 32'768), 1), "has 32768 bytes; at most 32767");
    ExpectRefused(Message("s").Set("a\xFF", 1), "property name \"a\\xff\" is not UTF-8");
}

TEST(MessageLimitsTest, EveryReservedNameIsRefused) {
    for (const std::string_view name : {"qmq_createTime",
                                        "qmq_expireTime",
                                        "qmq_consumerGroupName",
                                        "qmq_scheduleReceiveTime",
                                        "qmq_times",
                                        "qmq_maxRetryNum",
                                        "qmq_appCode",
                                        "qmq_pullOffset",
                                        "qmq_corruptData",
                                        "qmq_env",
                                        "qmq_subEnv",
                                        "qmq_lastError"}) {
        Message message("s");
        message.Set(name, "x");
        ExpectRefused(message, "is reserved for the system");
        EXPECT_FALSE(message.Has(name)) << name;
    }
}

TEST(MessageLimitsTest, OtherNamesWithThePrefixAreTheApplications) {
    EXPECT_TRUE(Message("s").Set("qmq_mine", 1).Set("qtrace_id", "x").Validate().ok());
    EXPECT_TRUE(Message("s").Set("qmq_sequence", 1).Validate().ok());
}

TEST(MessageLimitsTest, AValueOfMegabytesStaysWhole) {
    const std::string big = Repeat("0123456789abcdef", 1U << 18U);
    Message message("s");
    message.Set("big", big);
    ASSERT_TRUE(message.Validate().ok()) << message.Validate();
    EXPECT_EQ(message.properties().size(), 1U);
    BatchLimits limits;
    limits.max_batch_bytes = 8U << 20U;
    const auto received = DecodeMessages("s", Slice::Own(testing::MakeBatch({message})), 1, limits);
    ASSERT_TRUE(received.ok()) << received.status();
    EXPECT_EQ(received->at(0).Get<std::string>("big"), big);
}

TEST(MessageLimitsTest, AMessageHasAtMost64MiBInAll) {
    const std::string half(Message::kMaxMessageBytes / 2, 'x');
    Message message("s");
    message.SetBody(half);
    EXPECT_TRUE(message.Validate().ok());
    message.Set("other half", half);
    ExpectRefused(message, "as it travels; at most 67108864");
    const auto with_body = [](std::size_t bytes) {
        return Message("s").SetBody(std::string(bytes, 'x'));
    };
    const std::size_t most = Message::kMaxMessageBytes;
    const std::size_t overhead = with_body(most).encoded_bytes() - most;
    EXPECT_EQ(with_body(most - overhead).encoded_bytes(), most);
    EXPECT_TRUE(with_body(most - overhead).Validate().ok());
    ExpectRefused(with_body(most - overhead + 1), "has 67108865 bytes as it travels");
}

TEST(MessageLimitsTest, APropertyOrBodyOver64MiBIsNotEvenTaken) {
    const std::string huge(Message::kMaxMessageBytes + 1, 'x');
    Message message("s");
    message.Set("p", huge);
    ExpectRefused(message, "property \"p\" has a value of 67108865 bytes");
    EXPECT_FALSE(message.Has("p"));
    Message other("s");
    other.SetBody(huge);
    ExpectRefused(other, "the body has 67108865 bytes");
    EXPECT_EQ(other.body(), "");
}

TEST(MessageLimitsTest, TenTagsAndNoMore) {
    Message message("s");
    for (int i = 0; i < 10; ++i) {
        message.AddTag("tag" + std::to_string(i));
    }
    message.AddTag("tag3");
    EXPECT_TRUE(message.Validate().ok()) << "one that is there already is not an 11th";
    message.AddTag("tag10");
    ExpectRefused(message, "tag \"tag10\" is one too many: a message has at most 10");
    EXPECT_EQ(message.tags().size(), 10U);
}

TEST(MessageLimitsTest, ATagHasOneTo32767BytesOfUtf8) {
    EXPECT_TRUE(Message("s").AddTag(Repeat("t", 32'767)).Validate().ok());
    ExpectRefused(Message("s").AddTag(""), "tag is empty");
    ExpectRefused(Message("s").AddTag(Repeat("t", 32'768)), "has 32768 bytes; at most 32767");
    ExpectRefused(Message("s").AddTag("\xC3"), "tag \"\\xc3\" is not UTF-8");
}

TEST(MessageLimitsTest, AnOrderingKeyHasOneTo32767BytesOfUtf8) {
    EXPECT_TRUE(Message("s").SetOrderingKey(Repeat("k", 32'767)).Validate().ok());
    ExpectRefused(Message("s").SetOrderingKey(""), "ordering key is empty");
    ExpectRefused(Message("s").SetOrderingKey(Repeat("k", 32'768)), "has 32768 bytes");
    ExpectRefused(Message("s").SetOrderingKey("\xFF"), "is not UTF-8");
}

TEST(MessageLimitsTest, ADelayIsNeitherNegativeNorBeyondTheCalendar) {
    ExpectRefused(Message("s").SetDelay(milliseconds(-1)), "a delay of -1 ms is negative");
    ExpectRefused(Message("s").SetDelay(milliseconds::max()), "beyond the end of the calendar");
    EXPECT_EQ(Message("s").SetDelay(milliseconds(-1)).deliver_at(), std::nullopt);
}

TEST(MessageLimitsTest, TheFirstMistakeIsTheOneThatIsReported) {
    Message message("s");
    message.Set("", 1).AddTag("").SetId("");
    ExpectRefused(message, "property name is empty");
    Message copy = message;
    ExpectRefused(copy, "property name is empty");
}

// `Set("host", getenv("ABSENT"))` ended in signal 11.
TEST(MessageLimitsTest, ANullPointerIsAMistakeOfTheMessage) {
    const char* const null = nullptr;
    ExpectRefused(Message("s").Set("host", null),
                  "the value of property \"host\" is a null pointer");
    ExpectRefused(Message(null), "the subject is a null pointer");
    ExpectRefused(Message("s").SetId(null), "the message id is a null pointer");
    ExpectRefused(Message("s").AddTag(null), "a tag is a null pointer");
    ExpectRefused(Message("s").SetBody(null), "the body is a null pointer");
    ExpectRefused(Message("s").SetOrderingKey(null), "the ordering key is a null pointer");
    EXPECT_FALSE(Message("s").Set("host", null).Has("host"));
}

// A name was read before anybody looked at it.
TEST(MessageLimitsTest, ANullNameIsAnEmptyOne) {
    const char* const null = nullptr;
    ExpectRefused(Message("s").Set(null, 1), "property name is empty");
    ExpectRefused(Message("s").Set(null, "text"), "property name is empty");
    const Message message = Message("s").Set("host", "h").AddTag("vip");
    EXPECT_FALSE(message.Has(null));
    EXPECT_FALSE(message.HasTag(null));
    EXPECT_FALSE(message.FindText(null).has_value());
    EXPECT_EQ(message.GetOr<std::int64_t>(null, 7), 7);
    EXPECT_EQ(message.Find<std::string>(null).status().code(), StatusCode::kNotFound);
    EXPECT_THROW((void)message.Get<bool>(null), PropertyError);
}

}  // namespace
}  // namespace qmq
