// A program of its own, since its declarations are all wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <tuple>
#include <vector>

#include "qmq/consumer.h"

#include "tests/unit/annotations/silent_client.h"

// clang-format off
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}  static constexpr int kDuplicate = __LINE__;
QMQ_CONSUMER("order.lost", "") (const qmq::Message&) {}  static constexpr int kNoGroup = __LINE__;
QMQ_CONSUMER("order.wide", "g", .parallelism = 5'000) (const qmq::Message&) {}  static constexpr int kWide = __LINE__;
QMQ_CONSUMER("order.tagged", "g", .tags = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}) (const qmq::Message&) {}  static constexpr int kTags = __LINE__;
QMQ_CONSUMER("a/b", "g") (const qmq::Message&) {}  static constexpr int kName = __LINE__;
QMQ_CONSUMER("order.early", "g", .prefetch_count = 65'537) (const qmq::Message&) {}  static constexpr int kPrefetch = __LINE__;
QMQ_CONSUMER("order.never", "g", .retry = {.max_attempts = 0}) (const qmq::Message&) {}  static constexpr int kRetry = __LINE__;
QMQ_CONSUMER("order.short", "g", .ack_timeout = std::chrono::milliseconds(999)) (const qmq::Message&) {}  static constexpr int kAck = __LINE__;
QMQ_CONSUMER("order.long", "g", .max_processing_time = std::chrono::hours(200)) (const qmq::Message&) {}  static constexpr int kLong = __LINE__;
QMQ_CONSUMER("order.filtered", "g", .filters = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17"}) (const qmq::Message&) {}  static constexpr int kFilters = __LINE__;
// clang-format on

namespace qmq {
namespace {

using ::testing::HasSubstr;

class MistakesTest : public ::testing::Test {
protected:
    static std::string At(int line) { return "mistakes_test.cc:" + std::to_string(line) + ": "; }

    Client client_ = qmq::testing::MakeSilentClient();
    Status status_ = StartConsumers(client_).status();
    std::string text_{status_.message()};
};

TEST_F(MistakesTest, NothingIsStarted) {
    EXPECT_EQ(status_.code(), StatusCode::kInvalidArgument);
}
TEST_F(MistakesTest, ADuplicateNamesBothPlaces) {
    EXPECT_THAT(text_, HasSubstr(At(kDuplicate)));
    EXPECT_THAT(text_, HasSubstr("mistakes_test.cc:" + std::to_string(kDuplicate - 1)));
}
TEST_F(MistakesTest, AnEmptyGroupIsNamed) {
    EXPECT_THAT(text_, HasSubstr(At(kNoGroup)));
}
TEST_F(MistakesTest, AnOptionOutOfRangeIsNamedWithItsValue) {
    EXPECT_THAT(text_, HasSubstr(At(kWide)));
    EXPECT_THAT(text_, HasSubstr("5000"));
}
TEST_F(MistakesTest, TooManyTagsAreNamed) {
    EXPECT_THAT(text_, HasSubstr(At(kTags) + "consumer of \"order.tagged\": tags has 11 entries"));
}
TEST_F(MistakesTest, ABadSubjectIsNamed) {
    EXPECT_THAT(text_, HasSubstr(At(kName)));
}

TEST_F(MistakesTest, EachOptionOutOfRangeIsNamed) {
    EXPECT_THAT(text_, HasSubstr(At(kPrefetch)));
    EXPECT_THAT(text_, HasSubstr("prefetch_count: 65537"));
    EXPECT_THAT(text_, HasSubstr(At(kRetry)));
    EXPECT_THAT(text_, HasSubstr("retry.max_attempts is 0"));
    EXPECT_THAT(text_, HasSubstr(At(kAck)));
    EXPECT_THAT(text_, HasSubstr("ack_timeout: 999 ms"));
    EXPECT_THAT(text_, HasSubstr(At(kLong)));
    EXPECT_THAT(text_, HasSubstr("max_processing_time: 720000000 ms"));
}
TEST_F(MistakesTest, TooManyFiltersAreNamed) {
    EXPECT_THAT(text_,
                HasSubstr(At(kFilters) + "consumer of \"order.filtered\": filters has 17 entries"));
}
TEST_F(MistakesTest, DeclarationsComeBySubjectGroupFileAndLine) {
    const std::vector<DeclaredConsumer> all = DeclaredConsumers();
    EXPECT_EQ(all.size(), 11U);
    EXPECT_TRUE(std::is_sorted(
        all.begin(), all.end(), [](const DeclaredConsumer& a, const DeclaredConsumer& b) {
            return std::tie(a.subject, a.group, a.file, a.line) <
                   std::tie(b.subject, b.group, b.file, b.line);
        }));
}

}  // namespace
}  // namespace qmq
