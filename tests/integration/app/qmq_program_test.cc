// The real program as a child process: what it prints, what it refuses, what it keeps.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/child_process.h"

namespace qmq {
namespace {

using namespace std::chrono_literals;
using qmq::testing::ChildProcess;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

struct Ended {
    int code = 0;
    std::string out;
    std::string err;
};

class QmqProgramTest : public ::testing::Test {
protected:
    QmqProgramTest() {
        std::string name = (std::filesystem::temp_directory_path() / "qmq-program.XXXXXX").string();
        directory_ = mkdtemp(name.data());
    }
    ~QmqProgramTest() override { std::filesystem::remove_all(directory_); }

    std::string Path(const std::string& name) const { return directory_ + "/" + name; }

    std::string ReadFile(const std::string& path) const {
        std::ifstream file(path);
        std::ostringstream text;
        text << file.rdbuf();
        return text.str();
    }

    ChildProcess Start(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), QMQ_PROGRAM);
        return ChildProcess::Start(arguments, Path("stderr")).value();
    }

    /// Runs it to its end.
    Ended Run(const std::vector<std::string>& arguments) {
        std::filesystem::remove(Path("stderr"));
        ChildProcess child = Start(arguments);
        Ended ended;
        ended.out = child.ReadAll();
        ended.code = child.Wait();
        ended.err = ReadFile(Path("stderr"));
        return ended;
    }

    /// Runs `script` of the shell with the program as $0 and `more` as $1 and so on.
    Ended Shell(const std::string& script, const std::vector<std::string>& more) {
        std::vector<std::string> arguments{"/bin/sh", "-c", script, QMQ_PROGRAM};
        arguments.insert(arguments.end(), more.begin(), more.end());
        ChildProcess child = ChildProcess::Start(arguments, Path("stderr")).value();
        Ended ended;
        ended.out = child.ReadAll();
        ended.code = child.Wait();
        ended.err = ReadFile(Path("stderr"));
        return ended;
    }

    /// A server on a free port; the URI that it printed.
    struct Server {
        ChildProcess process;
        std::string uri;
        std::string port() const { return uri.substr(uri.rfind(':') + 1); }
    };
    Server Dev(std::vector<std::string> more = {}, const std::string& port = "0") {
        std::vector<std::string> arguments{"dev", "--data", Path("data"), "--port", port};
        arguments.insert(arguments.end(), more.begin(), more.end());
        Server server{Start(arguments), ""};
        const std::string line = server.process.WaitForLine("gRPC", 20s).value();
        server.uri = line.substr(line.find("grpc"));
        EXPECT_TRUE(server.process.WaitForLine("ready", 20s).ok());
        return server;
    }

    std::string directory_;
};

TEST_F(QmqProgramTest, AMessageSentToDevIsPrintedByTail) {
    Server server = Dev();
    const Ended sent = Run({"send",
                            "--uri",
                            server.uri,
                            "greetings",
                            "--body",
                            "hello",
                            "--property",
                            "a=1",
                            "--tag",
                            "x"});
    ASSERT_EQ(sent.code, 0) << sent.err;
    EXPECT_THAT(sent.out, HasSubstr("persisted (fsync)"));
    const Ended seen =
        Run({"tail", "--uri", server.uri, "greetings", "--from-start", "--count", "1", "--json"});
    ASSERT_EQ(seen.code, 0) << seen.err;
    EXPECT_THAT(seen.out, HasSubstr(R"("tags":["x"])"));
    EXPECT_THAT(seen.out, HasSubstr(R"("body":"hello")"));
}

TEST_F(QmqProgramTest, WhatWasAcknowledgedSurvivesKillNine) {
    Server server = Dev();
    ASSERT_EQ(Run({"send", "--uri", server.uri, "greetings", "--body", "hello"}).code, 0);
    server.process.Kill();
    Server again = Dev();
    const Ended seen =
        Run({"tail", "--uri", again.uri, "greetings", "--from-start", "--count", "1"});
    EXPECT_THAT(seen.out, HasSubstr("hello"));
}

TEST_F(QmqProgramTest, AGroupThatAckedSeesNothingTwiceAfterARestart) {
    Server server = Dev();
    ASSERT_EQ(Run({"send", "--uri", server.uri, "greetings", "--body", "one"}).code, 0);
    const std::vector<std::string> tail{
        "tail", "--uri", server.uri, "greetings", "--group", "g", "--from-start", "--count", "1"};
    EXPECT_THAT(Run(tail).out, HasSubstr("one"));
    server.process.Kill();
    Server again = Dev({}, server.port());
    ASSERT_EQ(Run({"send", "--uri", again.uri, "greetings", "--body", "two"}).code, 0);
    EXPECT_THAT(Run(tail).out, HasSubstr("two"));
}

