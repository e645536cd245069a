#pragma once

#include <memory>

#include "qmq/transport.h"

#include "plugins/inproc/codec/inproc_broker.h"

namespace qmq::inproc {

/// The SDK's transport over a broker in this process. `broker` is released once, when the transport
/// and all that it made have ended.
std::unique_ptr<Transport> MakeTransport(Broker& broker);

}  // namespace qmq::inproc
