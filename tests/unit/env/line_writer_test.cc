#include "server/env/line_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <latch>
#include <memory>
#include <string>
#include <vector>

namespace qmq::env {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::ElementsAre;

/// A pipe that nobody reads until `Open`.
class Pipe {
public:
    LineWriter::Sink sink() {
        return [this](std::string_view line) {
            if (lines_.empty()) {
                entered_.count_down();
            }
            open_.wait();
            lines_.emplace_back(line);
        };
    }
    void WaitUntilItBlocks() { entered_.wait(); }
    void Open() { open_.count_down(); }
    /// Once the writer has ended.
    const std::vector<std::string>& lines() const { return lines_; }

private:
    std::latch entered_{1};
    std::latch open_{1};
    std::vector<std::string> lines_;
};

TEST(LineWriterTest, AtTheEndAllThatWaitsIsWrittenInOrder) {
    Pipe pipe;
    pipe.Open();
    {
        LineWriter writer(pipe.sink(), {1'024, hours(1)});
        writer.Write("a");
        writer.Write("b");
        writer.Write("c");
    }
    EXPECT_THAT(pipe.lines(), ElementsAre("a", "b", "c"));
}

TEST(LineWriterTest, ASinkThatBlocksHoldsUpNobodyAndWhatDoesNotFitIsCounted) {
    Pipe pipe;
    {
        LineWriter writer(pipe.sink(), {2, hours(1)});
        writer.Write("a");
        pipe.WaitUntilItBlocks();  // It has "a": two more fit.
        for (const char* line : {"b", "c", "d", "e", "f"}) {
            writer.Write(line);
        }
        pipe.Open();
    }
    EXPECT_THAT(
        pipe.lines(),
        ElementsAre(
            "a", "b", "c", "… and 3 lines that were left out here, since nobody took them"));
}

TEST(LineWriterTest, ASinkThatNeverComesBackHoldsUpTheEndNoLongerThanAsked) {
    // It outlives the writer, as the thread does.
    struct Stuck {
        std::promise<void> entered;
        std::promise<void> open;
        std::promise<void> left;
        int line_count = 0;
    };
    const auto stuck = std::make_shared<Stuck>();
    std::weak_ptr<int> alive;
    {
        auto token = std::make_shared<int>();
        alive = token;
        LineWriter writer(
            [stuck, token](std::string_view) {
                ++stuck->line_count;
                stuck->entered.set_value();
                stuck->open.get_future().wait();
                stuck->left.set_value();
            },
            {1'024, milliseconds(0)});
        token.reset();
        writer.Write("a");
        stuck->entered.get_future().wait();
        writer.Write("b");
    }
    EXPECT_FALSE(alive.expired()) << "its sink is still in use";
    stuck->open.set_value();
    stuck->left.get_future().wait();
    EXPECT_EQ(stuck->line_count, 1) << "after the end nothing more is written";
}

}  // namespace
}  // namespace qmq::env