// It was acked, and the program ended with success.
TEST_F(QmqProgramTest, AMessageThatTailCouldNotPrintIsNotAcked) {
    Server server = Dev();
    ASSERT_EQ(Run({"send", "--uri", server.uri, "s", "--body", "precious"}).code, 0);
    const std::string tail = "exec \"$0\" tail --uri \"$1\" s --group g --from-start --count 1";
    const Ended lost = Shell(tail + " >/dev/full", {server.uri});
    EXPECT_EQ(lost.code, 1);
    EXPECT_THAT(lost.err, HasSubstr("standard output cannot be written to"));
    EXPECT_THAT(Shell(tail + " --for-ms 20000", {server.uri}).out, HasSubstr("precious"));
}

// Each of them ended with success.
TEST_F(QmqProgramTest, WhatCannotBePrintedIsAFailure) {
    Server server = Dev();
    for (const char* command : {"broker --describe-config",
                                "--help",
                                "send --uri \"$1\" s --body b",
                                "tools subjects --uri \"$1\""}) {
        const Ended ended =
            Shell("exec \"$0\" " + std::string(command) + " >/dev/full", {server.uri});
        EXPECT_EQ(ended.code, 1) << command;
        EXPECT_THAT(ended.err, HasSubstr("standard output cannot be written to")) << command;
    }
}

// The line that says so found no reader, and the signal of that ended the server before.
TEST_F(QmqProgramTest, AServerWhoseReaderHasGoneStillDrains) {
    const Ended ended = Shell(
        "mkfifo \"$1\"; \"$0\" dev --memory --port 0 >\"$1\" & "
        "grep -m 1 ready <\"$1\"; kill -TERM $!; wait $!",
        {Path("lines")});
    EXPECT_THAT(ended.out, HasSubstr("ready"));
    EXPECT_EQ(ended.code, 0) << ended.err;
}

TEST_F(QmqProgramTest, SigtermDrainsAndSaysSo) {
    Server server = Dev();
    server.process.Signal(SIGTERM);
    const std::string printed = server.process.ReadAll();
    EXPECT_EQ(server.process.Wait(), 0);
    EXPECT_THAT(printed, HasSubstr("SIGTERM: draining"));
    EXPECT_THAT(printed, HasSubstr("drained and closed"));
}

TEST_F(QmqProgramTest, APortThatIsTakenIsNamedWithWhoHasIt) {
    Server server = Dev();
    const Ended second = Run({"dev", "--data", Path("other"), "--port", server.port()});
    EXPECT_EQ(second.code, 1);
    EXPECT_THAT(second.err, HasSubstr(server.port()));
    EXPECT_THAT(second.err, HasSubstr(std::to_string(server.process.pid())));
}

TEST_F(QmqProgramTest, ADirectoryInUseIsRefusedWithTheProcessThatUsesIt) {
    Server server = Dev();
    const Ended second = Run({"dev", "--data", Path("data"), "--port", "0"});
    EXPECT_EQ(second.code, 1);
    EXPECT_THAT(second.err, HasSubstr(Path("data")));
    EXPECT_THAT(second.err, HasSubstr(std::to_string(server.process.pid())));
}

TEST_F(QmqProgramTest, DataMadeWithOtherShardsIsRefusedWithBothNumbers) {
    { Server server = Dev(); }
    const Ended other = Run({"dev", "--data", Path("data"), "--port", "0", "--shards", "2"});
    EXPECT_EQ(other.code, 1);
    EXPECT_THAT(other.err, ContainsRegex("shards"));
    EXPECT_THAT(other.err, HasSubstr("1"));
    EXPECT_THAT(other.err, HasSubstr("2"));
}

TEST_F(QmqProgramTest, AnUnwritableDirectoryIsNamed) {
    std::ofstream(Path("file")) << "not a directory";
    const Ended ended = Run({"dev", "--data", Path("file") + "/data", "--port", "0"});
    EXPECT_EQ(ended.code, 1);
    EXPECT_THAT(ended.err, HasSubstr(Path("file")));
}

TEST_F(QmqProgramTest, AnUnknownKeyStopsTheBrokerAndNamesTheNearest) {
    std::ofstream(Path("broker.properties")) << "store.rot = /tmp\n";
    const Ended ended = Run({"broker", "--config", Path("broker.properties")});
    EXPECT_EQ(ended.code, 2);
    EXPECT_THAT(ended.err,
                HasSubstr("broker.properties:1: store.rot = /tmp: unknown key; the nearest known "
                          "one is store.root"));
}

