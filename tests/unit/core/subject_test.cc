#include "qmq/subject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace qmq {
namespace {

using ::testing::HasSubstr;

std::string Repeat(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) {
        all.append(text);
    }
    return all;
}

struct Refused {
    std::string name;
    std::string_view why;
};

std::vector<Refused> RefusedNames() {
    return {
        {".", "means a folder"},
        {"..", "means a folder"},
        {"a/b", "has at byte 1 one of / % $"},
        {"a%b", "has at byte 1 one of / % $"},
        {"$a", "has at byte 0 one of / % $"},
        {"a b", "has at byte 1 white space"},
        {" a", "has at byte 0 white space"},
        {"a\u3000b", "has at byte 1 white space"},
        {"a\u2003b", "has at byte 1 white space"},
        {"a\tb", "has at byte 1 a control character"},
        {"a\nb", "has at byte 1 a control character"},
        {"a\x7F", "has at byte 1 a control character"},
        {"a\u0085", "has at byte 1 a control character"},
        {std::string("a\0b", 3), "has at byte 1 a control character"},
        {"ab\xC3", "is not UTF-8 at byte 2"},
        {"\xC0\xAF", "is not UTF-8 at byte 0"},
        {"\xED\xA0\x80", "is not UTF-8 at byte 0"},
        {"\xF4\x90\x80\x80", "is not UTF-8 at byte 0"},
        {"\xFF", "is not UTF-8 at byte 0"},
        {Repeat("a", 101), "has 101 characters; at most 100"},
        {Repeat("ü", 101), "has 101 characters; at most 100"},
    };
}

void ExpectRefused(const Status& status, std::string_view why) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(why)));
}

TEST(SubjectTest, TakesOneTo100CharactersOfAnyScript) {
    for (const std::string& name : {std::string("a"),
                                    std::string("order.paid"),
                                    std::string("order-paid_2:x#y@z"),
                                    std::string("订单.支付"),
                                    std::string("a..b"),
                                    Repeat("a", 100),
                                    Repeat("😀", 100)}) {
        EXPECT_TRUE(ValidateSubject(name).ok()) << name << ": " << ValidateSubject(name);
        EXPECT_TRUE(ValidateGroup(name).ok()) << name;
        EXPECT_TRUE(ValidateStoredSubject(name).ok()) << name;
    }
}

TEST(SubjectTest, RefusesEachForbiddenNameAndSaysWhy) {
    for (const Refused& refused : RefusedNames()) {
        ExpectRefused(ValidateSubject(refused.name), refused.why);
        ExpectRefused(ValidateGroup(refused.name), refused.why);
        ExpectRefused(ValidateStoredSubject(refused.name), refused.why);
    }
}

TEST(SubjectTest, AnEmptyNameSaysWhatToDo) {
    ExpectRefused(ValidateSubject(""), "the subject is empty");
    ExpectRefused(ValidateGroup(""), "broadcast");
}

