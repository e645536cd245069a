#include "server/app/signals.h"

#include <pthread.h>

#include <ctime>

namespace qmq::app {

StopSignals::StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
}

int StopSignals::Wait() const {
    int signal = 0;
    sigwait(&set_, &signal);
    return signal;
}

bool StopSignals::Pending() const {
    const timespec now{};
    return sigtimedwait(&set_, nullptr, &now) > 0;
}

}  // namespace qmq::app
