#pragma once

#include <memory>

#include "tests/anything/engine.h"
#include "tests/anything/pipe.h"

namespace qmq::anything {

/// Clients that write the bytes of broker.proto themselves, and so may write what no client of ours
/// would: each has a Publish and a Consume stream, and the last one sends by plain calls.
std::unique_ptr<Engine> MakeWireEngine(std::unique_ptr<Pipe> pipe);

}  // namespace qmq::anything
