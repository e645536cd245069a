#include "sdk/client/src/base/slab_resource.h"

#include <algorithm>
#include <cstdint>
#include <new>

#include "sdk/client/src/base/address_sanitizer.h"

namespace qmq::internal {

namespace {

constexpr std::align_val_t kSlabAlignment{SlabResource::kSlabBytes};

}  // namespace

/// At the begin of the memory that it manages, which is aligned to its size: so a cell finds it.
struct alignas(SlabResource::kMostAlignment) SlabResource::Slab {
    Slab* before = nullptr;
    Slab* behind = nullptr;
    Cell* free = nullptr;      ///< Cells that were given back.
    std::size_t fresh_at = 0;  ///< Those from here on were never used.
    std::size_t used = 0;

    static Slab* Of(void* cell) {
        const auto at = reinterpret_cast<std::uintptr_t>(cell);
        return reinterpret_cast<Slab*>(at & ~(std::uintptr_t{kSlabBytes} - 1));
    }
    bool IsFull(std::size_t cell_bytes) const {
        return free == nullptr && fresh_at + cell_bytes > kSlabBytes;
    }
    void* Take(std::size_t cell_bytes) {
        ++used;
        if (free != nullptr) {
            Cell* const cell = std::exchange(free, free->next);
            cell->~Cell();
            return cell;
        }
        return reinterpret_cast<char*>(this) + std::exchange(fresh_at, fresh_at + cell_bytes);
    }
    void Keep(void* memory) {
        --used;
        free = ::new (memory) Cell{free};
    }
};

SlabResource::~SlabResource() {
    for (SizeClass& size : sizes_) {
        while (size.front != nullptr) {
            Slab* const slab = size.front;
            Unlink(&size, slab);
            Delete(slab);
        }
    }
}

std::size_t SlabResource::CellBytes(std::size_t bytes, std::size_t alignment) {
    const std::size_t unit = std::max(kStep, alignment);
    return std::max<std::size_t>((bytes + unit - 1) / unit, 1) * unit;
}

bool SlabResource::IsSmall(std::size_t bytes, std::size_t alignment) {
    return !kAddressSanitizer && bytes <= kMostBytes && alignment <= kMostAlignment;
}

SlabResource::Slab* SlabResource::MakeSlab(std::size_t cell_bytes) {
    auto* const slab = ::new (::operator new(kSlabBytes, kSlabAlignment)) Slab;
    // Cells whose size is a multiple of an alignment are aligned to it.
    slab->fresh_at = (sizeof(Slab) + cell_bytes - 1) / cell_bytes * cell_bytes;
    ++slabs_;
    return slab;
}

void SlabResource::Delete(Slab* slab) {
    slab->~Slab();
    ::operator delete(slab, kSlabAlignment);
    --slabs_;
}

void SlabResource::Link(SizeClass* size, Slab* slab) {
    slab->before = nullptr;
    slab->behind = std::exchange(size->front, slab);
    if (slab->behind != nullptr) {
        slab->behind->before = slab;
    }
}

void SlabResource::Unlink(SizeClass* size, Slab* slab) {
    (slab->before == nullptr ? size->front : slab->before->behind) = slab->behind;
    if (slab->behind != nullptr) {
        slab->behind->before = slab->before;
    }
}

void* SlabResource::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (!IsSmall(bytes, alignment)) {
        return ::operator new (bytes, std::align_val_t{alignment});
    }
    const std::size_t cell_bytes = CellBytes(bytes, alignment);
    SizeClass& size = sizes_[cell_bytes / kStep - 1];
    if (size.front == nullptr) {
        Link(&size, MakeSlab(cell_bytes));
    }
    Slab* const slab = size.front;
    void* const memory = slab->Take(cell_bytes);
    if (slab->IsFull(cell_bytes)) {
        Unlink(&size, slab);
    }
    return memory;
}

void SlabResource::do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) {
    if (!IsSmall(bytes, alignment)) {
        ::operator delete (memory, std::align_val_t{alignment});
        return;
    }
    const std::size_t cell_bytes = CellBytes(bytes, alignment);
    SizeClass& size = sizes_[cell_bytes / kStep - 1];
    Slab* const slab = Slab::Of(memory);
    const bool was_full = slab->IsFull(cell_bytes);
    slab->Keep(memory);
    if (was_full) {
        Link(&size, slab);
    } else if (slab->used == 0 && (slab->before != nullptr || slab->behind != nullptr)) {
        Unlink(&size, slab);  // The last one with room stays: else it would come and go.
        Delete(slab);
    }
}

}  // namespace qmq::internal
