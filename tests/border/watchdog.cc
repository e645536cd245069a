#include "tests/border/watchdog.h"

#include <dirent.h>
#include <execinfo.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer has named it.
extern "C" __attribute__((weak)) void __sanitizer_print_stack_trace();

namespace qmq::border {

namespace {

void PrintOwnStack(int) {
    if (__sanitizer_print_stack_trace != nullptr) {
        __sanitizer_print_stack_trace();
        return;
    }
    std::array<void*, 64> frames{};
    const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
    backtrace_symbols_fd(frames.data(), count, STDERR_FILENO);
}

/// Each thread prints its own, one after another.
void DumpBySignals() {
    struct sigaction action {};
    action.sa_handler = PrintOwnStack;
    sigaction(SIGUSR2, &action, nullptr);
    DIR* const tasks = opendir("/proc/self/task");
    if (tasks == nullptr) {
        return;
    }
    while (const dirent* const entry = readdir(tasks)) {
        const int thread = std::atoi(entry->d_name);
        if (thread > 0 && thread != static_cast<int>(syscall(SYS_gettid))) {
            std::fprintf(stderr, "thread %d:\n", thread);
            syscall(SYS_tgkill, getpid(), thread, SIGUSR2);
            usleep(200'000);
        }
    }
    closedir(tasks);
}

}  // namespace

void DumpStacks() {
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    const std::string process = std::to_string(getpid());
    const pid_t child = fork();
    if (child == 0) {
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execlp("timeout",
               "timeout",
               "60",
               "gdb",
               "-p",
               process.c_str(),
               "-batch",
               "-nx",
               "-ex",
               "set print frame-arguments none",
               "-ex",
               "thread apply all -q bt 40",
               static_cast<char*>(nullptr));
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        DumpBySignals();
    }
}

Watchdog::Watchdog(std::function<void(const std::string&)> last_words)
    : last_words_(std::move(last_words)),
      until_(std::chrono::steady_clock::time_point::max()),
      thread_([this] { Watch(); }) {}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Watchdog::Expect(std::string what, std::chrono::seconds at_most) {
    const std::lock_guard lock(mutex_);
    what_ = std::move(what);
    until_ = std::chrono::steady_clock::now() + at_most;
}

void Watchdog::Watch() {
    std::unique_lock lock(mutex_);
    while (!stopped_) {
        if (std::chrono::steady_clock::now() > until_) {
            const std::string what = what_;
            lock.unlock();
            last_words_(what);
            DumpStacks();
            std::_Exit(4);
        }
        changed_.wait_for(lock, std::chrono::milliseconds(200));
    }
}

}  // namespace qmq::border
