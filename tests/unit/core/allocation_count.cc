#include "tests/unit/core/allocation_count.h"

#include <cstdlib>
#include <new>

namespace {
thread_local std::size_t allocation_count = 0;
}  // namespace

// In a file of their own, where the compiler cannot inline one of the pair without the other.
void* operator new(std::size_t bytes) {
    ++allocation_count;
    if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) {
        return memory;
    }
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace qmq::testing {

std::size_t AllocationCount() {
    return allocation_count;
}

}  // namespace qmq::testing
