#pragma once

#include <cstddef>

namespace qmq::testing {

/// How often this thread has allocated: the test program that links this has a counting
/// `operator new`.
std::size_t AllocationCount();

}  // namespace qmq::testing
