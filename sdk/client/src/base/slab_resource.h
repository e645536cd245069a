#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <utility>

namespace qmq::internal {

/// Memory for thousands of small things that live long beside what comes and goes. On the common
/// heap each of them would keep the page that it lies on, and with it what was freed beside it;
/// here those of one size lie side by side, and a slab that has none left is given back. What is
/// large comes from the heap. Not thread-safe: used under its owner's lock, and outlives all that
/// it gave.
class SlabResource final : public std::pmr::memory_resource {
public:
    SlabResource() = default;
    SlabResource(const SlabResource&) = delete;
    SlabResource& operator=(const SlabResource&) = delete;
    ~SlabResource() override;

    /// Memory that it holds, in use or not.
    std::size_t slab_bytes() const { return slabs_ * kSlabBytes; }

    static constexpr std::size_t kSlabBytes = 32U << 10;
    /// What is larger, or aligned more strictly, comes from the heap.
    static constexpr std::size_t kMostBytes = 512;
    static constexpr std::size_t kMostAlignment = 128;

private:
    struct Cell {
        Cell* next = nullptr;
    };
    struct Slab;
    /// Slabs that have a free cell, doubly linked.
    struct SizeClass {
        Slab* front = nullptr;
    };
    static constexpr std::size_t kStep = 32;  // Sizes are rounded up to multiples of it.

    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override;
    bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
        return this == &other;
    }
    static std::size_t CellBytes(std::size_t bytes, std::size_t alignment);
    static bool IsSmall(std::size_t bytes, std::size_t alignment);
    Slab* MakeSlab(std::size_t cell_bytes);
    void Delete(Slab* slab);
    static void Link(SizeClass* size, Slab* slab);
    static void Unlink(SizeClass* size, Slab* slab);

    std::array<SizeClass, kMostBytes / kStep> sizes_;
    std::size_t slabs_ = 0;
};

/// Destroys what `MakeIn` made.
template <typename T>
struct InResource {
    std::pmr::memory_resource* resource = nullptr;
    void operator()(T* object) const {
        std::pmr::polymorphic_allocator<>(resource).delete_object(object);
    }
};

template <typename T>
using ResourcePtr = std::unique_ptr<T, InResource<T>>;

/// One `T` whose memory is `resource`'s.
template <typename T, typename... Args>
ResourcePtr<T> MakeIn(std::pmr::memory_resource* resource, Args&&... args) {
    return {std::pmr::polymorphic_allocator<>(resource).new_object<T>(std::forward<Args>(args)...),
            {resource}};
}

}  // namespace qmq::internal
