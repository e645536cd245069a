#include "tests/crash/common.h"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "qmq/grpc.h"

namespace qmq::testing {

namespace {

std::string& TestName() {
    static std::string name = "crash";
    return name;
}

std::atomic<pid_t> companion{-1};

}  // namespace

void DieTogetherWith(pid_t pid) {
    companion = pid;
}

void SetTestName(std::string name) {
    TestName() = std::move(name);
}

void Die(const std::string& why) {
    std::printf("FAIL %s: %s\n", TestName().c_str(), why.c_str());
    std::fflush(stdout);
    if (const pid_t pid = companion; pid > 0) {
        kill(pid, SIGKILL);
    }
    std::_Exit(1);
}

ClientOptions PatientClient(const std::string& uri, const std::string& name) {
    using namespace std::chrono_literals;
    ClientOptions options;
    options.uri = uri;
    options.app_code = name;
    options.transports = {GrpcTransport()};
    options.initial_reconnect_backoff = 5ms;
    options.max_reconnect_backoff = 50ms;
    options.handler_threads = 2;
    options.log = [](LogLevel, std::string_view) {};
    return options;
}

std::string BodyOf(std::string_view id) {
    constexpr std::size_t kLarge = 8 * 1024;
    std::string body = "body of " + std::string(id);
    if (id.starts_with("probe-")) {
        body.resize(kLarge, 'x');
    }
    return body;
}

std::uint64_t HashOf(std::string_view text) {
    std::uint64_t hash = 14'695'981'039'346'656'037ULL;  // FNV-1a.
    for (const char character : text) {
        hash = (hash ^ static_cast<unsigned char>(character)) * 1'099'511'628'211ULL;
    }
    return hash ^ (hash >> 29);
}

std::int64_t NowUs() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               SystemClock().Now().time_since_epoch())
        .count();
}

void Pause(std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
}

}  // namespace qmq::testing
