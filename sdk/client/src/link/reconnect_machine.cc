#include "sdk/client/src/link/reconnect_machine.h"

namespace qmq::internal {

TimePoint ReconnectMachine::OnDown(TimePoint now, Random& random) {
    if (up_ && now - up_since_ >= options_.max) {
        backoff_.Reset();
    }
    up_ = false;
    return now + backoff_.Next(random);
}

}  // namespace qmq::internal
