// What the hot path promises: no allocation for each message.

#include <gtest/gtest.h>

#include "qmq/id.h"

#include "tests/unit/core/allocation_count.h"
#include "tests/unit/core/batch_samples.h"

namespace qmq {
namespace {

using testing::At;
using testing::FullMessage;

template <typename F>
std::size_t AllocationsOf(F&& f) {
    const std::size_t before = testing::AllocationCount();
    f();
    return testing::AllocationCount() - before;
}

TEST(AllocationTest, AddAllocatesOnlyToGrowTheFirstBatch) {
    const Message message = FullMessage();
    BatchBuilder builder;
    const auto fill = [&] {
        for (int i = 0; i < 400; ++i) {
            builder.Add(message, "generated", At(1));
        }
    };
    EXPECT_LE(AllocationsOf(fill), 12U);
    const std::string first = builder.Finish();
    EXPECT_EQ(AllocationsOf(fill), 1U);
}

TEST(AllocationTest, ParseAllocatesNothing) {
    const std::string batch = testing::MakeBatch(std::vector<Message>(400, FullMessage()));
    EXPECT_EQ(AllocationsOf([&] { EXPECT_TRUE(BatchView::Parse(batch, {}).ok()); }), 0U);
}

TEST(AllocationTest, AReceivedMessageItsCopiesAndItsMovesAllocateNothing) {
    const Slice batch = Slice::Own(testing::MakeBatch(std::vector<Message>(400, FullMessage())));
    MessageReader reader = MessageReader::Make("order.paid", batch, 1, {}).value();
    std::size_t body_bytes = 0;
    EXPECT_EQ(AllocationsOf([&] {
                  while (std::optional<Message> message = reader.Next()) {
                      const Message copy = *message;
                      const Message moved = std::move(*message);
                      body_bytes += copy.body().size() + (moved.HasTag("paid") ? 1 : 0);
                  }
              }),
              0U);
    EXPECT_EQ(body_bytes, 400 * (std::string_view("the body").size() + 1));
}

TEST(AllocationTest, AnIdWrittenInPlaceAllocatesNothing) {
    Random random(1);
    MessageIdGenerator generator(At(1), random);
    char id[MessageIdGenerator::kLength];
    EXPECT_EQ(AllocationsOf([&] { generator.Next(id); }), 0U);
}

// It built the text of an error that nobody sees: 1 us for a property that is not there.
TEST(AllocationTest, GetOrOfAnAbsentPropertyAllocatesNothing) {
    const Message message = FullMessage();
    std::int64_t got = 0;
    EXPECT_EQ(AllocationsOf([&] { got = message.GetOr<std::int64_t>("absent", 7); }), 0U);
    EXPECT_EQ(got, 7);
}

TEST(AllocationTest, GetOrOfAPropertyOfAnotherTypeAllocatesNothing) {
    const Message message = FullMessage();
    std::int64_t got = 0;
    EXPECT_EQ(AllocationsOf([&] { got = message.GetOr<std::int64_t>("amount", 7); }), 0U);
    EXPECT_EQ(got, 7);
}

}  // namespace
}  // namespace qmq
