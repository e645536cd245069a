#pragma once

#include <memory>
#include <string>

#include "tests/anything/pipe.h"

namespace qmq::anything {

/// A connection to a server at `address`; what it makes happen happens in `Pump`, on the caller's
/// thread.
std::unique_ptr<Pipe> MakeSocketPipe(const std::string& address);

}  // namespace qmq::anything
