#include "plugins/inproc/server/event_fan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/manual_executor.h"

namespace qmq::inproc {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EventFanTest : public ::testing::Test {
protected:
    static EventFan::Warn Into(std::vector<std::string>* lines) {
        return [lines](std::string_view line) { lines->emplace_back(line); };
    }

    testing::ManualTime time;
    std::shared_ptr<EventFan> fan = std::make_shared<EventFan>();
    std::vector<std::string> one;
    std::vector<std::string> other;
};

TEST_F(EventFanTest, EveryClientOfABrokerHearsOnAThreadOfItsOwn) {
    const auto first = fan->Listen(time.executor, Into(&one));
    const auto second = fan->Listen(time.io, Into(&other));
    fan->Say("lost");
    EXPECT_THAT(one, IsEmpty());  // Not inside of the call, which is the engine's.
    time.Settle();
    EXPECT_THAT(one, ElementsAre("lost"));
    EXPECT_THAT(other, ElementsAre("lost"));
}

TEST_F(EventFanTest, AClientThatHasGoneHearsNothingMore) {
    auto first = fan->Listen(time.executor, Into(&one));
    const auto second = fan->Listen(time.executor, Into(&other));
    fan->Say("lost");
    first.reset();  // What is on its way to it is dropped.
    fan->Say("and again");
    time.Settle();
    EXPECT_THAT(one, IsEmpty());
    EXPECT_THAT(other, ElementsAre("lost", "and again"));
}

TEST_F(EventFanTest, AClientWithoutALogIsPassedOver) {
    const auto silent = fan->Listen(time.executor, nullptr);
    fan->Say("lost");
    time.Settle();
    EXPECT_EQ(time.executor.task_count(), 0U);
}

}  // namespace
}  // namespace qmq::inproc