TEST(SubjectTest, AnErrorNeverRepeatsAHugeNameWhole) {
    EXPECT_LT(ValidateSubject(Repeat("a", 100'000)).message().size(), 200U);
}

TEST(SubjectTest, BuildsExactlyTheRetryAndDeadLetterNames) {
    EXPECT_EQ(RetrySubject("order.paid", "billing"), "%RETRY%order.paid%billing");
    EXPECT_EQ(DeadLetterSubject("order.paid", "billing"), "%DEAD_RETRY%order.paid%billing");
}

TEST(SubjectTest, OfARetryOrDeadLetterSubjectTheRealSubjectIsTakenFirst) {
    EXPECT_EQ(RetrySubject("%RETRY%order.paid%billing", "billing"), "%RETRY%order.paid%billing");
    EXPECT_EQ(DeadLetterSubject("%RETRY%order.paid%billing", "billing"),
              "%DEAD_RETRY%order.paid%billing");
    EXPECT_EQ(RetrySubject("%DEAD_RETRY%order.paid%billing", "audit"), "%RETRY%order.paid%audit");
}

TEST(SubjectTest, ParsesWhatItBuilds) {
    const std::string retry = RetrySubject("s", "g");
    const SubjectParts parts = ParseSubject(retry);
    EXPECT_EQ(parts.kind, SubjectKind::kRetry);
    EXPECT_EQ(parts.real_subject, "s");
    EXPECT_EQ(parts.group, "g");
    const std::string dead = DeadLetterSubject("s", "g");
    EXPECT_EQ(ParseSubject(dead).kind, SubjectKind::kDeadLetter);
    EXPECT_EQ(ParseSubject(dead).real_subject, "s");
    EXPECT_EQ(ParseSubject(dead).group, "g");
}

// As the reference reads them: split, trimmed, empty parts dropped.
TEST(SubjectTest, ParsesUntidyNamesAsOtherClientsDo) {
    EXPECT_EQ(ParseSubject("%RETRY%a%%b").real_subject, "a");
    EXPECT_EQ(ParseSubject("%RETRY%a%%b").group, "b");
    EXPECT_EQ(ParseSubject("%RETRY% a % b %").real_subject, "a");
    EXPECT_EQ(ParseSubject("%RETRY% a % b %").group, "b");
}

TEST(SubjectTest, WithoutExactlyThreePartsANameIsItsOwnRealSubject) {
    for (const std::string_view name : {"order.paid",
                                        "%RETRY%",
                                        "%RETRY%a",
                                        "%RETRY%a%",
                                        "%RETRY%a%b%c",
                                        "%DEAD_RETRY",
                                        "x%RETRY%a%b",
                                        ""}) {
        const SubjectParts parts = ParseSubject(name);
        EXPECT_EQ(parts.kind, SubjectKind::kReal) << name;
        EXPECT_EQ(parts.real_subject, name);
        EXPECT_EQ(parts.group, "") << name;
    }
}

TEST(SubjectTest, ABrokerStoresWellFormedRetryAndDeadLetterSubjectsOnly) {
    EXPECT_TRUE(ValidateStoredSubject("%RETRY%order.paid%billing").ok());
    EXPECT_TRUE(ValidateStoredSubject("%DEAD_RETRY%order.paid%billing").ok());
    EXPECT_TRUE(ValidateStoredSubject(RetrySubject(Repeat("s", 100), Repeat("g", 100))).ok());
    ExpectRefused(ValidateStoredSubject("%RETRY%a"), "one of / % $");
    ExpectRefused(ValidateStoredSubject("%RETRY%a%%b"), "must be written \"%RETRY%a%b\"");
    ExpectRefused(ValidateStoredSubject("%RETRYX%a%b"), "must be written \"%RETRY%a%b\"");
    ExpectRefused(ValidateStoredSubject("%RETRY%a b%g"), "white space");
    ExpectRefused(ValidateStoredSubject("%RETRY%s%a/b"), "consumer group \"a/b\"");
    ExpectRefused(ValidateStoredSubject(RetrySubject(Repeat("s", 101), "g")), "101 characters");
}

TEST(SubjectTest, AProducerMayNotSendToARetrySubject) {
    ExpectRefused(ValidateSubject("%RETRY%order.paid%billing"), "which the system keeps");
}

TEST(ConsumerIdTest, TakesUpTo250BytesWithoutSlashOrLineBreak) {
    EXPECT_TRUE(ValidateConsumerId("host@@0123 with blanks").ok());
    EXPECT_TRUE(ValidateConsumerId(Repeat("a", 250)).ok());
    ExpectRefused(ValidateConsumerId(Repeat("a", 251)), "251 bytes; at most 250");
    ExpectRefused(ValidateConsumerId(""), "is empty");
    ExpectRefused(ValidateConsumerId("a/b"), "at byte 1");
    ExpectRefused(ValidateConsumerId("ab\r"), "at byte 2");
    ExpectRefused(ValidateConsumerId("\nab"), "at byte 0");
}

}  // namespace
}  // namespace qmq
