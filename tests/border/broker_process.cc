#include "tests/border/broker_process.h"

#include <csignal>
#include <cstdlib>
#include <utility>
#include <vector>

namespace qmq::border {

using namespace std::chrono_literals;

Status BrokerProcess::Start() {
    std::vector<std::string> command{program_, "dev", "--port", std::to_string(port_)};
    if (directory_.empty()) {
        command.emplace_back("--memory");
    } else {
        command.insert(command.end(), {"--data", directory_, "--durability", "page_cache"});
    }
    Result<testing::ChildProcess> child = testing::ChildProcess::Start(command, "/dev/null");
    if (!child.ok()) {
        return child.status();
    }
    child_.emplace(*std::move(child));
    const Result<std::string> line = child_->WaitForLine("gRPC", 60s);
    if (!line.ok()) {
        return line.status();
    }
    if (port_ == 0) {
        port_ = std::atoi(line->substr(line->rfind(':') + 1).c_str());
    }
    return child_->WaitForLine("ready", 60s).status();
}

void BrokerProcess::Kill() {
    if (child_.has_value()) {
        child_->Kill();
    }
}
void BrokerProcess::Stop() {
    child_->Signal(SIGSTOP);
}
void BrokerProcess::Continue() {
    child_->Signal(SIGCONT);
}

}  // namespace qmq::border
