#include "sdk/client/src/send/spare_parts.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace qmq::internal {
namespace {

/// Zero for one that has none of its own.
std::size_t CapacityOf(const std::string& memory) {
    return memory.capacity() == std::string().capacity() ? 0 : memory.capacity();
}

// Of each batch that was kept the memory was kept as well, beyond every bound: 400 MiB of a
// producer whose broker had been away.
TEST(SparePartsTest, KeepsNoMoreMemoryThanItsBound) {
    constexpr std::size_t kCount = 1'000;
    SpareParts spare(1U << 30);
    const auto keep = [&spare] {
        std::vector<BatchPtr> used;
        for (std::size_t i = 0; i < kCount; ++i) {
            used.push_back(std::make_shared<PendingBatch>(TimePoint(), BackoffOptions{}));
            used.back()->place = PendingBatch::Place::kDone;
            used.back()->encoded.assign(64U << 10, 'x');
        }
        SpareParts::Clean(&used);
        spare.Keep(&used);
    };
    keep();
    std::size_t batches = spare.TakeBatch() != nullptr ? 1 : 0;
    std::size_t bytes = CapacityOf(spare.TakeMemory());  // The rest is at hand now.
    keep();
    while (const BatchPtr batch = spare.TakeBatch()) {
        ++batches;
        bytes += batch->encoded.capacity();
    }
    while (const std::size_t capacity = CapacityOf(spare.TakeMemory())) {
        bytes += capacity;
    }
    EXPECT_EQ(batches, 2 * kCount);
    EXPECT_LE(bytes, 5U << 20);
    EXPECT_GE(bytes, 3U << 20);
}

// Callbacks that ran long after the last send filled it again, and what lay between kept its pages.
TEST(SparePartsTest, AfterATrimNothingIsKeptUntilABatchIsTaken) {
    SpareParts spare(1U << 30);
    const auto keep = [&spare] {
        std::vector<BatchPtr> used{std::make_shared<PendingBatch>(TimePoint(), BackoffOptions{})};
        used.back()->place = PendingBatch::Place::kDone;
        used.back()->encoded.assign(1'000, 'x');
        SpareParts::Clean(&used);
        spare.Keep(&used);
        std::vector<SpareParts::StatePtr> states{std::make_shared<ProducerAccess::State>()};
        spare.Keep(&states);
    };
    keep();
    spare.Trim();
    keep();
    EXPECT_EQ(spare.TakeState(), nullptr);
    EXPECT_EQ(CapacityOf(spare.TakeMemory()), 0U);
    EXPECT_EQ(spare.TakeBatch(), nullptr);
    keep();
    EXPECT_NE(spare.TakeBatch(), nullptr);
    EXPECT_NE(spare.TakeState(), nullptr);
    EXPECT_GE(CapacityOf(spare.TakeMemory()), 1'000U);
}

}  // namespace
}  // namespace qmq::internal
