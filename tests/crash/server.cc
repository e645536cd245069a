#include "tests/crash/server.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "tests/crash/common.h"

namespace qmq::testing {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kTold = 400;  // Of what it says when it does not start.

}  // namespace

void Server::Start(bool may_be_refused) {
    for (;;) {
        Spawn();
        const Status ready = Ready();
        if (ready.ok()) {
            return;
        }
        child_->Kill();
        const std::string errors = Errors();
        const std::string last =
            errors.substr(errors.size() - std::min<std::size_t>(errors.size(), kTold));
        if (!may_be_refused || last.rfind("resource exhausted") == std::string::npos) {
            Die("the program did not start: " + ready.ToString() + "; it says: " + last);
        }
        ++refused_starts_;
        Pause(20ms);  // As whatever supervises it would.
    }
}

void Server::StartAndKillAfter(std::chrono::milliseconds time) {
    Spawn();
    Pause(time);
    Kill();
}

void Server::Kill() {
    DieTogetherWith(-1);
    child_->Kill();
}

void Server::Stop() {
    child_->Signal(SIGTERM);
    const std::string printed = child_->ReadAll();
    if (const int code = child_->Wait(); code != 0) {
        Die("SIGTERM ended the program with " + std::to_string(code) + ": " + printed);
    }
}

std::string Server::Errors() const {
    std::ifstream file(error_file());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> Server::Command() const {
    std::vector<std::string> command{settings_.program};
    if (settings_.config.empty()) {
        command.insert(command.end(),
                       {"dev",
                        "--data",
                        settings_.data,
                        "--port",
                        std::to_string(port_),
                        "--durability",
                        settings_.durability});
    } else {
        const std::string path = settings_.work + "/broker.properties";
        std::ofstream file(path);
        file << "store.root = " << settings_.data << "\ngrpc.port = " << port_
             << "\ndurability.default = " << settings_.durability << "\n";
        for (const std::string& line : settings_.config) {
            file << line << "\n";
        }
        command.insert(command.end(), {"broker", "--config", path});
    }
    if (!settings_.plant.empty()) {
        command.insert(command.end(), {"--plant", settings_.plant});
    }
    return command;
}

void Server::Spawn() {
    Result<ChildProcess> child = ChildProcess::Start(Command(), error_file());
    if (!child.ok()) {
        Die(child.status().ToString());
    }
    child_.emplace(*std::move(child));
    DieTogetherWith(child_->pid());
}

Status Server::Ready() {
    const Result<std::string> line = child_->WaitForLine("gRPC", 30s);
    const Result<std::string> ready = line.ok() ? child_->WaitForLine("ready", 30s) : line;
    if (ready.ok() && port_ == 0) {
        port_ = std::atoi(line->substr(line->rfind(':') + 1).c_str());
    }
    return ready.status();
}

}  // namespace qmq::testing
