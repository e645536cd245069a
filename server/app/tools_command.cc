#include <CLI/CLI.hpp>
#include <cstdio>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qmq/executor.h"
#include "qmq/id.h"
#include "qmq/transport.h"

#include "server/app/client_options.h"
#include "server/app/commands.h"
#include "server/app/group_text.h"
#include "server/app/message_text.h"

namespace qmq::app {

namespace {

constexpr std::chrono::seconds kPatience{10};

/// Hands the answer of a callback to the thread that waits for it.
template <typename T>
class Answer {
public:
    UniqueFunction<void(T)> Callback() {
        return [promise = promise_](T value) { promise->set_value(std::move(value)); };
    }
    T Wait(const char* what) {
        std::future<T> future = promise_->get_future();
        if (future.wait_for(kPatience) != std::future_status::ready) {
            Fail(kExitFailed, std::string(what) + ": no answer within 10 s");
        }
        return future.get();
    }

private:
    std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
};

class QuietListener final : public ConnectionListener {
public:
    void OnReady() override {}
    void OnClosed(const Status&) override {}  // Every request is answered with the reason as well.
};

/// A transport without the client above it: one question to every broker group.
class Cluster {
public:
    explicit Cluster(const ClientArguments& arguments) {
        const std::string scheme = arguments.uri.substr(0, arguments.uri.find(':'));
        for (const auto& factory : MakeTransports(arguments)) {
            for (const std::string& known : factory->Schemes()) {
                if (known == scheme) {
                    transport_ = OrFail(
                        factory->Make(arguments.uri, {SystemClock(), timers_, MakeClientId()}),
                        kExitUsage,
                        "cannot connect");
                }
            }
        }
        if (!transport_) {
            Fail(kExitUsage, "--uri " + arguments.uri + ": no transport for \"" + scheme + ":\"");
        }
    }

    std::vector<std::unique_ptr<BrokerConnection>> Connect(const std::string& subject) {
        Answer<Result<Route>> answer;
        DiscoverRequest request;
        request.subject = subject.empty() ? "qmq.tools" : subject;
        request.app_code = "qmq-tools";
        request.client_id = MakeClientId();
        transport_->Discover(request, SystemClock().Now() + kPatience, answer.Callback());
        std::vector<std::unique_ptr<BrokerConnection>> connections;
        const Route route = OrFail(answer.Wait("discovery"), kExitFailed, "discovery");
        for (const BrokerGroup& group : route.groups) {
            connections.push_back(transport_->Connect(group, std::make_shared<QuietListener>()));
        }
        return connections;
    }

private:
    ThreadPool timers_{ThreadPoolOptions{}};
    std::unique_ptr<Transport> transport_;
};

void PrintSubjects(const ClientArguments& arguments) {
    Cluster cluster(arguments);
    std::printf("%-48s %14s %14s %14s  %s\n", "SUBJECT", "OLDEST", "NEXT", "BYTES", "PROMISE");
    for (const auto& connection : cluster.Connect("")) {
        Answer<Result<std::vector<SubjectInfo>>> answer;
        connection->ListSubjects(answer.Callback());
        for (const SubjectInfo& info : OrFail(answer.Wait("subjects"), kExitFailed, "subjects")) {
            std::printf("%-48s %14llu %14llu %14llu  %s\n",
                        Printable(info.subject).c_str(),
                        static_cast<unsigned long long>(info.first_sequence),
                        static_cast<unsigned long long>(info.next_sequence),
                        static_cast<unsigned long long>(info.stored_bytes),
                        std::string(ToString(info.durability)).c_str());
        }
    }
}

void PrintGroups(const ClientArguments& arguments, const std::string& subject) {
    Cluster cluster(arguments);
    std::printf("%s\n", GroupHeading().c_str());
    std::vector<std::string> notes;
    for (const auto& connection : cluster.Connect(subject)) {
        Answer<Result<std::vector<GroupInfo>>> answer;
        connection->ListGroups(subject, answer.Callback());
        for (const GroupInfo& info : OrFail(answer.Wait("groups"), kExitFailed, "groups")) {
            std::printf("%s\n", GroupLine(info).c_str());
            for (std::string& note : GroupNotes(info)) {
                notes.push_back(std::move(note));
            }
        }
    }
    if (!notes.empty()) {
        std::printf("\n");
    }
    for (const std::string& note : notes) {
        std::printf("%s\n", note.c_str());
    }
}

void Reset(const ClientArguments& arguments,
           const std::string& subject,
           const std::string& group,
           const std::string& to) {
    Cluster cluster(arguments);
    const StartPosition position =
        to == "earliest" ? StartPosition::kEarliest : StartPosition::kLatest;
    for (const auto& connection : cluster.Connect(subject)) {
        Answer<Status> answer;
        connection->ResetGroup(subject, group, position, answer.Callback());
        if (const Status status = answer.Wait("reset"); !status.ok()) {
            Fail(kExitFailed, "reset of " + group + " on " + subject + ": " + status.ToString());
        }
    }
    std::printf("group %s on %s now begins at the %s message\n",
                group.c_str(),
                subject.c_str(),
                to == "earliest" ? "earliest kept" : "next");
}

}  // namespace

void AddToolsCommand(CLI::App& program) {
    struct Arguments {
        ClientArguments client;
        std::string subject;
        std::string group;
        std::string to;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* tools = program.add_subcommand("tools", "Look into a cluster, and change it");
    tools->require_subcommand(1);

    CLI::App* subjects =
        tools->add_subcommand("subjects", "Every subject, with what is kept of it");
    AddClientArguments(*subjects, arguments->client);
    subjects->callback([arguments] { PrintSubjects(arguments->client); });

    CLI::App* groups = tools->add_subcommand("groups", "Every consumer group, with its lag");
    AddClientArguments(*groups, arguments->client);
    groups->add_option("subject", arguments->subject, "Only of this subject");
    groups->callback([arguments] { PrintGroups(arguments->client, arguments->subject); });

    CLI::App* reset = tools->add_subcommand(
        "reset", "Move a group to the earliest message that is kept, or to the next one");
    AddClientArguments(*reset, arguments->client);
    reset->add_option("subject", arguments->subject, "The subject")->required();
    reset->add_option("group", arguments->group, "The group")->required();
    reset->add_option("to", arguments->to, "earliest or latest")
        ->required()
        ->check(CLI::IsMember({"earliest", "latest"}));
    reset->callback([arguments] {
        Reset(arguments->client, arguments->subject, arguments->group, arguments->to);
    });
}

}  // namespace qmq::app
