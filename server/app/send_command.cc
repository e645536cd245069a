#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/app/client_options.h"
#include "server/app/commands.h"

namespace qmq::app {

namespace {

struct SendArguments {
    ClientArguments client;
    std::string subject;
    std::string body;
    bool lines = false;
    std::vector<std::string> properties;
    std::vector<std::string> tags;
    std::string key;
    std::string id;
    std::string durability;
    std::uint32_t timeout_ms = 10'000;
};

Message Prepare(const SendArguments& arguments, std::string body) {
    Message message(arguments.subject);
    for (const std::string& property : arguments.properties) {
        const std::size_t equals = property.find('=');
        if (equals == std::string::npos || equals == 0) {
            Fail(kExitUsage, "--property " + property + ": is not of the form name=value");
        }
        message.Set(property.substr(0, equals), property.substr(equals + 1));
    }
    for (const std::string& tag : arguments.tags) {
        message.AddTag(tag);
    }
    if (!arguments.key.empty()) {
        message.SetOrderingKey(arguments.key);
    }
    if (!arguments.id.empty()) {
        message.SetId(arguments.id);
    }
    message.SetBody(std::move(body));
    if (const Status status = message.Validate(); !status.ok()) {
        Fail(kExitUsage, std::string(status.message()));
    }
    return message;
}

/// Every line of standard input is a body; many are on their way at once.
std::vector<Message> Collect(const SendArguments& arguments) {
    std::vector<Message> messages;
    if (arguments.lines) {
        for (std::string line; std::getline(std::cin, line);) {
            messages.push_back(Prepare(arguments, std::move(line)));
        }
    } else if (arguments.body == "-") {
        messages.push_back(Prepare(arguments,
                                   std::string(std::istreambuf_iterator<char>(std::cin),
                                               std::istreambuf_iterator<char>())));
    } else {
        messages.push_back(Prepare(arguments, arguments.body));
    }
    if (std::ferror(stdin) != 0) {
        Fail(kExitFailed, "standard input cannot be read; nothing was sent");
    }
    return messages;
}

void Run(const SendArguments& arguments) {
    ProducerOptions options;
    options.timeout = std::chrono::milliseconds(arguments.timeout_ms);
    options.when_full = WhenFull::kBlock;
    if (!arguments.durability.empty()) {
        options.durability =
            OrFail(ParseDurability(arguments.durability), kExitUsage, "--durability");
    }
    std::vector<Message> messages = Collect(arguments);
    Client client = MakeClient(arguments.client, "qmq-send");
    Producer producer = OrFail(client.MakeProducer(options), kExitUsage, "cannot make a producer");
    std::vector<SendFuture> futures;
    for (Message& message : messages) {
        futures.push_back(producer.Send(std::move(message)));
    }
    bool all = true;
    for (const SendFuture& future : futures) {
        const SendReceipt receipt = future.Get();
        if (receipt.ok()) {
            std::printf("%s persisted (%s) sequence %llu of %s\n",
                        receipt.message_id.c_str(),
                        std::string(ToString(receipt.durability)).c_str(),
                        static_cast<unsigned long long>(receipt.sequence),
                        receipt.broker_group.c_str());
        } else {
            all = false;
            std::fprintf(stderr,
                         "qmq: %s %s: %s\n",
                         receipt.message_id.empty() ? "message" : receipt.message_id.c_str(),
                         std::string(ToString(receipt.outcome)).c_str(),
                         receipt.status.ToString().c_str());
        }
    }
    (void)client.Shutdown(std::chrono::seconds(1));  // Every send has been answered.
    if (!all) {
        throw CLI::RuntimeError(kExitFailed);
    }
}

}  // namespace

void AddSendCommand(CLI::App& program) {
    auto arguments = std::make_shared<SendArguments>();
    CLI::App* command = program.add_subcommand("send", "Send messages");
    AddClientArguments(*command, arguments->client);
    command->add_option("subject", arguments->subject, "Where to")->required();
    command->add_option("--body", arguments->body, "The body; - reads it from standard input");
    command->add_flag(
        "--lines", arguments->lines, "Send every line of standard input as a message of its own");
    command->add_option("--property", arguments->properties, "name=value; may be repeated");
    command->add_option("--tag", arguments->tags, "A tag; may be repeated");
    command->add_option("--key", arguments->key, "Ordering key");
    command->add_option("--id", arguments->id, "Message id in place of a generated one");
    command->add_option(
        "--durability", arguments->durability, "At least: memory, page_cache or fsync");
    command->add_option("--timeout-ms", arguments->timeout_ms, "How long to wait for the answer")
        ->capture_default_str()
        ->check(CLI::Range(1, 3'600'000));
    command->callback([arguments] { Run(*arguments); });
}

}  // namespace qmq::app
