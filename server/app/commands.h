#pragma once

namespace CLI {
class App;
}

/// One function a command: it adds its options to the program's, and what is to be done when it is
/// chosen.
namespace qmq::app {

/// Exit codes of the program.
enum ExitCode : int {
    kExitOk = 0,
    kExitFailed = 1,  ///< It was tried and did not succeed; standard error says why.
    kExitUsage = 2    ///< The command line or a configuration is wrong.
};

void AddDevCommand(CLI::App& program);
void AddBrokerCommand(CLI::App& program);
void AddSendCommand(CLI::App& program);
void AddTailCommand(CLI::App& program);
void AddBenchCommand(CLI::App& program);
void AddLogCommand(CLI::App& program);
void AddToolsCommand(CLI::App& program);

}  // namespace qmq::app
