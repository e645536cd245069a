#include "plugins/inproc/codec/inproc_broker.h"

namespace qmq::inproc {

// Here, so that each has one home for its virtual table.
Sink::~Sink() = default;
Session::~Session() = default;
Broker::~Broker() = default;

}  // namespace qmq::inproc
