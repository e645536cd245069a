#include "sdk/client/src/base/slab_resource.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory_resource>
#include <string>
#include <vector>

namespace qmq::internal {
namespace {

TEST(SlabResourceTest, WhatItGivesIsApartAndAligned) {
    struct Given {
        std::size_t bytes;
        std::size_t alignment;
        unsigned char mark;
    };
    SlabResource memory;
    std::map<char*, Given> given;
    std::uint64_t random = 7;
    const auto next = [&random](std::uint64_t below) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        return (random >> 33) % below;
    };
    for (int step = 0; step < 50'000; ++step) {
        if (given.size() < 2'000 && next(5) < 3) {
            const std::size_t alignment = std::size_t{1} << next(8);
            const Given one{1 + next(600), alignment, static_cast<unsigned char>(step)};
            auto* const at = static_cast<char*>(memory.allocate(one.bytes, one.alignment));
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(at) % one.alignment, 0U);
            std::memset(at, one.mark, one.bytes);
            given.emplace(at, one);
        } else if (!given.empty()) {
            auto it = given.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(next(given.size())));
            const auto& [at, one] = *it;
            ASSERT_TRUE(std::all_of(at, at + one.bytes, [&mark = one.mark](char byte) {
                return static_cast<unsigned char>(byte) == mark;
            }));
            memory.deallocate(at, one.bytes, one.alignment);
            given.erase(it);
        }
    }
    for (const auto& [at, one] : given) {
        memory.deallocate(at, one.bytes, one.alignment);
    }
    // Of each size one slab stays.
    EXPECT_LE(memory.slab_bytes(), 16 * SlabResource::kSlabBytes);
}

TEST(SlabResourceTest, ASlabThatHasNoneLeftIsGivenBack) {
    SlabResource memory;
    std::vector<void*> given;
    for (int i = 0; i < 10'000; ++i) {
        given.push_back(memory.allocate(200));
    }
    const std::size_t most = memory.slab_bytes();
    // The later half goes; what is left lies side by side.
    for (std::size_t i = 5'000; i < 10'000; ++i) {
        memory.deallocate(given[i], 200);
    }
    EXPECT_LE(memory.slab_bytes(), most / 2 + 2 * SlabResource::kSlabBytes);
    for (std::size_t i = 0; i < 5'000; ++i) {
        memory.deallocate(given[i], 200);
    }
    EXPECT_LE(memory.slab_bytes(), SlabResource::kSlabBytes);
}

TEST(SlabResourceTest, OneThatComesAndGoesMakesNoSlabsAnew) {
    SlabResource memory;
    void* const first = memory.allocate(64);
    const std::size_t held = memory.slab_bytes();
    memory.deallocate(first, 64);
    EXPECT_EQ(memory.slab_bytes(), held);
}

TEST(SlabResourceTest, WhatIsLargeComesFromTheHeap) {
    SlabResource memory;
    void* const large = memory.allocate(SlabResource::kMostBytes + 1);
    EXPECT_EQ(memory.slab_bytes(), 0U);
    memory.deallocate(large, SlabResource::kMostBytes + 1);
}

TEST(SlabResourceTest, ContainersGrowAndShrinkInIt) {
    SlabResource memory;
    std::pmr::map<std::pmr::string, std::pmr::vector<int>> map(&memory);
    for (int i = 0; i < 3'000; ++i) {
        map[std::pmr::string("a key that is not short at all " + std::to_string(i))].push_back(i);
    }
    map.clear();
    EXPECT_LE(memory.slab_bytes(), 4 * SlabResource::kSlabBytes);
}

}  // namespace
}  // namespace qmq::internal
