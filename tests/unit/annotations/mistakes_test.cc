// A program of its own, since its declarations are all wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "qmq/consumer.h"

#include "tests/unit/annotations/silent_client.h"

// clang-format off
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}
QMQ_CONSUMER("order.paid", "ticketing") (const qmq::Message&) {}  static constexpr int kDuplicate = __LINE__;
QMQ_CONSUMER("order.lost", "") (const qmq::Message&) {}  static constexpr int kNoGroup = __LINE__;
QMQ_CONSUMER("order.wide", "g", .parallelism = 5'000) (const qmq::Message&) {}  static constexpr int kWide = __LINE__;
QMQ_CONSUMER("order.tagged", "g", .tags = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}) (const qmq::Message&) {}  static constexpr int kTags = __LINE__;
QMQ_CONSUMER("a/b", "g") (const qmq::Message&) {}  static constexpr int kName = __LINE__;
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

}  // namespace
}  // namespace qmq