TEST_F(QmqProgramTest, TheBrokerRunsAsItsConfigurationSays) {
    std::ofstream(Path("broker.properties"))
        << "store.root = " << Path("data")
        << "\ngrpc.port = 0\ndurability.default = page_cache\nwait.slave.wrote = true\n";
    ChildProcess broker = Start({"broker", "--config", Path("broker.properties")});
    const std::string line = broker.WaitForLine("gRPC", 20s).value();
    ASSERT_TRUE(broker.WaitForLine("ready", 20s).ok());
    const Ended sent =
        Run({"send", "--uri", line.substr(line.find("grpc")), "greetings", "--body", "x"});
    EXPECT_THAT(sent.out, HasSubstr("persisted (page_cache)"));
}

TEST_F(QmqProgramTest, ToolsShowSubjectsAndGroupsAndResetAGroup) {
    Server server = Dev();
    ASSERT_EQ(Run({"send", "--uri", server.uri, "greetings", "--body", "one"}).code, 0);
    const std::vector<std::string> tail{
        "tail", "--uri", server.uri, "greetings", "--group", "g", "--from-start", "--count", "1"};
    ASSERT_THAT(Run(tail).out, HasSubstr("one"));
    EXPECT_THAT(Run({"tools", "subjects", "--uri", server.uri}).out, HasSubstr("greetings"));
    EXPECT_THAT(Run({"tools", "groups", "--uri", server.uri, "greetings"}).out,
                ContainsRegex("greetings +g "));
    const Ended reset = Run({"tools", "reset", "--uri", server.uri, "greetings", "g", "earliest"});
    ASSERT_EQ(reset.code, 0) << reset.err;
    EXPECT_THAT(Run(tail).out, HasSubstr("one"));
    EXPECT_EQ(Run({"tools", "reset", "--uri", server.uri, "greetings", "nobody", "earliest"}).code,
              1);
}

TEST_F(QmqProgramTest, ASendWithoutAServerFailsByItsDeadlineAndSaysWhy) {
    const Ended ended = Run(
        {"send", "--uri", "grpc://127.0.0.1:1", "greetings", "--body", "x", "--timeout-ms", "300"});
    EXPECT_EQ(ended.code, 1);
    EXPECT_THAT(ended.err, HasSubstr("refused"));
    EXPECT_THAT(ended.err, HasSubstr("127.0.0.1:1"));
}

TEST_F(QmqProgramTest, BadInputOnTheCommandLineIsExplained) {
    EXPECT_EQ(Run({"send", "--uri", "gopher://x", "greetings"}).code, 2);
    EXPECT_EQ(Run({"send", "a/b", "--body", "x"}).code, 2);
    EXPECT_EQ(Run({"dev", "--durability", "perhaps"}).code, 2);
    EXPECT_EQ(Run({"nonsense"}).code, 2);
    EXPECT_EQ(Run({"--help"}).code, 0);
}

TEST_F(QmqProgramTest, MemoryKeepsNothing) {
    std::filesystem::create_directory(Path("cwd"));
    Server server{Start({"dev", "--memory", "--port", "0", "--data", Path("data")}), ""};
    const std::string line = server.process.WaitForLine("gRPC", 20s).value();
    const Ended sent =
        Run({"send", "--uri", line.substr(line.find("grpc")), "greetings", "--body", "x"});
    EXPECT_THAT(sent.out, HasSubstr("persisted (memory)"));
    EXPECT_FALSE(std::filesystem::exists(Path("data")));
}

TEST_F(QmqProgramTest, LogVerifyFindsADamagedByteAndWhere) {
    {
        Server server = Dev();
        for (int i = 0; i < 3; ++i) {
            ASSERT_EQ(Run({"send",
                           "--uri",
                           server.uri,
                           "greetings",
                           "--body",
                           "message-number-" + std::to_string(i)})
                          .code,
                      0);
        }
        server.process.Signal(SIGTERM);
        server.process.Wait();
    }
    EXPECT_EQ(Run({"log", "verify", Path("data")}).code, 0);
    EXPECT_THAT(Run({"log", "dump", Path("data")}).out, HasSubstr("greetings"));
    bool damaged = false;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(Path("data"))) {
        if (entry.path().extension() != ".log") {
            continue;
        }
        const std::string text = ReadFile(entry.path().string());
        const std::size_t place = text.find("message-number-1");
        if (place != std::string::npos) {
            std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
            file.seekp(static_cast<std::streamoff>(place));
            file.put('M');
            damaged = true;
        }
    }
    ASSERT_TRUE(damaged);
    const Ended verified = Run({"log", "verify", Path("data")});
    EXPECT_EQ(verified.code, 1);
    EXPECT_THAT(verified.out + verified.err, ContainsRegex("crc|checksum"));
    // The server says so too, and serves the rest.
    Server server = Dev();
    const Ended seen =
        Run({"tail", "--uri", server.uri, "greetings", "--from-start", "--count", "2"});
    EXPECT_THAT(seen.out, HasSubstr("message-number-0"));
    EXPECT_THAT(seen.out, HasSubstr("message-number-2"));
}

}  // namespace
}  // namespace qmq
