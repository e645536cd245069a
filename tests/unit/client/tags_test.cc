// What the ways to name tags ask for.

#include "qmq/tags.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace qmq {
namespace {

// Known when the program is compiled.
constexpr LiteralTags kNone;
constexpr LiteralTags kListed = {"domestic", "vip"};
constexpr LiteralTags kAny = AnyOf("domestic", "vip");
constexpr LiteralTags kAll = AllOf("domestic", "vip");
constexpr LiteralTags kEleven = AllOf("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11");
static_assert(kNone.mode() == TagMode::kNone && kNone.count() == 0);
static_assert(kListed.mode() == TagMode::kAny && kListed.count() == 2);
static_assert(kAny.mode() == TagMode::kAny && kAny.count() == 2);
static_assert(kAll.mode() == TagMode::kAll && kAll.count() == 2);

const TagFilter kAnyOfTwo{TagMode::kAny, {"domestic", "vip"}};
const TagFilter kAllOfTwo{TagMode::kAll, {"domestic", "vip"}};

TEST(TagsTest, NoneAskForAllMessages) {
    EXPECT_EQ(Tags().filter(), TagFilter());
    EXPECT_EQ(Tags(kNone).filter(), TagFilter());
    EXPECT_TRUE(Validate(Tags().filter()).ok());
}

TEST(TagsTest, EveryWayToNameThemMakesTheSame) {
    const std::string vip = "vip";
    const std::vector<std::string> both = {"domestic", vip};
    EXPECT_EQ((Tags{"domestic", vip}).filter(), kAnyOfTwo);
    EXPECT_EQ(Tags(kListed).filter(), kAnyOfTwo);
    EXPECT_EQ(Tags(kAny).filter(), kAnyOfTwo);
    EXPECT_EQ(AnyOf("domestic", vip).filter(), kAnyOfTwo);
    EXPECT_EQ(AnyOf(both).filter(), kAnyOfTwo);
    EXPECT_EQ(Tags(kAll).filter(), kAllOfTwo);
    EXPECT_EQ(AllOf("domestic", vip).filter(), kAllOfTwo);
    EXPECT_EQ(AllOf(both).filter(), kAllOfTwo);
    EXPECT_EQ(Tags(kAllOfTwo), Tags(kAll));
    EXPECT_FALSE(Tags(kAny) == Tags(kAll));
}

TEST(TagsTest, LiteralsStandWhereTagsAreTaken) {
    Tags tags = AllOf("domestic", "vip");
    EXPECT_EQ(tags.filter(), kAllOfTwo);
    tags = {"domestic", "vip"};
    EXPECT_EQ(tags.filter(), kAnyOfTwo);
}

TEST(TagsTest, OneToTenAreGoodAndMoreAreTold) {
    EXPECT_TRUE(Validate(Tags(AnyOf("1")).filter()).ok());
    EXPECT_TRUE(
        Validate(Tags(AnyOf("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")).filter()).ok());
    EXPECT_EQ(kEleven.count(), 11U);
    EXPECT_STREQ(kEleven.name(9), "10");
    EXPECT_EQ(Tags(kEleven).filter().tags.size(), 11U);
    EXPECT_EQ(Validate(Tags(kEleven).filter()).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(Validate(AnyOf(std::vector<std::string>()).filter()).code(),
              StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qmq
