#include "tests/crash/witness.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/crash/common.h"

namespace qmq::testing {

using namespace std::chrono_literals;

Witness::Witness(const std::string& path, std::function<void(TimePoint, TimePoint)> on_stall)
    : on_stall_(std::move(on_stall)),
      file_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {
    if (file_ < 0) {
        Die("cannot make " + path + ": " + std::strerror(errno));
    }
    thread_ = std::thread([this] { Run(); });
}

Witness::~Witness() {
    stop_ = true;
    thread_.join();
    close(file_);
}

void Witness::Run() {
    constexpr auto kPause = 20ms;
    while (!stop_) {
        const TimePoint begin = SystemClock().Now();
        Pause(kPause);
        // It grows, so that its sync waits for the journal as that of a new segment does.
        if (write(file_, "w", 1) != 1 || fdatasync(file_) != 0) {
            Die(std::string("the witness cannot write: ") + std::strerror(errno));
        }
        const TimePoint end = SystemClock().Now();
        if (const auto took = end - begin - kPause; took > kStall) {
            ++stalls_;
            const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
            longest_ms_ = std::max<std::int64_t>(longest_ms_, ms);
            on_stall_(begin, end);
        }
    }
}

}  // namespace qmq::testing
