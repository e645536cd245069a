#include "tests/crash/member_processes.h"

#include <csignal>
#include <utility>

#include "tests/crash/common.h"

namespace qmq::testing {

using namespace std::chrono_literals;

MemberProcesses::MemberProcesses(Settings settings, EventWriter& events)
    : settings_(std::move(settings)), events_(events), random_(settings_.seed) {
    for (int i = 0; i < settings_.count; ++i) {
        processes_.push_back(Start(""));
    }
}

MemberProcesses::Process MemberProcesses::Start(std::string client_id) {
    const std::string name = "process" + std::to_string(started_++);
    if (client_id.empty()) {
        client_id = name;
    }
    Result<ChildProcess> child = ChildProcess::Start({settings_.program,
                                                      "--member",
                                                      name,
                                                      "--client-id",
                                                      client_id,
                                                      "--uri",
                                                      settings_.uri,
                                                      "--pipe",
                                                      settings_.pipe,
                                                      "--seed",
                                                      std::to_string(random_.Next() >> 1)});
    if (!child.ok()) {
        Die(child.status().ToString());
    }
    return {*std::move(child), name, client_id};
}

void MemberProcesses::KillOne() {
    Process& process = processes_[random_.Below(processes_.size())];
    process.child.Kill();
    ++kills_;
    // All that it has said lies in the pipe by now, before this.
    events_.Write({.kind = MemberEvent::kDied, .member = process.name});
    process = Start(random_.Chance(0.5) ? process.client_id : "");
}

void MemberProcesses::Stop() {
    for (Process& process : processes_) {
        // One that has not blocked the signal yet would die of it.
        if (const Result<std::string> ready = process.child.WaitForLine("ready", 30s);
            !ready.ok()) {
            Die("a consumer did not start: " + ready.status().ToString());
        }
        process.child.Signal(SIGTERM);
    }
    for (Process& process : processes_) {
        if (const int code = process.child.Wait(); code != 0) {
            Die("a consumer ended with " + std::to_string(code));
        }
    }
}

}  // namespace qmq::testing
