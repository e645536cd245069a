#include "tests/bench/support/server_process.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace qmq::bench {

namespace {

constexpr std::chrono::seconds kStartPatience{120};

template <typename T>
T OrThrow(Result<T> result, const std::string& what) {
    if (!result.ok()) {
        throw std::runtime_error(what + ": " + result.status().ToString());
    }
    return *std::move(result);
}

/// A line such as `VmRSS:     12345 kB`.
std::uint64_t StatusBytes(const std::string& status, const std::string& key) {
    const std::size_t place = status.find(key + ":");
    if (place == std::string::npos) {
        throw std::runtime_error("/proc/PID/status has no " + key);
    }
    return std::stoull(status.substr(place + key.size() + 1)) * 1'024;
}

}  // namespace

ServerProcess::ServerProcess(ServerProcessOptions options) : options_(std::move(options)) {}

void ServerProcess::Start() {
    child_.reset();
    started_ = std::chrono::steady_clock::now();
    const std::vector<std::string> command{options_.program,
                                           "dev",
                                           "--data",
                                           options_.data,
                                           "--port",
                                           "0",
                                           "--durability",
                                           options_.durability};
    child_.emplace(OrThrow(testing::ChildProcess::Start(command), options_.program));
    const std::string line = OrThrow(child_->WaitForLine("grpc://", kStartPatience), "qmq dev");
    const std::size_t place = line.find("grpc://") + 7;
    address_ = line.substr(place, line.find_first_of(" \r\n", place) - place);
}

void ServerProcess::Stop() {
    child_->Signal(SIGTERM);
    const std::string printed = child_->ReadAll();
    if (const int code = child_->Wait(); code != 0) {
        throw std::runtime_error("SIGTERM ended qmq dev with " + std::to_string(code) + ": " +
                                 printed);
    }
}

void ServerProcess::Kill() {
    child_->Kill();
}

ProcessFigures ServerProcess::Figures() const {
    const std::string folder = "/proc/" + std::to_string(child_->pid());
    std::ifstream file(folder + "/status");
    std::ostringstream text;
    text << file.rdbuf();
    const std::filesystem::directory_iterator descriptors(folder + "/fd");
    return {.resident_bytes = StatusBytes(text.str(), "VmRSS"),
            .peak_bytes = StatusBytes(text.str(), "VmHWM"),
            .open_files =
                static_cast<std::uint64_t>(std::distance(begin(descriptors), end(descriptors)))};
}

std::uint64_t ServerProcess::DataBytes() const {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(options_.data)) {
        std::error_code gone;  // The server may remove a file meanwhile.
        const std::uintmax_t size = entry.is_regular_file(gone) ? entry.file_size(gone) : 0;
        bytes += gone ? 0 : size;
    }
    return bytes;
}

}  // namespace qmq::bench
