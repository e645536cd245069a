#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "qmq/random.h"

#include "tests/crash/events.h"
#include "tests/support/child_process.h"

namespace qmq::testing {

/// Members that are processes of their own, so that they can be killed: what they hold is then held
/// by the dead.
class MemberProcesses {
public:
    struct Settings {
        std::string program;  ///< This one.
        std::string uri;
        std::string pipe;
        int count = 2;
        std::uint64_t seed = 1;
    };
    MemberProcesses(Settings settings, EventWriter& events);

    /// kill -9 of any of them, and another in its place: under the same name as half of the time,
    /// else as one that the broker has never seen.
    void KillOne();
    std::uint64_t kill_count() const { return kills_; }
    /// As an operator would.
    void Stop();

private:
    struct Process {
        ChildProcess child;
        std::string name;
        std::string client_id;
    };
    Process Start(std::string client_id);

    const Settings settings_;
    EventWriter& events_;
    Random random_;
    std::uint64_t started_ = 0;
    std::uint64_t kills_ = 0;
    std::vector<Process> processes_;
};

}  // namespace qmq::testing
