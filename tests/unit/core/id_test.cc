#include "qmq/id.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "qmq/subject.h"

#include "sdk/core/src/id_text.h"

namespace qmq {
namespace {

constexpr std::string_view kCrockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

WallTime At(std::int64_t milliseconds) {
    return WallTime(std::chrono::milliseconds(milliseconds));
}

TEST(MessageIdGeneratorTest, AnIdIs26CharactersOfCrockfordsAlphabet) {
    Random random(1);
    MessageIdGenerator generator(At(1'700'000'000'000), random);
    const std::string id = generator.Next();
    EXPECT_EQ(id.size(), MessageIdGenerator::kLength);
    EXPECT_EQ(id.find_first_not_of(kCrockford), std::string::npos) << id;
}

TEST(MessageIdGeneratorTest, BeginsWithItsBirthAndEndsWithACounter) {
    Random random(1);
    MessageIdGenerator generator(At(33), random);
    const std::string first = generator.Next();
    EXPECT_EQ(first.substr(0, 10), "0000000011");
    EXPECT_EQ(first.substr(18), "00000000");
    EXPECT_EQ(generator.Next().substr(18), "00000001");
}

TEST(MessageIdGeneratorTest, IdsOfOneGeneratorSortAsTheyWereMade) {
    Random random(2);
    MessageIdGenerator generator(At(1'700'000'000'000), random);
    std::string before = generator.Next();
    for (int i = 0; i < 40'000; ++i) {
        std::string next = generator.Next();
        ASSERT_LT(before, next);
        before = std::move(next);
    }
}

TEST(MessageIdGeneratorTest, TwoBornInTheSameMillisecondDiffer) {
    Random random(3);
    MessageIdGenerator one(At(5), random);
    MessageIdGenerator two(At(5), random);
    EXPECT_NE(one.Next(), two.Next());
}

TEST(MessageIdGeneratorTest, EightThreadsNeverMakeTheSameId) {
    constexpr std::size_t kThreads = 8;
    constexpr std::size_t kEach = 20'000;
    Random random(4);
    MessageIdGenerator generator(At(1'700'000'000'000), random);
    std::vector<std::vector<std::string>> made(kThreads);
    std::vector<std::thread> threads;
    for (std::vector<std::string>& mine : made) {
        threads.emplace_back([&generator, &mine] {
            for (std::size_t i = 0; i < kEach; ++i) {
                mine.push_back(generator.Next());
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::set<std::string> all;
    for (const std::vector<std::string>& mine : made) {
        EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
        all.insert(mine.begin(), mine.end());
    }
    EXPECT_EQ(all.size(), kThreads * kEach);
}

// 2^40 ids are some days of a busy process.
TEST(MessageIdGeneratorTest, GoesOnSortedAndUniqueWhenItsEightCounterCharactersAreUsedUp) {
    const std::string prefix = "00000000050123ZZZZ";
    const auto id_at = [&prefix](std::uint64_t count) {
        std::string id(MessageIdGenerator::kLength, '\0');
        internal::WriteId(prefix.data(), count, id.data());
        return id;
    };
    const std::uint64_t used_up = std::uint64_t{1} << 40U;
    EXPECT_EQ(id_at(0), "00000000050123ZZZZ00000000");
    EXPECT_EQ(id_at(used_up - 1), "00000000050123ZZZZZZZZZZZZ");
    EXPECT_EQ(id_at(used_up), "00000000050124000000000000");
    EXPECT_EQ(id_at(2 * used_up + 1), "00000000050124000100000001");
}

TEST(MakeClientIdTest, IsAValidConsumerIdAndNewEachTime) {
    const std::string one = MakeClientId();
    EXPECT_NE(one, MakeClientId());
    EXPECT_TRUE(ValidateConsumerId(one).ok()) << one;
    EXPECT_TRUE(ValidateSubject(one).ok()) << one;
}

}  // namespace
}  // namespace qmq
