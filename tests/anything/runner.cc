#include "tests/anything/runner.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace qmq::anything {
namespace {

/// What the process that runs sequences has come to, seen by the one that started it.
struct Progress {
    std::uint64_t next = 0;  // Of the sequences, in the order in which they are run.
    std::uint64_t failed = 0;
    std::uint64_t first_failed_seed = 0;
};

Progress* ShareProgress() {
    void* memory =
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("mmap");
        std::exit(2);
    }
    return new (memory) Progress;
}

void PrintProblems(std::uint64_t seed, const SequenceReport& report) {
    std::printf(
        "seed %llu: %zu problems\n", static_cast<unsigned long long>(seed), report.problems.size());
    for (const std::string& problem : report.problems) {
        std::printf("  %s\n", problem.c_str());
    }
    std::fflush(stdout);  // The next sequence may kill the process.
}

void NoteFailure(Progress& progress, std::uint64_t seed) {
    if (progress.failed++ == 0) {
        progress.first_failed_seed = seed;
    }
}

std::uint64_t SeedOf(const RunOptions& options, std::uint64_t number) {
    return options.first_seed + number * options.stride;
}

/// Now and then, so that a sequence which kills the process takes few of them along.
constexpr std::uint64_t kSequencesAReport = 16;

void WriteCounters(std::FILE* out, Counters& counters) {
    for (const auto& [name, count] : counters) {
        std::fprintf(out, "%llu %s\n", static_cast<unsigned long long>(count), name.c_str());
    }
    std::fflush(out);
    counters.clear();
}

[[noreturn]] void RunRest(const RunOptions& options,
                          const std::function<SequenceReport(std::uint64_t)>& sequence,
                          Progress& progress,
                          int counters_to) {
    std::FILE* out = fdopen(counters_to, "w");
    Counters counters;
    while (progress.next < options.count && progress.failed < options.most_failures) {
        const std::uint64_t seed = SeedOf(options, progress.next);
        alarm(options.most_seconds);
        const SequenceReport report = sequence(seed);
        for (const auto& [name, count] : report.counters) {
            counters[name] += count;
        }
        if (!report.problems.empty()) {
            PrintProblems(seed, report);
            NoteFailure(progress, seed);
        }
        if (++progress.next % kSequencesAReport == 0) {
            WriteCounters(out, counters);
        }
    }
    WriteCounters(out, counters);
    std::fflush(stdout);
    std::_Exit(0);
}

void ReadCounters(int from, Counters& counters) {
    std::FILE* in = fdopen(from, "r");
    char line[256];
    while (std::fgets(line, sizeof line, in) != nullptr) {
        char* name = nullptr;
        const unsigned long long count = std::strtoull(line, &name, 10);
        line[std::strcspn(line, "\n")] = '\0';
        counters[name + 1] += count;
    }
    std::fclose(in);
}

std::string HowItEnded(int status) {
    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGALRM ? std::string("hangs")
                                           : "died of signal " + std::to_string(WTERMSIG(status));
    }
    return "ended with " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

RunResult RunAll(const RunOptions& options,
                 const std::function<SequenceReport(std::uint64_t seed)>& sequence) {
    Progress& progress = *ShareProgress();
    RunResult result;
    while (progress.next < options.count && progress.failed < options.most_failures) {
        int ends[2];
        if (pipe(ends) != 0) {
            std::perror("pipe");
            std::exit(2);
        }
        std::fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            RunRest(options, sequence, progress, ends[1]);
        }
        close(ends[1]);
        ReadCounters(ends[0], result.counters);
        int status = 0;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            const std::uint64_t seed = SeedOf(options, progress.next);
            std::printf("seed %llu: the process %s\n",
                        static_cast<unsigned long long>(seed),
                        HowItEnded(status).c_str());
            NoteFailure(progress, seed);
            ++progress.next;
        }
    }
    result.ran = progress.next;
    result.failed = progress.failed;
    result.first_failed_seed = progress.first_failed_seed;
    munmap(&progress, sizeof progress);
    return result;
}

void RunApart(unsigned most_seconds, const std::function<void()>& task) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(most_seconds);
        task();
        std::fflush(stdout);
        std::_Exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        std::printf("  here the process %s\n", HowItEnded(status).c_str());
    }
}

}  // namespace qmq::anything
