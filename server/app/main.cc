#include <absl/synchronization/mutex.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "qmq/version.h"

#include "server/app/commands.h"

namespace {

/// Frames of up to 1 MiB come and go with every wake-up. By itself malloc asks the system for each
/// anew, or gives the end of its heap back and takes it again: every page costs a fault, and is
/// cleared. So it keeps a little.
void KeepFreedMemory() {
#ifdef __GLIBC__
    constexpr int kLargestOnHeap = 32 << 20;  // glibc takes no more.
    constexpr int kKept = 32 << 20;
    mallopt(M_MMAP_THRESHOLD, kLargestOnHeap);
    mallopt(M_TRIM_THRESHOLD, kKept);
    mallopt(M_TOP_PAD, 4 << 20);
#endif
}

/// `code`, unless what was printed has not all gone out: who redirects it to a disk that is full
/// must not take a part for the whole.
int Ended(int code) {
    if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && code == qmq::app::kExitOk) {
        std::fprintf(stderr,
                     "qmq: standard output cannot be written to; what is there is not all\n");
        return qmq::app::kExitFailed;
    }
    return code;
}

}  // namespace

int main(int argc, char** argv) {
    KeepFreedMemory();
    // Debian's abseil, which gRPC locks with, looks for cycles of locks at each of them: 7 % of the
    // processor where every message is a frame of its own. For our program only; a client library
    // leaves its process alone.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    CLI::App program{"Messaging for C++ services: the server and its tools.", "qmq"};
    program.set_version_flag("--version", std::string(qmq::Version()));
    program.require_subcommand(1);
    qmq::app::AddDevCommand(program);
    qmq::app::AddBrokerCommand(program);
    qmq::app::AddSendCommand(program);
    qmq::app::AddTailCommand(program);
    qmq::app::AddToolsCommand(program);
    qmq::app::AddBenchCommand(program);
    qmq::app::AddLogCommand(program);
    try {
        program.parse(argc, argv);
    } catch (const CLI::RuntimeError& ended) {  // A command's own exit code; it has said why.
        return ended.get_exit_code();
    } catch (const CLI::ParseError& error) {
        return Ended(program.exit(error) == 0 ? qmq::app::kExitOk : qmq::app::kExitUsage);
    }
    return Ended(qmq::app::kExitOk);
}
