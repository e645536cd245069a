#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace qmq::testing {

Result<ChildProcess> ChildProcess::Start(const std::vector<std::string>& arguments,
                                         const std::string& error_file) {
    std::array<int, 2> output{};
    if (pipe2(output.data(), O_CLOEXEC) != 0) {
        return Status::Internal(std::string("pipe: ") + std::strerror(errno));
    }
    std::vector<char*> argv;
    for (const std::string& argument : arguments) {
        argv.push_back(
            const_cast<char*>(argument.c_str()));  // NOLINT: posix_spawn does not write to it.
    }
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!error_file.empty()) {
        posix_spawn_file_actions_addopen(
            &actions, STDERR_FILENO, error_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    pid_t pid = -1;
    const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(output[1]);
    if (error != 0) {
        close(output[0]);
        return Status::NotFound("cannot start " + arguments[0] + ": " + std::strerror(error));
    }
    return ChildProcess(pid, output[0]);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      unread_(std::move(other.unread_)),
      printed_(std::move(other.printed_)),
      ended_(other.ended_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(output_, other.output_);
    std::swap(unread_, other.unread_);
    std::swap(printed_, other.printed_);
    std::swap(ended_, other.ended_);
    return *this;
}

ChildProcess::~ChildProcess() {
    Kill();
    if (output_ >= 0) {
        close(output_);
    }
}

bool ChildProcess::ReadMore(std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd poll_on{output_, POLLIN, 0};
    if (ended_ || left.count() < 0 || poll(&poll_on, 1, static_cast<int>(left.count()) + 1) <= 0) {
        return false;
    }
    std::array<char, 4096> buffer{};
    const ssize_t bytes = read(output_, buffer.data(), buffer.size());
    if (bytes <= 0) {
        ended_ = true;
        return false;
    }
    unread_.append(buffer.data(), static_cast<std::size_t>(bytes));
    printed_.append(buffer.data(), static_cast<std::size_t>(bytes));
    return true;
}

Result<std::string> ChildProcess::WaitForLine(const std::string& text,
                                              std::chrono::milliseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    do {
        for (std::size_t end = unread_.find('\n'); end != std::string::npos;
             end = unread_.find('\n')) {
            std::string line = unread_.substr(0, end);
            unread_.erase(0, end + 1);
            if (line.find(text) != std::string::npos) {
                return line;
            }
        }
    } while (ReadMore(deadline));
    const std::string why = "no line with \"" + text + "\"; printed: " + printed_;
    return ended_ ? Status::Unavailable(why) : Status::DeadlineExceeded(why);
}

std::string ChildProcess::ReadAll() {
    while (ReadMore(std::chrono::steady_clock::now() + std::chrono::hours(1))) {
    }
    return printed_;
}

void ChildProcess::Signal(int signal) const {
    if (pid_ > 0) {
        kill(pid_, signal);
    }
}

int ChildProcess::Wait() {
    if (pid_ <= 0) {
        return -1;
    }
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void ChildProcess::Kill() {
    if (pid_ > 0) {
        Signal(SIGKILL);
        Wait();
    }
}

}  // namespace qmq::testing
