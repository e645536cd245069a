#include "qmq/function.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

namespace qmq {
namespace {

// A callable of `kBytes` that counts how often it was put on the heap, and how many of it live.
template <std::size_t kBytes>
struct Counted {
    static inline int heap_count = 0;
    static inline int alive_count = 0;

    Counted() { ++alive_count; }
    Counted(Counted&&) noexcept { ++alive_count; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --alive_count; }

    static void* operator new(std::size_t bytes) {
        ++heap_count;
        return ::operator new(bytes);
    }
    static void operator delete(void* memory) { ::operator delete(memory); }

    int operator()(int add) { return called += add; }

    int called = 0;
    std::array<char, kBytes - sizeof(int)> padding{};
};

TEST(UniqueFunctionTest, KeepsACallableOf64BytesInside) {
    using Callable = Counted<64>;
    UniqueFunction<int(int)> function{Callable()};
    UniqueFunction<int(int)> moved(std::move(function));
    EXPECT_EQ(moved(2), 2);
    EXPECT_EQ(Callable::heap_count, 0);
}

TEST(UniqueFunctionTest, PutsABiggerCallableOnTheHeapOnce) {
    using Callable = Counted<68>;
    UniqueFunction<int(int)> function{Callable()};
    UniqueFunction<int(int)> moved(std::move(function));
    EXPECT_EQ(moved(3), 3);
    EXPECT_EQ(Callable::heap_count, 1);
}

template <typename Callable>
void ExpectDestroyedOnce() {
    {
        UniqueFunction<int(int)> function{Callable()};
        UniqueFunction<int(int)> other;
        other = std::move(function);
        EXPECT_EQ(Callable::alive_count, 1);
        other = UniqueFunction<int(int)>(Callable());
        EXPECT_EQ(Callable::alive_count, 1);
        UniqueFunction<int(int)> last(std::move(other));
        EXPECT_EQ(last(1), 1);
    }
    EXPECT_EQ(Callable::alive_count, 0);
}

TEST(UniqueFunctionTest, DestroysItsCallableExactlyOnceWhetherInsideOrNot) {
    ExpectDestroyedOnce<Counted<16>>();
    ExpectDestroyedOnce<Counted<128>>();
}

TEST(UniqueFunctionTest, IsEmptyUntilGivenSomethingAndAfterItWasMovedFrom) {
    UniqueFunction<void()> function;
    EXPECT_FALSE(function);
    UniqueFunction<void()> null(nullptr);
    EXPECT_FALSE(null);
    function = [] {};
    EXPECT_TRUE(function);
    UniqueFunction<void()> taken(std::move(function));
    EXPECT_FALSE(function);  // NOLINT(bugprone-use-after-move): what the test is about.
    EXPECT_TRUE(taken);
}

TEST(UniqueFunctionTest, SurvivesMovingToItself) {
    UniqueFunction<int()> function = [] { return 7; };
    UniqueFunction<int()>& same = function;
    function = std::move(same);
    EXPECT_EQ(function(), 7);
}

TEST(UniqueFunctionTest, TakesCallablesThatCannotBeCopied) {
    auto owned = std::make_unique<int>(5);
    UniqueFunction<int()> function = [owned = std::move(owned)] { return *owned; };
    EXPECT_EQ(function(), 5);
}

TEST(UniqueFunctionTest, HandsArgumentsOnWithoutCopies) {
    UniqueFunction<std::unique_ptr<int>(std::unique_ptr<int>, int&)> function =
        [](std::unique_ptr<int> value, int& seen) {
            seen = *value;
            return value;
        };
    int seen = 0;
    EXPECT_EQ(*function(std::make_unique<int>(9), seen), 9);
    EXPECT_EQ(seen, 9);
}

TEST(UniqueFunctionTest, ACallableWhoseMoveMayThrowGoesToTheHeapAndIsNeverMovedAgain) {
    struct Throwing {
        int moves = 0;
        Throwing() = default;
        Throwing(Throwing&& other) noexcept(false) : moves(other.moves + 1) {}
        int operator()() const { return moves; }
    };
    UniqueFunction<int()> function{Throwing()};
    UniqueFunction<int()> moved(std::move(function));
    EXPECT_EQ(moved(), 1);
}

// An empty std::function that was given as a callback was called, and "threw bad_function_call".
TEST(UniqueFunctionTest, WhatIsEmptyMakesAnEmptyOne) {
    EXPECT_FALSE(UniqueFunction<void()>(std::function<void()>()));
    EXPECT_FALSE(UniqueFunction<int(int)>(static_cast<int (*)(int)>(nullptr)));
    EXPECT_FALSE(UniqueFunction<void(int)>(UniqueFunction<void(long)>()));
    EXPECT_TRUE(UniqueFunction<void()>(std::function<void()>([] {})));
    EXPECT_TRUE(UniqueFunction<void()>([] {}));
    int counted = 0;
    UniqueFunction<void()> counts = [&counted] { ++counted; };
    EXPECT_FALSE(counts == nullptr);
    counts();
    EXPECT_EQ(counted, 1);
}

// It ended in signal 11 without a word.
TEST(UniqueFunctionTest, CallingAnEmptyOneSaysSo) {
    UniqueFunction<void()> empty;
    EXPECT_DEATH(empty(), "a UniqueFunction is called that is empty");
    UniqueFunction<void()> full = [] {};
    const UniqueFunction<void()> moved = std::move(full);
    // NOLINTNEXTLINE(bugprone-use-after-move): that is the point.
    EXPECT_DEATH(full(), "a UniqueFunction is called that is empty");
}

}  // namespace
}  // namespace qmq
