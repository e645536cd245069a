#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/app/action_text.h"
#include "server/app/group_text.h"
#include "server/app/message_text.h"
#include "server/broker/actions.h"

namespace qmq::app {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr broker::GroupName kGroup{"orders", "billing"};
constexpr broker::ConsumerName kMember{kGroup, "me", ConsumeSource::kBoth};
constexpr broker::ConsumerName kNobody{kGroup, "", ConsumeSource::kBoth};

std::string Text(const broker::Action& action) {
    std::string bytes;
    broker::Encode(action, bytes);
    return DescribeAction(bytes);
}

TEST(GroupTextTest, AGroupThatIsWellIsALineUnderItsHeading) {
    GroupInfo info;
    info.subject = "orders";
    info.group = "billing";
    info.next_sequence = 1'234;
    info.lag_count = 7;
    info.in_flight_count = 3;
    info.waiting_retry_count = 2;
    info.consumer_count = 1;
    info.oldest_unacked_age = std::chrono::milliseconds(250);
    EXPECT_EQ(GroupHeading(),
              "SUBJECT                          GROUP                            NEXT        LAG  "
              "IN FLIGHT  RETRIES     LOST MEMBERS  OLDEST UN-ACKED");
    EXPECT_EQ(GroupLine(info),
              "orders                           billing                          1234          7  "
              "        3        2        0       1  250 ms");
    EXPECT_THAT(GroupNotes(info), IsEmpty());
}

TEST(GroupTextTest, LossesAreOneNumberInTheTableAndTheirCausesBelowIt) {
    GroupInfo info;
    info.subject = "orders";
    info.group = "billing";
    info.lost_to_retention_count = 1'000;
    info.lost_to_full_disk_count = 200;
    info.lost_to_damage_count = 30;
    info.lost_to_burial_count = 4;
    EXPECT_THAT(GroupLine(info), ::testing::HasSubstr("    1234       0  -"));
    EXPECT_THAT(GroupNotes(info),
                ElementsAre("orders/billing: lost 1000 to retention, 200 to a full disk, 30 to "
                            "damage, 4 as dead letters that fit nowhere"));
}

TEST(GroupTextTest, AGroupThatWaitsSaysForWhatAndWhatNobodyTakes) {
    GroupInfo info;
    info.subject = "orders";
    info.group = "billing";
    info.waits_for = "a member that wants tag \"b\"";
    info.set_aside_count = 5;
    info.unwanted_count = 6;
    info.suspect_count = 7;
    EXPECT_THAT(GroupNotes(info),
                ElementsAre("orders/billing: waits for a member that wants tag \"b\"",
                            "orders/billing: of its lag 5 set aside for another member, 6 wanted "
                            "by no member that is there, 7 suspected of having ended their "
                            "consumer"));
}

// An id was printed as it came, and of the controls only those of ASCII were escaped.
TEST(MessageTextTest, NothingInAMessageSteersTheTerminal) {
    Message message("s");
    message.SetId("a\x1b[2J\nb")
        .AddTag(
            "\xC2\x9B"
            "2J")
        .SetBody("\xC2\x9F, \xC2\xA0 and \x7F");
    ASSERT_TRUE(message.Validate().ok());
    EXPECT_EQ(ToTextLine(message),
              "a\\x1b[2J\\x0ab attempt 1 #\\xc2\\x9b2J | \\xc2\\x9f, \xC2\xA0 and \\x7f");
    EXPECT_THAT(ToJsonLine(message), HasSubstr(R"("tags":["\u009b2J"])"));
    EXPECT_THAT(ToJsonLine(message), Not(HasSubstr("\x7F")));
}

// A property of any bytes, and a surrogate in a body, made a line that is no JSON.
TEST(MessageTextTest, AJsonLineIsUtf8WhateverTheMessageHolds) {
    Message message("s");
    message.SetId("id").Set("raw", std::string_view("\xff\xfe", 2)).Set("n", std::int64_t{1});
    message.SetBody("\xED\xA0\x80");
    const std::string line = ToJsonLine(message);
    EXPECT_THAT(line, HasSubstr(R"("properties":{"n":"1"},"properties_base64":{"raw":"//4="})"));
    EXPECT_THAT(line, HasSubstr(R"("body_base64":"7aCA")"));
}

TEST(ActionTextTest, TheIdOfAConsumerDoesNotSteerTheTerminal) {
    const broker::ConsumerName name{kGroup, "me\x1b[2J", ConsumeSource::kBoth};
    EXPECT_EQ(Text(broker::ConsumerGone{name, {}}), "consumer gone: me\\x1b[2J of orders/billing");
}

TEST(ActionTextTest, WhatWasLostSaysWhatHandlersHadBegun) {
    EXPECT_EQ(
        Text(broker::Released{kMember, broker::ReleaseCause::kLost, {{1, 5}, {8, 8}}, {{2, 2}}}),
        "to be delivered again, lost by me of orders/billing, pull sequences 1-5 8, of which "
        "handlers had begun 2");
    EXPECT_EQ(Text(broker::Released{kMember, broker::ReleaseCause::kReturned, {{1, 5}}, {}}),
              "handed back by me of orders/billing, pull sequences 1-5");
    EXPECT_EQ(Text(broker::ConsumerGone{kMember, {{3, 4}}}),
              "consumer gone: me of orders/billing, of which handlers had begun 3-4");
}

TEST(ActionTextTest, WhatIsSetAsideOrPassedOverIsSaid) {
    broker::HandedOut out;
    out.consumer = kMember;
    out.first_pull_sequence = 9;
    out.next_sequence = 30;
    out.from_sequence = 20;
    broker::HandOutRun run;
    run.first_sequence = 20;
    run.count = 4;
    run.deaths = 2;
    run.from = broker::TakenFrom::kRedelivery;
    out.runs = {run};
    out.aside = {{24, 6}};
    EXPECT_EQ(Text(out),
              "handed out to me of orders/billing from pull sequence 9: 4 from sequence 20 "
              "(attempt 1, lost by 2 consumers before), set aside for another member: sequences "
              "24-29");
    EXPECT_EQ(Text(broker::Skipped{kGroup, 40, 30, {{31, 1}}, {{5, 2}}}),
              "filtered out for orders/billing below sequence 40, set aside for another member: "
              "sequences 31, set aside before, and wanted by nobody now: sequences 5-6");
}

TEST(ActionTextTest, AMoveSaysWhy) {
    broker::Moved move;
    move.consumer = kMember;
    move.ranges = {{7, 9}};
    EXPECT_EQ(Text(move), "moved, held by me of orders/billing, pull sequences 7-9");
    move.cause = broker::MoveCause::kKeptHeld;
    EXPECT_EQ(Text(move),
              "kept, since their segment goes, held by me of orders/billing, pull sequences 7-9");
    move.consumer = kNobody;
    move.origin = broker::Origin::kRetry;
    move.cause = broker::MoveCause::kKeptRedelivery;
    EXPECT_EQ(Text(move),
              "kept, since their segment goes, to be delivered again to orders/billing, retry "
              "sequences 7-9");
    move.cause = broker::MoveCause::kKeptWaiting;
    move.due_ms = 5'000;
    EXPECT_EQ(Text(move),
              "kept, since their segment goes, to be tried again at 5000 ms of running time by "
              "orders/billing, "
              "retry sequences 7-9");
    move.cause = broker::MoveCause::kVerdict;
    move.due_ms = 0;
    move.origin = broker::Origin::kSubject;
    EXPECT_EQ(Text(move), "moved, after too many attempts of orders/billing, sequences 7-9");
}

}  // namespace
}  // namespace qmq::app
