#pragma once

#include <memory>

#include "qmq/clock.h"

#include "server/broker/broker.h"
#include "tests/anything/engine.h"

namespace qmq::anything {

/// The gRPC service around `broker`, fed with the bytes of frames and calls; no socket.
std::unique_ptr<Engine> MakeServiceEngine(broker::Broker& broker, const Clock& clock);

}  // namespace qmq::anything
