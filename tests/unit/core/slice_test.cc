#include "qmq/slice.h"

#include <gtest/gtest.h>

namespace qmq {
namespace {

TEST(SliceTest, APartKeepsTheMemoryOfTheWholeAlive) {
    Slice part;
    {
        const Slice whole = Slice::Own("a text that is too long for a small string: 0123456789");
        part = whole.Sub(2, 4);
    }
    EXPECT_EQ(part.bytes(), "text");
    EXPECT_EQ(part.size(), 4U);
}

TEST(SliceTest, CopiesShareTheirBytes) {
    const Slice one = Slice::Own("some bytes");
    const Slice two = one;  // NOLINT(performance-unnecessary-copy-initialization): the claim.
    EXPECT_EQ(static_cast<const void*>(one.data()), static_cast<const void*>(two.data()));
    EXPECT_EQ(one.owner(), two.owner());
}

TEST(SliceTest, ABorrowedOneOwnsNothing) {
    const Slice slice = Slice::Borrow("literal");
    EXPECT_EQ(slice.bytes(), "literal");
    EXPECT_EQ(slice.owner(), nullptr);
}

TEST(SliceTest, IsEmptyByDefault) {
    EXPECT_TRUE(Slice().empty());
    EXPECT_EQ(Slice().bytes(), "");
}

}  // namespace
}  // namespace qmq
